"""The predictions on the way: the last is the picture, the first is the network's."""

import numpy as np
import pytest

import imagen_jax
from imagen_jax.errors import UserError
from imagen_jax.trajectory import predictions
from tests.cascades import write_cascade_files


@pytest.fixture(scope="module")
def folder(tmp_path_factory, fill_params):
    return write_cascade_files(tmp_path_factory.mktemp("files"), fill_params)


@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "dpmpp_2m"])
def test_the_last_prediction_is_the_picture(folder, sampler):
    model = imagen_jax.load(folder / "base", say=lambda text: None)
    options = {"seeds": 4, "guidance": 2, "sampler": sampler}
    first, last = predictions(model, "the red fox", 3, [1, 3], **options)
    whole = model("the red fox", steps=3, **options)[0]
    assert np.abs(last.astype(int) - whole).max() <= 1
    assert np.mean(first != last) > 0.5


def test_the_first_prediction_depends_on_the_whole_only_by_its_noise(folder):
    """Red where the steps of another sampling are taken."""
    model = imagen_jax.load(folder / "base", say=lambda text: None)
    short = predictions(model, "the red fox", 2, [1], seeds=4)
    long = predictions(model, "the red fox", 8, [1, 2], seeds=4)
    np.testing.assert_array_equal(short[0], long[0])
    whole = model("the red fox", steps=2, seeds=4)[0]
    assert np.mean(long[1] != whole) > 0.5  # step 2 of 8 lies elsewhere than 2 of 2


@pytest.mark.parametrize("at", [[], [0], [4], [1, 9]])
def test_steps_that_are_not_there_are_refused(folder, at):
    model = imagen_jax.load(folder / "base", say=lambda text: None)
    with pytest.raises(UserError, match=r"give some of 1\.\.3"):
        predictions(model, "the red fox", 3, at)


def test_a_whole_cascade_is_refused(folder):
    model = imagen_jax.load(folder / "base", folder / "sr", say=lambda text: None)
    with pytest.raises(UserError, match="base, sr16; load the base alone"):
        predictions(model, "the red fox", 3, [1])
