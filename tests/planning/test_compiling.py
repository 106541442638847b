"""What the compiler says, as far as it can be read without one."""

import pytest

from imagen_jax.errors import UserError
from imagen_jax.planning.compiling import too_large
from imagen_jax.planning.topology import GENERATIONS, find_slice
from imagen_jax.training.hardware import PEAK_TFLOPS


def test_memory_that_is_missing_is_read_from_the_error():
    message = (
        "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for "
        "HLO temporaries (49.92G) exceeds available HBM (15.75G)."
    )
    assert too_large(message) == round(49.92 * 2**30)
    assert too_large("INTERNAL: something else") is None


def test_every_generation_has_a_peak_and_slices():
    for kind, generation in GENERATIONS.items():
        assert generation.device_kind in PEAK_TFLOPS
        for shape in generation.shapes:
            assert find_slice(f"{kind}:{shape}").num_chips >= 1


def test_slices_are_counted():
    assert find_slice("v4:4x4x8").num_chips == 128
    assert find_slice("v5e:16x16", num_slices=2).num_chips == 512
    with pytest.raises(UserError, match="give one of"):
        find_slice("v5e")
