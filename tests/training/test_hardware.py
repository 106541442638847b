import jax
import pytest

from imagen_jax.parallel.mesh import make_mesh
from imagen_jax.training.flops import training_flops
from imagen_jax.training.hardware import (
    PEAK_TFLOPS,
    FlopMeter,
    flop_meter,
    peak_flops,
)
from tests.tiny import tiny_config


@pytest.mark.parametrize(
    ("kind", "dtype", "expected"),
    [
        ("TPU v4", "bfloat16", 275e12),
        ("TPU v4", "float32", 275e12),  # multiplies in bfloat16
        ("TPU v3", "bfloat16", 123e12 / 2),  # two devices are a chip
        ("NVIDIA H200", "bfloat16", 989.5e12),
        ("NVIDIA H200", "float32", 494.5e12),  # TF32
        ("cpu", "float32", None),
        ("NVIDIA H200 MIG 1g.18gb", "bfloat16", None),
    ],
)
def test_peaks(kind, dtype, expected):
    assert peak_flops(kind, dtype) == expected


def test_the_table_holds_dense_figures():
    """Red if a sparse figure, twice the dense, slips in: TF32 is half of bfloat16."""
    for kind, (bfloat16, float32) in PEAK_TFLOPS.items():
        wanted = 1.0 if kind.startswith("TPU") else 2.0
        assert bfloat16 / float32 == pytest.approx(wanted, rel=0.02), kind


def test_metrics():
    meter = FlopMeter(flops_per_picture=3 * 10**12, batch_size=64, peak=4 * 200e12)
    assert meter.metrics(0.5) == {
        "tflops_per_picture": 3.0,
        "flops_per_sec": 384e12,
        "mfu": 0.48,
    }
    assert "mfu" not in meter._replace(peak=None).metrics(0.5)


def test_the_meter_of_a_run(monkeypatch):
    smallest = {"channel_mults": [1], "num_res_blocks": [1], "attention": [False]}
    config = tiny_config(network={"dtype": "bfloat16", **smallest})
    mesh = make_mesh()
    meter = flop_meter(config, mesh)
    assert meter == (training_flops(config), 8, None)  # a CPU has no data-sheet peak
    kind = jax.devices()[0].device_kind
    monkeypatch.setitem(PEAK_TFLOPS, kind, (2.0, 1.0))
    assert flop_meter(config, mesh).peak == 8 * 2e12
