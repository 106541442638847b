"""A full device: the sentence names the stage and the amount."""

import jax
import jax.numpy as jnp
import pytest

from imagen_jax import loading
from imagen_jax.errors import UserError
from imagen_jax.parallel.mesh import make_mesh
from imagen_jax.sampling.room import naming_the_stage

XLA = jax.errors.JaxRuntimeError


def test_what_does_not_fit_is_named():
    """A real refusal of the CPU backend: 281 TB."""
    with (
        pytest.raises(UserError, match=r"stage sr1024 .* for 281475\.0 GB; .*than 8,"),
        naming_the_stage("sr1024", 8),
    ):
        jnp.zeros((2**22, 2**24)).block_until_ready()


@pytest.mark.parametrize(
    ("words", "amount"),
    [
        ("Out of memory while trying to allocate 1.50GiB.", " for 1.50GiB;"),
        ("Ran out of memory in memory space hbm. Used 20.1G of 15.7G", " for 20.1G;"),
        ("something else", "on the device; "),
    ],
)
def test_amounts_as_other_backends_write_them(words, amount):
    with (
        pytest.raises(UserError, match="stage base found no room") as caught,
        naming_the_stage("base", 1),
    ):
        raise XLA(f"RESOURCE_EXHAUSTED: {words}")
    assert amount in str(caught.value)
    assert "than 1" not in str(caught.value)


def test_other_errors_stay_what_they_are():
    with pytest.raises(XLA, match="INTERNAL"), naming_the_stage("base", 1):
        raise XLA("INTERNAL: a bug")


def test_a_stage_that_does_not_fit_when_it_is_loaded_is_named(monkeypatch):
    def load_stage(*args, **kwargs):
        raise XLA("RESOURCE_EXHAUSTED: Out of memory allocating 8000000000 bytes.")

    monkeypatch.setattr(loading, "load_stage", load_stage)
    mesh = make_mesh(devices=jax.devices()[:1])
    with pytest.raises(UserError, match=r"stage base .* for 8\.0 GB; .*--in_turn"):
        loading._open_stage(loading.DEMO / "base", mesh, resident=True)
