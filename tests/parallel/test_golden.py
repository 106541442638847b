"""Layouts and collectives are those written down; see `tests.parallel.golden`."""

import math
import os

import jax
import pytest

from imagen_jax.parallel import sharding
from tests.parallel import golden

AGAIN = "if it is meant to change: python -m tests.parallel.golden"


@pytest.mark.parametrize("name", golden.CONFIGS)
def test_every_parameter_lives_where_it_is_written_down(name):
    expected = (golden.FOLDER / f"{name}.txt").read_text()
    assert golden.layout(name) == expected, AGAIN


def test_a_changed_rule_shows(monkeypatch):
    monkeypatch.setattr(sharding, "MIN_FSDP_SIZE", 2**30)
    expected = (golden.FOLDER / "imagen_sr256_600m.txt").read_text()
    assert golden.layout("imagen_sr256_600m") != expected


def test_large_parameters_are_split_over_all_of_fsdp():
    for name in ("imagen_64_2b", "imagen_sr256_600m", "imagen_sr1024_400m"):
        lines = (golden.FOLDER / f"{name}.txt").read_text().splitlines()[1:]
        assert len(lines) > 100
        for line in lines:
            shape = line[line.index("(") + 1 : line.index(")")]
            sizes = [int(size) for size in shape.split(",") if size.strip()]
            if math.prod(sizes) >= sharding.MIN_FSDP_SIZE and len(sizes) > 1:
                assert "fsdp" in line, line


@pytest.mark.slow
@pytest.mark.skipif(
    os.environ.get("IMAGEN_JAX_TEST_GPU") is not None, reason="counted on CPUs"
)
def test_a_step_communicates_what_is_written_down():
    expected = (golden.FOLDER / "collectives.txt").read_text()
    if expected.splitlines()[0] != f"jax {jax.__version__}":
        pytest.skip(f"counted under {expected.splitlines()[0]}")
    assert golden.all_collectives() == expected, AGAIN
