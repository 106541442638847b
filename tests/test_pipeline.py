"""The one call: what a seed fixes, what a call may change, what is refused.

The tiny cascade runs on 8 virtual devices. Its stages are compiled for each batch size
and mesh, which is most of the time that these tests take.
"""

import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import imagen_jax
from imagen_jax.bundle import write_cascade
from imagen_jax.config import MeshConfig
from imagen_jax.errors import UserError
from imagen_jax.parallel.mesh import make_mesh
from imagen_jax.parallel.sharding import batch_sharding
from imagen_jax.sampling.editing import Editing
from imagen_jax.sampling.noise import INITIAL_NOISE, noise_of
from tests.cascades import LONG, PROMPTS, write_cascade_files

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def files(tmp_path_factory, fill_params):
    folder = write_cascade_files(tmp_path_factory.mktemp("files"), fill_params)
    stages = [str(folder / kind) for kind in ("base", "sr")]
    write_cascade(stages, folder / "bundle", str(folder / "encoder"))
    return folder


@pytest.fixture(scope="module")
def model(files):
    """The cascade on all devices; its remarks are kept in `remarks`."""
    return imagen_jax.load(files / "bundle", say=lambda text: None)


def mesh_of(count):
    return make_mesh(MeshConfig(), jax.devices()[:count])


def assert_alike(a, b):
    """The promise: uint8 values differ by at most 1 on 99.9 % of them."""
    assert a.shape == b.shape
    assert np.mean(np.abs(a.astype(int) - b) <= 1) >= 0.999


def test_one_call_gives_bytes_of_the_last_stage(model):
    pictures = model("the red fox", seeds=[0, 1, 5])
    assert pictures.shape == (3, 16, 16, 3)
    assert pictures.dtype == np.uint8
    assert len({picture.tobytes() for picture in pictures}) == 3


def test_every_stage_is_given_by_its_name(model):
    drawn = model.every_stage(PROMPTS, seeds=3)
    assert list(drawn) == ["base", "sr16"]
    assert drawn["base"].shape == (2, 8, 8, 3)
    np.testing.assert_array_equal(drawn["sr16"], model(PROMPTS, seeds=[3, 4]))


def test_bundle_and_workdirs_are_one_model(model, files):
    apart = imagen_jax.load(files / "base", files / "sr")
    assert apart.model == model.model
    np.testing.assert_array_equal(apart(PROMPTS), model(PROMPTS))


def test_noise_is_bitwise_the_same_in_any_batch_order_and_number_of_devices():
    seeds = np.array([7, 0, 2**32 - 1, 12, 5, 1, 2, 3], np.uint32)
    shape = (8, 8, 3)

    def noise(seeds, mesh):
        placed = jax.device_put(seeds, batch_sharding(mesh))
        draw = jax.jit(lambda seeds: noise_of(seeds, 8)(INITIAL_NOISE, shape))
        return np.asarray(draw(placed))

    whole = noise(seeds, mesh_of(8))
    for count in (1, 2, 4):
        np.testing.assert_array_equal(noise(seeds, mesh_of(count)), whole)
    np.testing.assert_array_equal(noise(seeds[::-1].copy(), mesh_of(8)), whole[::-1])
    for i in range(8):
        np.testing.assert_array_equal(noise(seeds[i : i + 1], mesh_of(1)), whole[[i]])
    assert len({row.tobytes() for row in whole}) == 8


def test_a_prompt_is_embedded_alike_whatever_the_others_are(model):
    def embedded(prompts):
        model.text.forget()
        return model.text(prompts)

    alone = embedded(["the red fox"])
    among = embedded([LONG, "the red fox", "a cat"])
    np.testing.assert_array_equal(alone.embed[0], among.embed[1])
    np.testing.assert_array_equal(alone.mask[0], among.mask[1])


def test_pictures_do_not_depend_on_batch_size_and_order(model):
    prompts = [PROMPTS[i % 2] for i in range(9)]
    seeds = list(range(20, 29))
    whole = model(prompts, seeds=seeds, batch_size=16)
    assert_alike(model(prompts, seeds=seeds, batch_size=8), whole)
    order = np.random.default_rng(0).permutation(9)
    shuffled = model(
        [prompts[i] for i in order], seeds=[seeds[i] for i in order], batch_size=16
    )
    assert_alike(shuffled, whole[order])
    assert_alike(model(prompts[4], seeds=seeds[4]), whole[4:5])


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 1, 1), (2, 2, 2), (1, 8, 1)])
def test_pictures_do_not_depend_on_the_mesh(model, files, shape):
    mesh = make_mesh(MeshConfig(*shape), jax.devices()[: int(np.prod(shape))])
    other = imagen_jax.load(files / "bundle", mesh=mesh)
    prompts = [PROMPTS[i % 2] for i in range(5)]
    assert_alike(other(prompts, seeds=20), model(prompts, seeds=20))


