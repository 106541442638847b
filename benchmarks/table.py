"""Prints a race's results as a Markdown table.

    python benchmarks/table.py benchmarks/results/race.jsonl

CPU s is the median over the rounds of the CPU seconds of one step, over all threads.
The two ratios are to imagen-pytorch at the same task and precision, below 1 is faster:
of that time, and of that time per counted FLOP. Cores is CPU over wall seconds: above
1, more than one thread computed; below 1, the machine was busy with something else.
"""

import json
import sys
from pathlib import Path

COLUMNS = (
    "step",
    "precision",
    "library",
    "M params",
    "GFLOP",
    "CPU s",
    "GFLOP per CPU s",
    "peak RSS MB",
    "cores",
    "time ratio",
    "time per FLOP ratio",
)
REFERENCE = "imagen-pytorch"


def rows(results: list[dict]) -> list[list[str]]:
    """Returns the table's cells, one row per result.

    Args:
      results: what `peers/pair.py` printed, one object per worker.
    """

    def race(result: dict) -> tuple[str, str, str]:
        return result["model"], result["task"], result["dtype"]

    reference = {race(r): r for r in results if r["lib"] == REFERENCE}
    cells = []
    for r in results:
        seconds, gflop = r["median_cpu_s"], r["flops_per_step"] / 1e9
        ratio = per_flop = "-"  # where the reference failed to run
        if other := reference.get(race(r)):
            quotient = seconds / other["median_cpu_s"]
            ratio = f"{quotient:.2f}"
            per_flop = f"{quotient * other['flops_per_step'] / r['flops_per_step']:.2f}"
        cells.append(
            [
                f"{r['model']} {r['task']}",
                r["dtype"],
                r["lib"],
                f"{r['params'] / 1e6:.1f}",
                f"{gflop:.0f}",
                f"{seconds:.2f}",
                f"{gflop / seconds:.0f}",
                str(r["peak_rss_mb"]),
                f"{seconds / r['median_step_s']:.2f}",
                ratio,
                per_flop,
            ]
        )
    return cells


def main() -> None:
    """Reads the file named on the command line."""
    lines = Path(sys.argv[1]).read_text().splitlines()
    table = [COLUMNS, ["---"] * len(COLUMNS), *rows([json.loads(s) for s in lines])]
    for cells in table:
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
