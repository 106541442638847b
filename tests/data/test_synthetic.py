import pickle

import numpy as np
import pytest

from imagen_jax.data.images import decode
from imagen_jax.data.synthetic import COLOURS, SHAPES, SyntheticSource


def test_a_caption_describes_its_picture():
    source = SyntheticSource(num=30, resolution=32, seed=1)
    shapes = set()
    for index in range(len(source)):
        image, caption, name = source[index]
        _, colour, shape, *_, ground, _ = caption.split()
        shapes.add(shape)
        colours, counts = np.unique(
            decode(image).reshape(-1, 3), axis=0, return_counts=True
        )
        assert {tuple(c) for c in colours.tolist()} == {
            COLOURS[colour],
            COLOURS[ground],
        }
        assert counts.min() > 32  # the shape is there, and so is the ground
        assert name == f"synthetic[{index}]"
    assert shapes == set(SHAPES)


def test_a_record_depends_on_seed_and_index_alone():
    source = SyntheticSource(num=4, resolution=16, seed=5)
    assert pickle.loads(pickle.dumps(source))[3] == source[3]
    assert SyntheticSource(num=9, resolution=16, seed=5)[3] == source[3]
    others = [SyntheticSource(num=4, resolution=16, seed=6)[3], source[2]]
    assert all(other.image != source[3].image for other in others)


def test_it_ends():
    source = SyntheticSource(num=2, resolution=16)
    with pytest.raises(IndexError, match="record 2 of 2"):
        source[2]
