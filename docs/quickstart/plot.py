"""Draws curve.png from the reports beside it: loss and held-out accuracy in training.

Run it by `python docs/quickstart/plot.py`; it needs the extra `notebook`.
"""

import json
from pathlib import Path

import matplotlib.pyplot as plt

HERE = Path(__file__).parent


def main() -> None:
    """Reads seed*.json and writes curve.png."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2))
    for path in sorted(HERE.glob("seed*.json")):
        curve = json.loads(path.read_text())["training_curve"]
        steps = [point["step"] for point in curve]
        left.plot(steps, [point["loss"] for point in curve], label=path.stem)
        accuracy = [point["object_accuracy"] for point in curve]
        right.plot(steps, accuracy, marker="o", label=path.stem)
    left.set(xlabel="step", ylabel="loss of the base stage", yscale="log")
    right.set(xlabel="step", ylabel="object right, 32 held-out previews", ylim=(0, 1))
    right.axhline(1 / 16, color="gray", linestyle=":", label="chance")
    right.legend()
    figure.tight_layout()
    figure.savefig(HERE / "curve.png", dpi=100)


if __name__ == "__main__":
    main()