def test_equal_calls_are_bitwise_equal(model):
    np.testing.assert_array_equal(model(PROMPTS, seeds=1), model(PROMPTS, seeds=1))


def test_stages_read_in_turn_draw_the_same(model, files):
    in_turn = imagen_jax.load(files / "bundle", resident=False)
    np.testing.assert_array_equal(in_turn(PROMPTS), model(PROMPTS))


def test_values_do_not_compile_again_and_static_settings_do_once(files):
    model = imagen_jax.load(files / "bundle")
    first = model(PROMPTS)
    assert model.num_traces == 2  # one per stage
    changes = [
        {"guidance": [5, None]},
        {"aug_level": 0.3},
        {"percentile": 90.0},
        {"spacing": ["karras", None]},
        {"guidance_interval": (-2.0, 5.0)},
        {"negative": "a cat"},
        {"seeds": 9},
    ]
    for change in changes:
        assert (model(PROMPTS, **change) != first).any(), change
    model(["the owl"] * 7)  # padded to the same batch
    kinds = [
        model(PROMPTS, guidance=[5, None], guidance_kind=kind, guidance_hold=0.0)
        for kind in ("constant", "oscillating")
    ]
    assert (kinds[0] != kinds[1]).any()
    assert model.num_traces == 2
    model(PROMPTS, sampler="ddim", steps=[4, 3])
    model(PROMPTS, sampler="ddim", steps=[4, 3], guidance=[2, None])
    assert model.num_traces == 4


def test_a_second_prompt_is_blended_in(model):
    plain = model(PROMPTS)
    assert_alike(model(PROMPTS, second="the owl", blend=0.0), plain)
    assert (model(PROMPTS, second="the owl") != plain).mean() > 0.1
    only_one = model(PROMPTS, second=["", "the owl"])
    assert_alike(only_one[:1], plain[:1])
    assert (only_one[1] != plain[1]).mean() > 0.1


def test_an_empty_and_a_long_prompt_are_said_so_once(files):
    said: list[str] = []
    model = imagen_jax.load(files / "bundle", say=said.append)
    pictures = model(["", LONG, "the red fox", ""], seeds=[1, 2, 3, 4])
    assert pictures.shape[0] == 4
    model(["", LONG])
    assert len(said) == 2
    assert sum("is empty" in text and "null text" in text for text in said) == 1
    assert sum("is cut" in text and "8 tokens" in text for text in said) == 1
    assert_alike(model("", seeds=1), model("", seeds=1, guidance=9.0))  # no condition
    assert (model.text([""]).embed == 0).all()
    assert model.text([""]).mask.tolist() == [[True] + [False] * 7]


def test_stage_parts_are_reported(model):
    parts = []
    model(PROMPTS * 5, report=parts.append, batch_size=8)
    assert [(part.stage, part.start, len(part.pictures)) for part in parts] == [
        ("base", 0, 8),
        ("base", 8, 2),
        ("sr16", 0, 8),
        ("sr16", 8, 2),
    ]


def test_a_recipe_repeats_its_picture_bitwise(model):
    """Red where its row or batch is not kept: rounding then differs."""
    plan = model.plan(
        [*PROMPTS, LONG, ""] * 3,
        seeds=range(50, 62),
        negative=["", "the owl"] * 6,
        second="a cat",
        blend=0.3,
        steps=[4, 2],
        sampler="dpmpp_2m",
        guidance_interval=(-3.0, 5.5),
        batch_size=8,
    )
    drawn = model.draw(plan)
    for i, stage in ((0, "base"), (5, "sr16"), (10, "sr16"), (11, "base")):
        recipe = model.recipe(plan, i, stage)
        assert (recipe.batch_size, recipe.row) == (8, i % 8)
        again = model.draw(model.plan_like(recipe))[stage][recipe.row]
        np.testing.assert_array_equal(again, drawn[stage][i])


def test_a_recipe_of_other_devices_or_versions_is_said(model, monkeypatch):
    said: list[str] = []
    monkeypatch.setattr(model, "say", said.append)
    plan = model.plan("the red fox")
    recipe = model.recipe(plan, 0, "sr16")
    model.plan_like(recipe)
    assert said == []
    model.plan_like(recipe._replace(devices="4x1x1 TPU v5e", versions={"jax": "9"}))
    assert len(said) == 2
    assert "4x1x1 TPU v5e" in said[0]
    assert "may differ by rounding" in said[1]


def test_a_recipe_of_another_model_is_refused(model, files, tmp_path):
    tensors = load_file(files / "sr" / "ema.safetensors")
    name = next(iter(tensors))
    tensors[name] = tensors[name] + 1
    (tmp_path / "config.json").write_bytes((files / "sr" / "config.json").read_bytes())
    save_file(tensors, tmp_path / "ema.safetensors")
    other = imagen_jax.load(files / "base", tmp_path)
    recipe = other.recipe(other.plan("the red fox"), 0, "sr16")
    with pytest.raises(UserError, match="another model: sr16 differ"):
        model.plan_like(recipe)


