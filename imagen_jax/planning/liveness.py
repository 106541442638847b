"""How many bytes a program holds at once, from its jaxpr and nothing else.

The equations are taken in the order in which they were traced, which is that in which a
forward and a backward pass run. A value takes memory from the equation that makes it
to the last one that reads it. What XLA fuses takes none:

- element-wise work, reshapes and casts are computed where they are read, so what lives
  on instead is what they are computed from;
- unless the reader is a matrix product, convolution, loop or output, which reads its
  operands from memory. A sum or concatenation reads through.

A `scan` holds, beside its stacked outputs, the peak of one round of its body. With
`network.remat` the jaxpr itself holds the recomputation, so nothing more is needed.

This is a model of XLA's buffer assignment, not the assignment: layouts may pad, fusions
may be larger or smaller, the scheduler may move equations. `python -m imagen_jax.plan`
prints it beside the compiler's figure, and docs/plan/ says how far they are apart.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

# Read their operands from memory; all other equations are fused with what they read.
_READ_MEMORY = {"conv_general_dilated", "dot_general", "scan", "while", "sort"}
# Their results are written to memory, but operands may be fused into them.
_WRITE_MEMORY = {
    "add_any",  # sums of gradients, each from another part of the program
    "argmax",
    "concatenate",
    "cumsum",
    "gather",
    "random_bits",
    "reduce_max",
    "reduce_min",
    "reduce_sum",
    "rev",
    "scatter-add",
    "stack",
}

SizeFn = Callable[[int], int | None]


class Op(NamedTuple):
    """One equation after inlining.

    Attributes:
      reads: numbers of the values it reads.
      writes: numbers of the values it makes.
      reads_memory: whether what it reads must be in memory.
      writes_memory: whether what it makes is written to memory in any case.
      inside: bytes that it holds itself while it runs.
    """

    reads: tuple[int, ...]
    writes: tuple[int, ...]
    reads_memory: bool
    writes_memory: bool
    inside: int


class Program:
    """A jaxpr as a flat list of `Op`s over numbered values."""

    def __init__(
        self,
        jaxpr: Jaxpr,
        free_inputs: int,
        output_bytes: dict[int, int],
        gathers: bool = False,
    ):
        """Flattens the jaxpr.

        Args:
          jaxpr: of a function of one device's part of the data.
          free_inputs: so many of the first inputs take no memory here, because the
            caller counts them.
          output_bytes: bytes of the outputs at these positions, where the caller knows
            better than their shapes: a gradient that is left in parts.
          gathers: the free inputs are held in parts and gathered where they are read.
            libtpu gathers them before they are cast, so a kernel that is cast to the
            compute type counts in its own; in loops it gathers what was cast.
        """
        self.gathers = gathers
        self.elements: list[int] = []
        self.ops: list[Op] = []
        self.bytes: list[int] = []
        inputs = [self._new(v.aval) for v in jaxpr.invars]
        for value in inputs[:free_inputs]:
            self.bytes[value] = 0
        self.inputs = inputs
        self.parts = set(inputs[:free_inputs])
        self.outputs = self._inline(jaxpr, inputs)
        for position, size in output_bytes.items():
            value = self.outputs[position]
            others = enumerate(self.outputs)
            if all(i in output_bytes for i, other in others if other == value):
                self.bytes[value] = size

    def _new(self, aval: Any) -> int:
        size = getattr(aval, "size", 0)
        self.elements.append(size)
        dtype = getattr(aval, "dtype", None)
        is_key = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
        self.bytes.append(size * 8 if is_key else size * getattr(dtype, "itemsize", 0))
        return len(self.bytes) - 1

    def _inline(self, jaxpr: Jaxpr, inputs: list[int]) -> list[int]:
        env = dict(zip(jaxpr.invars, inputs, strict=True))
        for constant in jaxpr.constvars:
            env[constant] = self._new(constant.aval)

        def read(atoms: Iterable[Any]) -> list[int]:
            return [
                self._new(None) if isinstance(a, Literal) else env[a] for a in atoms
            ]

        for equation in jaxpr.eqns:
            reads = read(equation.invars)
            name = equation.primitive.name
            called = _called(name, equation.params)
            if called is not None:
                inner, skipped = called
                writes = self._inline(inner, reads[skipped:])
            else:
                writes = [self._new(v.aval) for v in equation.outvars]
                inside = _scan_bytes(equation.params) if name == "scan" else 0
                heavy = name in _READ_MEMORY
                self.ops.append(
                    Op(
                        tuple(reads),
                        tuple(writes),
                        heavy,
                        heavy or name in _WRITE_MEMORY,
                        inside,
                    )
                )
            env.update(zip(equation.outvars, writes, strict=True))
        return read(jaxpr.outvars)

    def in_memory(self) -> list[bool]:
        """Returns for each value whether it takes memory of its own."""
        made_by_fusion = {
            v for op in self.ops if not op.writes_memory for v in op.writes
        }
        held = [v not in made_by_fusion for v in range(len(self.bytes))]
        for op in self.ops:
            if op.reads_memory:
                for value in op.reads:
                    held[value] = True
        for value in self.outputs:
            held[value] = True
        return held

    def peak(self) -> int:
        """Returns the largest sum of bytes held at once."""
        held = self.in_memory()
        sources: list[frozenset[int]] = [frozenset([v]) for v in range(len(self.bytes))]
        last_read: dict[int, int] = {}
        born: list[list[int]] = []
        for time, op in enumerate(self.ops):
            read = frozenset().union(*(sources[v] for v in op.reads))
            for value in read:
                last_read[value] = time
            for value in op.writes:
                if not held[value]:
                    sources[value] = read
            born.append([v for v in op.writes if held[v]])
            if self.gathers and len(read) == 1 and read <= self.parts:
                self._count_whole(born[time], *read)
        end = len(self.ops)
        for value in self.outputs:
            for source in sources[value]:
                last_read[source] = end
        return self._sweep(born, last_read)

    def _count_whole(self, values: list[int], part: int) -> None:
        """Counts casts of a float32 kernel in float32."""
        for value in values:
            if self.elements[value] == self.elements[part]:
                self.bytes[value] = max(self.bytes[value], 4 * self.elements[part])

    def _sweep(self, born: list[list[int]], last_read: dict[int, int]) -> int:
        dies: dict[int, list[int]] = {}
        for value, time in last_read.items():
            dies.setdefault(time, []).append(value)
        live = sum(self.bytes[v] for v in self.inputs)
        peak = live
        for time, op in enumerate(self.ops):
            live += sum(self.bytes[v] for v in born[time])
            peak = max(peak, live + op.inside)
            unread = [v for v in born[time] if v not in last_read]
            gone = set(dies.get(time, ())) | set(unread)
            live -= sum(self.bytes[v] for v in gone if v not in self.inputs)
        return peak


def _called(name: str, params: dict[str, Any]) -> tuple[Jaxpr, int] | None:
    """Returns the program that an equation runs once, and how many operands it skips.

    Of a choice between platforms, the one that is not the CPU's.
    """
    if name in ("scan", "while"):
        return None
    if name == "cond":
        return params["branches"][-1].jaxpr, 1
    for key in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
        inner = params.get(key)
        if isinstance(inner, ClosedJaxpr):
            return inner.jaxpr, 0
        if isinstance(inner, Jaxpr):
            return inner, 0
    return None


def _scan_bytes(params: dict[str, Any]) -> int:
    """Returns the peak of a round, without what goes in and what is stacked."""
    body: Jaxpr = params["jaxpr"].jaxpr
    stacked = range(params["num_carry"], len(body.outvars))
    program = Program(body, len(body.invars), {i: 0 for i in stacked})
    return program.peak()
