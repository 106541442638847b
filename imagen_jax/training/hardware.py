"""Peak speed of accelerators, and what share of it a run reaches.

The peaks are the makers' data-sheet figures for dense matrix products (NVIDIA's sheets
print twice that, for sparse ones), per device as JAX counts them: a chip, but half a
chip of TPU v2, v3 and 7x. In float32 JAX multiplies by its default precision, which is
TF32 on a GPU and bfloat16 on a TPU, so that is what a float32 network is measured by.
"""

from typing import NamedTuple

from jax.sharding import Mesh

from imagen_jax.config import StageConfig
from imagen_jax.training.flops import training_flops

# jax.Device.device_kind: TFLOP/s of dense products in (bfloat16, float32).
PEAK_TFLOPS = {
    "TPU v2": (23.0, 23.0),
    "TPU v3": (61.5, 61.5),
    "TPU v4": (275.0, 275.0),
    "TPU v5 lite": (197.0, 197.0),
    "TPU v5e": (197.0, 197.0),
    "TPU v5": (459.0, 459.0),
    "TPU v5p": (459.0, 459.0),
    "TPU v6 lite": (918.0, 918.0),
    "TPU v6e": (918.0, 918.0),
    "TPU7x": (1153.5, 1153.5),
    "NVIDIA A10": (125.0, 62.5),
    "NVIDIA A10G": (70.0, 35.0),
    "NVIDIA A30": (165.0, 82.0),
    "NVIDIA A100-PCIE-40GB": (312.0, 156.0),
    "NVIDIA A100-SXM4-40GB": (312.0, 156.0),
    "NVIDIA A100 80GB PCIe": (312.0, 156.0),
    "NVIDIA A100-SXM4-80GB": (312.0, 156.0),
    "NVIDIA L4": (121.0, 60.0),
    "NVIDIA L40S": (362.0, 183.0),
    "NVIDIA GeForce RTX 3090": (71.0, 35.6),
    "NVIDIA GeForce RTX 4090": (165.2, 82.6),
    "NVIDIA H100 PCIe": (756.5, 378.0),
    "NVIDIA H100 NVL": (835.5, 417.5),
    "NVIDIA H100 80GB HBM3": (989.5, 494.5),
    "NVIDIA H200": (989.5, 494.5),
    "NVIDIA H200 NVL": (835.5, 417.5),
    "NVIDIA GH200 480GB": (989.5, 494.5),
    "NVIDIA B200": (2250.0, 1125.0),
}


def peak_flops(device_kind: str, dtype: str) -> float | None:
    """Returns the FLOP/s of one device, or None for a kind that is not in the table.

    Args:
      device_kind: `jax.Device.device_kind`.
      dtype: the network's compute type, "bfloat16" or "float32".
    """
    if device_kind not in PEAK_TFLOPS:
        return None
    return PEAK_TFLOPS[device_kind][("bfloat16", "float32").index(dtype)] * 1e12


class FlopMeter(NamedTuple):
    """Turns the time of a step into model FLOP/s and their share of the peak.

    Attributes:
      flops_per_picture: model FLOPs, see `training_flops`.
      batch_size: pictures per step over all devices.
      peak: FLOP/s of all devices together; None where it is not known.
    """

    flops_per_picture: int
    batch_size: int
    peak: float | None

    def metrics(self, step_sec: float) -> dict[str, float]:
        """Returns "tflops_per_picture", "flops_per_sec" and, with a peak, "mfu".

        Args:
          step_sec: seconds per step, above 0.
        """
        flops_per_sec = self.flops_per_picture * self.batch_size / step_sec
        values = {
            "tflops_per_picture": self.flops_per_picture / 1e12,
            "flops_per_sec": flops_per_sec,
        }
        if self.peak:
            values["mfu"] = flops_per_sec / self.peak
        return values


def flop_meter(config: StageConfig, mesh: Mesh) -> FlopMeter:
    """Returns the meter of a training run.

    Args:
      config: of the stage; its FLOPs are counted here.
      mesh: the devices, all of one kind.
    """
    kind = mesh.devices.flat[0].device_kind
    peak = peak_flops(kind, config.network.dtype)
    return FlopMeter(
        training_flops(config),
        config.train.batch_size,
        peak and peak * mesh.size,
    )
