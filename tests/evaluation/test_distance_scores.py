"""Distances of a cell: what they are taken of."""

import numpy as np
import pytest

from imagen_jax.errors import UserError
from imagen_jax.evaluation.distance_scores import (
    figure_name,
    score_distances,
)
from imagen_jax.evaluation.real_pictures import write_real_pictures
from imagen_jax.metrics.pictures import open_folder, read_picture
from imagen_jax.metrics.statistics import make_statistics
from tests.evaluation.tiny_extractor import tiny_extractor

PROMPTS = ["a fox on a red background", "a panda on a blue background"]


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    folder = write_real_pictures(tmp_path_factory.mktemp("real"), PROMPTS, 24, 16)
    return open_folder(folder)


def test_real_pictures_are_near_and_others_far(real):
    extractor = tiny_extractor("FID-like (tiny)")
    reference = make_statistics(real, extractor, dataset="d", split="s")
    score = score_distances(extractor, reference)
    pictures = np.stack([read_picture(real, file).pixels for file in real.files])
    same = score({"base": pictures[:, :8, :8], "sr": pictures})
    assert list(same) == ["fid_like", "kid_like_x1000", "kid_like_x1000_se"]
    assert abs(same["fid_like"]) < 1e-3
    assert same["kid_like_x1000"] < 0  # unbiased, and nearer than chance
    noise = np.random.default_rng(0).integers(0, 256, pictures.shape, np.uint8)
    far = score({"sr": noise})
    assert far["fid_like"] > 0.1
    assert far["kid_like_x1000"] > 20 * far["kid_like_x1000_se"]


def test_names_of_figures():
    assert figure_name("FID-like (EfficientNet-Lite0)") == "fid_like"
    assert figure_name("KD-DINOv2") == "kd_dinov2"


def test_a_reference_of_other_weights_is_refused(real):
    reference = make_statistics(real, tiny_extractor(), dataset="d", split="s")
    with pytest.raises(UserError, match="the reference was made with weights_sha256"):
        score_distances(tiny_extractor(weights="1" * 64), reference)


def test_drawings_at_a_size_that_256_is_no_multiple_of_are_refused(tmp_path):
    with pytest.raises(UserError, match="real pictures of 48 pixels cannot be"):
        write_real_pictures(tmp_path, PROMPTS, 1, 48)
