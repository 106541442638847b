"""What a compiled program sends between chips, from the text of its HLO.

Bytes are those that one chip sends, for rings over a group of n chips (and for any
other schedule of the same bandwidth; Chan et al., "Collective communication", 2007):

    all-gather, reduce-scatter, all-to-all    (n - 1) / n of the larger side
    all-reduce                              2 (n - 1) / n of its operand
    collective-permute                        its operand

A TPU program writes a reduce-scatter as a fusion of an all-reduce with the slice that
follows; it counts as what it is. Loops count as often as they run: the compiler writes
down `known_trip_count`, or the loop's condition compares with one constant.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

KINDS = (
    "all-gather",
    "all-reduce",
    "all-to-all",
    "collective-permute",
    "reduce-scatter",
)

_BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s16": 2, "u16": 2}
_BYTES |= {"s32": 4, "u32": 4, "f32": 4, "s64": 8, "u64": 8, "f64": 8}
_ARRAY = re.compile(r"(\w+)\[([\d,]*)\]")
_COMPUTATION = re.compile(r"^(ENTRY )?%(\S+) \(.*\{$")
_INSTRUCTION = re.compile(
    r"^\s+(?:ROOT )?%(?P<name>\S+) = (?P<type>\(.*?\)|\S+) (?P<op>[a-z-]+)\("
)
_CALLS = re.compile(r"(?:calls|body|to_apply|called_computations)=\{?%([\w.-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_CONDITION = re.compile(r" while\(.*condition=%([\w.-]+)")
_CONSTANT = re.compile(r" = s32\[\]\S* constant\((\d+)\)")
_GROUPS = re.compile(r"replica_groups=(?:\{\{([\d,]*)\}|\[\d+,(\d+)\]<=)")
_MESH = re.compile(r"replica_groups=mesh\[([^\]]*)\].*?\{('[^}]*)\}")


class Collective(NamedTuple):
    """One collective of a program.

    Attributes:
      kind: one of `KINDS`.
      result_bytes: size of its result on one chip.
      group_size: chips that take part together.
    """

    kind: str
    result_bytes: int
    group_size: int

    @property
    def sent_bytes(self) -> float:
        """Bytes that one chip sends."""
        n = max(self.group_size, 1)
        share = (n - 1) / n
        match self.kind:
            case "all-reduce":
                return 2 * share * self.result_bytes
            case "reduce-scatter":
                return share * n * self.result_bytes
            case "collective-permute":
                return float(self.result_bytes)
            case _:
                return share * self.result_bytes


class _Computation(NamedTuple):
    collectives: list[Collective]
    calls: list[tuple[str, str]]  # name, how often: a number or a loop's condition
    constants: list[int]


def sent_by_kind(hlo: str) -> dict[str, int]:
    """Returns the bytes that one chip sends in one run, by kind of collective.

    Args:
      hlo: text of a compiled program (`jax.stages.Compiled.as_text`).
    """
    computations, entry = _parse(hlo)
    total: Counter[str] = Counter()

    def add(name: str, times: int) -> None:
        found = computations.get(name)
        if found is None:
            return
        for collective in found.collectives:
            total[collective.kind] += round(times * collective.sent_bytes)
        for callee, count in found.calls:
            add(callee, times * _times(count, computations))

    add(entry, 1)
    return {kind: total[kind] for kind in KINDS}


def _parse(hlo: str) -> tuple[dict[str, _Computation], str]:
    computations: dict[str, _Computation] = {}
    entry = name = ""
    for line in hlo.splitlines():
        if header := _COMPUTATION.match(line):
            name = header[2]
            computations[name] = _Computation([], [], [])
            entry = name if header[1] else entry
        elif (found := _INSTRUCTION.match(line)) and name:
            _add_instruction(name, computations[name], found, line)
    return computations, entry


def _add_instruction(
    name: str, into: _Computation, instruction: re.Match[str], line: str
) -> None:
    """Adds an instruction of the computation `name` to what is known of it."""
    op = instruction["op"]
    kind = op.removesuffix("-start")
    if kind in KINDS:
        size = _result_bytes(instruction["type"], is_start=op.endswith("-start"))
        group = _group_size(line)
        if kind == "all-reduce" and name.startswith("all-reduce-scatter"):
            kind, size = "reduce-scatter", size // group
        into.collectives.append(Collective(kind, size, group))
        return
    if constant := _CONSTANT.search(line):
        into.constants.append(int(constant[1]))
    counted = _TRIPS.search(line) or _CONDITION.search(line)
    times = counted[1] if counted else "1"
    into.calls.extend((callee, times) for callee in _callees(line))


def _times(count: str, computations: dict[str, _Computation]) -> int:
    """Returns how often a loop with that number or condition runs its body."""
    if count.isdecimal():
        return int(count)
    condition = computations.get(count)
    return max(condition.constants, default=1) if condition else 1


def _callees(line: str) -> Iterator[str]:
    yield from _CALLS.findall(line)
    if branches := _BRANCHES.search(line):
        # Of a choice the first stands for all.
        yield branches[1].split(",")[0].strip().removeprefix("%")


def _result_bytes(text: str, *, is_start: bool) -> int:
    sizes = [
        _BYTES.get(dtype, 4) * math.prod(int(d) for d in dims.split(",") if d)
        for dtype, dims in _ARRAY.findall(re.sub(r"\{[^}]*\}", "", text))
    ]
    # The result of a start holds operands and results.
    return max(sizes, default=0) if is_start else sum(sizes)


def _group_size(line: str) -> int:
    """Returns how many chips take part together; three notations are in use."""
    if mesh := _MESH.search(line):
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", mesh[1]))
        # A part of an axis is written 'axis':(2)4, the 4 parts after the first 2.
        axes = re.findall(r"'(\w+)'(?::\(\d+\)(\d+))?", mesh[2])
        return math.prod(int(part or sizes[axis]) for axis, part in axes)
    if groups := _GROUPS.search(line):
        return int(groups[2]) if groups[2] else len(groups[1].split(","))
    return 1
