"""TPU slices by name, such as "v5e:16x16", and their devices without the machine.

libtpu describes any slice of the kinds it knows, and compiles for it. The names are
JAX's (`jax.experimental.topologies`); the memory of a chip is that of Google's data
sheets (cloud.google.com/tpu/docs/system-architecture). The compiler keeps some of it
for itself: 0.25 GiB of 16 on v5e.
"""

import importlib.util
import math
import os
from types import MappingProxyType
from typing import Any, NamedTuple

from imagen_jax.errors import UserError

GIB = 2**30


class Generation(NamedTuple):
    """A kind of TPU whose chips are one device each.

    Attributes:
      device_kind: as JAX names it.
      hbm_gib: memory of a chip.
      shapes: slices that are offered, in chips along each axis.
      options: for libtpu, beside the name.
    """

    device_kind: str
    hbm_gib: int
    shapes: tuple[str, ...]
    options: tuple[tuple[str, str], ...] = ()


_FLAT = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_CUBES = ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8")
GENERATIONS = MappingProxyType(
    {
        # Without "megacore" a chip would be two devices.
        "v4": Generation("TPU v4", 32, _CUBES, (("chip_config_name", "megacore"),)),
        "v5e": Generation("TPU v5 lite", 16, _FLAT),
        "v5p": Generation("TPU v5", 95, _CUBES),
        "v6e": Generation("TPU v6 lite", 32, _FLAT),
    }
)

# libtpu asks the machine what TPU it is; there is none. Read when it is loaded. Two
# processes may compile at once.
ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


class Slice(NamedTuple):
    """Some chips of one kind.

    Attributes:
      name: as given, e.g. "v5e:16x16".
      generation: its kind.
      num_slices: so many of them, joined by the data-center network.
    """

    name: str
    generation: Generation
    num_slices: int = 1

    @property
    def num_chips(self) -> int:
        """Chips in all slices together."""
        sides = self.name.partition(":")[2].split("x")
        return self.num_slices * math.prod(map(int, sides))

    @property
    def hbm_bytes(self) -> int:
        """Memory of one chip."""
        return self.generation.hbm_gib * GIB


def find_slice(name: str, num_slices: int = 1) -> Slice:
    """Returns the slice of that name.

    Raises:
      UserError: there is none; the text lists those there are.
    """
    kind, _, shape = name.partition(":")
    if kind not in GENERATIONS or shape not in GENERATIONS[kind].shapes:
        known = "; ".join(
            f"{kind}:{','.join(generation.shapes)}"
            for kind, generation in GENERATIONS.items()
        )
        raise UserError(f"the topology is {name!r}; give one of {known}")
    return Slice(name, GENERATIONS[kind], num_slices)


def require_compiler() -> None:
    """Raises a UserError unless libtpu is installed."""
    if importlib.util.find_spec("libtpu") is None:
        raise UserError(
            "compiling for a TPU needs the package libtpu; it comes with "
            'pip install "imagen_jax[tpu]" (0.7 GB), or add --nocompile for the '
            "estimates alone"
        )


def open_devices(chips: Slice) -> list[Any]:
    """Returns the devices of a slice that need not exist; programs compile for them.

    Raises:
      UserError: libtpu is not installed, or refuses the slice.
    """
    require_compiler()
    os.environ.update(ENVIRONMENT)
    import jax
    from jax.experimental import topologies

    options: dict[str, Any] = dict(chips.generation.options)
    if chips.num_chips == 1:
        options["chips_per_host_bounds"] = (1, 1, 1)
    if chips.num_slices > 1:
        options["num_slices"] = chips.num_slices
    try:
        found = topologies.get_topology_desc(chips.name, platform="tpu", **options)
    except jax.errors.JaxRuntimeError as error:
        raise UserError(f"libtpu refuses the topology {chips.name}: {error}") from error
    return list(found.devices)
