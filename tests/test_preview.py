"""Previews on a mesh: the pictures are those that one device makes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from imagen_jax import preview
from imagen_jax.config import MeshConfig
from imagen_jax.data.probe import read_probe
from imagen_jax.data.synthetic import SyntheticSource
from imagen_jax.diffusion.augmentation import to_uint8, to_unit
from imagen_jax.parallel.mesh import make_mesh
from imagen_jax.parallel.sharding import constrain_batch, tree_shardings
from imagen_jax.sampling.sampler import Sampler, sampling_params
from imagen_jax.stage import build_stage
from tests.tiny import tiny_config, tiny_text

COUNT = 3  # does not divide by the devices
SMALLEST = {
    "base": {"channel_mults": [1], "num_res_blocks": [1], "attention": [True]},
    "sr": {},
}


@pytest.mark.parametrize("kind", ["base", "sr"])
def test_previews_are_the_pictures_that_one_device_makes(
    tmp_path, monkeypatch, fill_params, kind
):
    config = tiny_config(kind, preview={"count": COUNT}, network=SMALLEST[kind])
    source = SyntheticSource(10, config.resolution)
    text = tiny_text(COUNT)
    alone = build_stage(config)
    params = fill_params(jax.eval_shape(alone.init_params, jax.random.key(0)), 0)
    probe = read_probe(source, COUNT, config.resolution, config.low_res_resolution)
    low_res = None if kind == "base" else to_unit(jnp.asarray(probe.low_res))
    values = sampling_params(config.sampler, np.arange(COUNT))
    expected = to_uint8(Sampler(alone)(params, text, values, low_res))

    drawn = []
    write_grid = preview.write_grid
    monkeypatch.setattr(
        preview,
        "write_grid",
        lambda path, images, *rest, **named: (
            drawn.extend(images),
            write_grid(path, images, *rest, **named),
        ),
    )
    mesh = make_mesh(MeshConfig(data=2, fsdp=4))
    with jax.set_mesh(mesh):
        show = preview.make_preview(
            build_stage(config, constrain=constrain_batch),
            lambda captions: jax.tree.map(np.asarray, text),
            source,
            tmp_path,
            mesh,
        )
        metrics = show(7, jax.device_put(params, tree_shardings(params, mesh)))
    assert metrics == {}
    difference = np.abs(np.asarray(drawn, int) - np.asarray(expected, int))
    assert difference.max() <= 1
    assert np.ptp(np.asarray(expected, int)) > 50  # not all alike
    with Image.open(tmp_path / "previews" / "step_00000007.png") as grid:
        assert grid.width > COUNT * config.resolution
