"""Statistics of folders, their files, and all figures of two of them."""

import json

import numpy as np
import pytest
from PIL import Image

from imagen_jax.errors import UserError
from imagen_jax.features.resize import resize
from imagen_jax.metrics.comparison import compare
from imagen_jax.metrics.frechet import frechet_distance
from imagen_jax.metrics.kernel_distance import kernel_distance
from imagen_jax.metrics.moments import Gaussian
from imagen_jax.metrics.pictures import open_folder
from imagen_jax.metrics.statistics import (
    make_statistics,
    read_statistics,
    write_statistics,
)


@pytest.fixture
def describe(extractor):
    def make(folder, square=None, **settings):
        settings = {"dataset": "noise", "split": "val", "batch_size": 5} | settings
        return make_statistics(open_folder(folder, square), extractor, **settings)

    return make


def features_of(folder):
    rows = []
    for path in sorted(folder.glob("*.png")):
        small = resize(np.asarray(Image.open(path)), 8) / 255
        rows.append(small.mean(axis=1).reshape(-1))
    return np.array(rows)


def test_statistics_are_those_of_the_pictures_in_order(write_folder, describe):
    """21 pictures in batches of 8: the last one is filled up, and must not count."""
    folder = write_folder("a", 21)
    expected = features_of(folder)
    found = describe(folder)
    np.testing.assert_allclose(found.features, expected, atol=1e-6)
    np.testing.assert_allclose(found.gaussian.mean, expected.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(
        found.gaussian.covariance, np.cov(expected.T), rtol=0, atol=1e-7
    )
    assert found.log_probs.shape == (21, 5)
    assert found.manifest["features"] == {"count": 21, "of": 21, "seed": 0}
    part = describe(folder, keep=6, seed=3)
    assert part.manifest["features"] == {"count": 6, "of": 21, "seed": 3}
    rows = np.sort(np.random.default_rng(3).permutation(21)[:6])
    np.testing.assert_array_equal(part.features, found.features[rows])
    np.testing.assert_array_equal(part.gaussian.mean, found.gaussian.mean)


def test_a_file_holds_all_of_it(tmp_path, write_folder, describe):
    made = describe(write_folder("a", 12))
    path = tmp_path / "folder" / "a.npz"
    write_statistics(path, made)
    read = read_statistics(path)
    assert read.manifest == made.manifest == json.loads(json.dumps(made.manifest))
    assert read.manifest["dataset"] == "noise"
    assert read.manifest["split"] == "val"
    for ours, theirs in zip(read.gaussian, made.gaussian, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(read.features, made.features)
    np.testing.assert_array_equal(read.log_probs, made.log_probs)
    assert [p.name for p in path.parent.iterdir()] == ["a.npz"]


def change(path, **arrays):
    with np.load(path) as stored:
        arrays = dict(stored) | arrays
    np.savez(path, allow_pickle=False, **arrays)


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (lambda p: p.unlink(), "there is no reference .*evaluate statistics"),
        (lambda p: p.write_bytes(p.read_bytes()[:900]), "cannot read"),
        (lambda p: p.write_text("mean"), "cannot read"),
        (lambda p: np.savez(p, mu=np.zeros(3)), r"cannot read .*\(KeyError\)"),
        (lambda p: change(p, mean=np.zeros(24)), "is not as it was written"),
    ],
)
def test_files_that_are_not_as_they_were(tmp_path, write_folder, describe, spoil, text):
    path = tmp_path / "a.npz"
    write_statistics(path, describe(write_folder("a", 3)))
    spoil(path)
    with pytest.raises(UserError, match=text):
        read_statistics(path)


def test_the_figures_are_those_of_their_definitions(write_folder, describe, extractor):
    folders = write_folder("made", 40, seed=1, mean=140), write_folder("real", 50)
    made, real = (describe(folder) for folder in folders)
    result = compare(made, real, extractor)
    rows = [features_of(folder) for folder in folders]
    expected = frechet_distance(
        *(Gaussian(r.mean(axis=0), np.cov(r, rowvar=False), len(r)) for r in rows)
    )
    assert result["features"] == "rows"
    assert result["frechet"]["name"] == "distance of rows"
    np.testing.assert_allclose(result["frechet"]["value"], expected, rtol=1e-4)
    kernel = kernel_distance(made.features, real.features)
    assert result["kernel"] == {"name": "kernel of rows", **kernel._asdict()}
    assert result["precision_recall"]["count"] == 40
    assert 1 <= result["inception_score"]["value"] < 1.1
    assert result["generated"] == made.manifest
    assert result["reference"] == real.manifest
    json.dumps(result, allow_nan=False)


def found_warnings(describe, extractor, made, real, **settings):
    pair = [describe(folder, **settings) for folder in (made, real)]
    return "\n".join(compare(*pair, extractor)["warnings"])


def test_warnings_are_in_the_result(write_folder, describe, extractor):
    made, real = write_folder("made", 10, size=(20, 20)), write_folder("real", 30)
    for path in list(real.glob("*.png")):
        Image.open(path).save(path.with_suffix(".jpg"))
        path.unlink()
    (made / "copy.png").write_bytes((made / "0000.png").read_bytes())
    text = found_warnings(describe, extractor, made, real)
    assert "generated: 11 pictures, at least 25 are needed" in text
    assert "biased upwards" in text
    assert "reference: 30 pictures, published figures have at least 10000" in text
    assert "generated: features of 11 pictures, fewer than the 1000" in text
    assert "1 of 11 pictures are copies" in text
    assert "(PNG) and reference (JPEG) have other file formats" in text
    assert "(20x20) and reference (16x16) differ in size" in text
    assert "differ in size" not in found_warnings(
        describe, extractor, made, real, square=8
    )
    assert "are the same files" in found_warnings(describe, extractor, made, made)


def test_few_pictures_have_no_manifolds(write_folder, describe, extractor):
    made, real = (describe(write_folder(n, 3, seed=i)) for i, n in enumerate("ab"))
    result = compare(made, real, extractor)
    assert result["precision_recall"] is None
    assert result["inception_score"]["num_splits"] == 3
    with pytest.raises(UserError, match=r"has 1 picture; give at least 2.* than 24"):
        describe(write_folder("one", 1))


@pytest.mark.parametrize("key", ["name", "weights_sha256", "input_size", "resize"])
def test_refuses_another_way_to_make_features(write_folder, describe, extractor, key):
    made = describe(write_folder("a", 3))
    other = made.manifest["extractor"] | {key: "another"}
    real = made._replace(manifest=made.manifest | {"extractor": other})
    with pytest.raises(UserError, match=f"made with {key} 'another' instead of"):
        compare(made, real, extractor)
