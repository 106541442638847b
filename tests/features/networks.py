"""Random weights and pictures for networks that read torch's names."""

import numpy as np


def random_tensors(leaves, seed=0):
    """Returns a tensor for each of the leaves' names, as torch would store them.

    Nothing is zero or one, and activations keep their size from layer to layer.
    """
    rng = np.random.default_rng(seed)
    tensors = {}
    for leaf in leaves:
        for name in leaf.names:
            values = rng.standard_normal(leaf.shape).astype(np.float32)
            if leaf.path.endswith("/variance"):
                values = 1 + 0.2 * np.abs(values)
            elif leaf.path.endswith(("/scale", "_scale")):
                values = 1 + 0.1 * values
            elif len(leaf.shape) < 2:
                values = 0.1 * values
            else:
                fan_in = np.prod(leaf.shape[1:])
                values = values * np.float32((2 / fan_in) ** 0.5)
            tensors[name] = values.astype(np.float32)
    return tensors


def random_pictures(count, height, width, seed=0):
    """Returns uint8 pictures of coarse and fine structure."""
    rng = np.random.default_rng(seed)
    shape = (count, -(-height // 8), -(-width // 8), 3)
    coarse = rng.integers(0, 256, shape).repeat(8, 1).repeat(8, 2)
    coarse = coarse[:, :height, :width]
    fine = rng.integers(-40, 41, coarse.shape)
    return np.clip(coarse + fine, 0, 255).astype(np.uint8)
