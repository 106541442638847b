"""CLIP against the transformers library, with random weights carried over."""

import json

import jax
import numpy as np
import pytest

from imagen_jax.errors import UserError
from imagen_jax.features.clip import open_clip
from imagen_jax.features.clip_config import read_preparation
from imagen_jax.parallel.mesh import make_mesh
from tests.features.tiny_clip import TEXTS, write_clip

PICTURES = [
    np.random.default_rng(i).integers(0, 256, shape, np.uint8)
    for i, shape in enumerate([(32, 32, 3), (47, 90, 3), (100, 33, 3), (20, 21, 3)])
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """(transformers' model, folder with its files)"""
    folder = tmp_path_factory.mktemp("clip")
    return write_clip(folder), folder


def test_both_towers_and_the_preparation_agree_with_transformers(whole):
    torch = pytest.importorskip("torch")
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    model, folder = whole
    clip = open_clip(str(folder), make_mesh(devices=jax.devices()[:1]))
    size = {"shortest_edge": 32}
    processor = CLIPImageProcessorPil(size=size, crop_size={"height": 32, "width": 32})
    pixels = processor(PICTURES, return_tensors="pt")["pixel_values"]
    prepared = np.stack([clip.prepare(picture) for picture in PICTURES])
    np.testing.assert_allclose(prepared.transpose(0, 3, 1, 2), pixels, atol=1e-5)
    rows = [[2, *range(4, 4 + k), 3] for k in (1, 3, 5)]
    ids = torch.tensor([row + [0] * (7 - len(row)) for row in rows])
    with torch.no_grad():
        out = model(input_ids=ids, pixel_values=pixels)
    ours = clip.embed_pictures(prepared)
    np.testing.assert_allclose(ours, out.image_embeds, atol=1e-5)
    texts = clip.embed_texts(TEXTS)
    np.testing.assert_allclose(texts, out.text_embeds, atol=1e-5)
    scale = np.exp(model.logit_scale.item())
    np.testing.assert_allclose(
        scale * ours @ texts.T, out.logits_per_image, atol=1e-4 * scale
    )


def test_devices_change_nothing(whole):
    _, folder = whole
    clips = [
        open_clip(str(folder), make_mesh(devices=jax.devices()[:n])) for n in (1, 8)
    ]
    assert [clip.multiple for clip in clips] == [1, 8]
    batch = np.stack([clips[0].prepare(picture) for picture in PICTURES * 2])
    one, eight = (clip.embed_pictures(batch) for clip in clips)
    np.testing.assert_allclose(one, eight, atol=1e-6)


def test_what_is_used_is_named(whole):
    _, folder = whole
    clip = open_clip(str(folder))
    assert clip.identity["name"] == "CLIP ViT, width 32, 2 layers, patches of 8"
    assert len(clip.identity["weights_sha256"]) == 64
    assert clip.num_truncated() == 0
    clip.embed_texts(["the fox owl cat " * 20])
    assert clip.num_truncated() == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda keys: keys.pop("vision_config"), "no vision_config"),
        (
            lambda keys: keys["vision_config"].update(patch_size=7),
            "must divide",
        ),
        (lambda keys: keys["vision_config"].update(hidden_act="relu"), "'relu'"),
        (lambda keys: keys["vision_config"].update(hidden_size=40), "has the shape"),
        (lambda keys: keys.pop("projection_dim"), "projection_dim"),
    ],
)
def test_another_network_is_refused(whole, tmp_path, change, words):
    _, folder = whole
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    keys = json.loads((folder / "config.json").read_text())
    change(keys)
    (tmp_path / "config.json").write_text(json.dumps(keys))
    with pytest.raises(UserError, match=words):
        open_clip(str(tmp_path))


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"size": 64}, "shorter side becomes 64"),
        ({"crop_size": {"height": 30, "width": 30}}, "the crop 30 pixels"),
        ({"do_center_crop": False}, "crop of the centre"),
        ({"resample": 2}, "bicubic"),
        ({"image_mean": "x"}, "cannot be read"),
        ([], "cannot be read"),
    ],
)
def test_another_preparation_is_refused(tmp_path, keys, words):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(keys))
    with pytest.raises(UserError, match=words):
        read_preparation(tmp_path, 32)


def test_an_empty_text_is_refused(whole):
    _, folder = whole
    with pytest.raises(UserError, match="text 2 of 2 is empty"):
        open_clip(str(folder)).embed_texts(["the fox", " "])