def test_an_edit_goes_through_the_same_call(model):
    picture = np.random.default_rng(0).integers(0, 256, (20, 24, 3), np.uint8)
    options = {"seeds": [4, 5], "steps": 2}
    same = model.edit("the red fox", Editing(picture, strength=0.0), **options)
    fitted = model.fit(Editing(picture)).picture
    np.testing.assert_array_equal(same, np.stack([fitted] * 2))
    plain = model.edit("the red fox", Editing(picture, strength=1.0), **options)
    np.testing.assert_array_equal(plain, model("the red fox", **options))


def test_the_recipe_of_an_edit_says_so_and_is_not_drawn_plainly(model):
    mix = (np.array([9, 9]), np.array([0.0, 0.25], np.float32))
    recipe = model.recipe(
        model.plan("a cat", seeds=[4, 4]), 1, "sr16", Editing(mix=mix)
    )
    assert recipe.edit == {"strength": 1.0, "other_seed": 9, "share": 0.25}
    with pytest.raises(UserError, match="made by an edit"):
        model.plan_like(recipe)


@pytest.mark.parametrize(
    ("prompts", "options", "message"),
    [
        ([], {}, "no picture to draw"),
        ("a fox", {"seeds": []}, "no picture to draw"),
        (PROMPTS, {"seeds": [1]}, "2 prompts and 1 seeds"),
        ("a fox", {"seeds": -1}, r"in \[0, 2\^32\)"),
        ("a fox", {"seeds": [2**32]}, r"in \[0, 2\^32\)"),
        (PROMPTS, {"negative": ["a"]}, "2 pictures and 1 negative prompts"),
        (PROMPTS, {"second": ["a"] * 3}, "2 pictures and 3 second prompts"),
        ("a fox", {"blend": 1.5}, "blend is 1.5"),
        ("a fox", {"blend": float("nan")}, "blend is nan"),
        ("a fox", {"batch_size": 0}, "batch_size is 0"),
        ("a fox", {"steps": 0}, "stage base: sampler.num_steps"),
        ("a fox", {"steps": [2, 2, 2]}, "one, or 2 by commas"),
        ("a fox", {"steps": [3, 200_000]}, "take fewer steps"),
        ("a fox", {"sampler": "euler"}, "sampler.kind is 'euler'; it must be one of"),
        ("a fox", {"guidance": "much"}, "must be of type float"),
        ("a fox", {"aug_level": 2}, "aug_level"),
        ("a fox", {"percentil": 90.0}, "did you mean 'percentile'"),
        ("a fox", {"guidance_interval": [(1.0, 2.0)]}, "one, or 2 by commas"),
    ],
)
def test_what_cannot_be_drawn_is_refused(model, prompts, options, message):
    with pytest.raises(UserError, match=message):
        model.plan(prompts, **options)


def test_folders_without_a_cascade_are_refused(files, tmp_path):
    with pytest.raises(UserError, match="no folder was given"):
        imagen_jax.load()
    with pytest.raises(UserError, match="give the workdir of a training run or a bun"):
        imagen_jax.load(tmp_path)
    with pytest.raises(UserError, match="needs a low-res picture"):
        imagen_jax.load(files / "sr", files / "base")


def test_a_stage_of_another_text_width_is_refused(files, tmp_path, fill_params):
    other = write_cascade_files(tmp_path, fill_params, text={"width": 12})
    with pytest.raises(UserError, match="width 24, not 12"):
        imagen_jax.load(other / "base", other / "sr")
    with pytest.raises(UserError, match=r"different embeddings, text\.width 24 and 12"):
        imagen_jax.load(files / "base", other / "sr")


START = """
import sys
from jax._src import monitoring
counts = {"hits": 0, "misses": 0}
def count(event, **_):
    name = event.rpartition("cache_")[2]
    if event.startswith("/jax/compilation_cache/cache_") and name in counts:
        counts[name] += 1
monitoring.register_event_listener(count)
from imagen_jax.compiled import keep_compiled
keep_compiled()
import imagen_jax
model = imagen_jax.load(sys.argv[1])
print(model("the red fox", steps=2).sum())
print(counts["hits"], counts["misses"])
"""


@pytest.mark.slow
def test_the_second_start_compiles_nothing(files, tmp_path, monkeypatch):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    monkeypatch.delenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS")
    monkeypatch.setenv("IMAGEN_JAX_CACHE", str(tmp_path))
    outputs = []
    for _ in range(2):
        command = [sys.executable, "-c", START, str(files / "bundle")]
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout.split())
    assert int(outputs[0][2]) > 0
    assert int(outputs[1][2]) == 0
    assert int(outputs[1][1]) > 0
    assert outputs[0][0] == outputs[1][0]
