"""What an ablation found, as a dict that is JSON as it stands, and as Markdown.

Keys:

  ablation, question, figure: as the table has them; seeds, steps, pictures: as run.
  arms: of each arm, each figure's mean of each seed.
  compared: "first - other" -> figure -> `verdict.compare`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from imagen_jax.ablations.table import Ablation
from imagen_jax.ablations.verdict import compare

Scores = Mapping[str, Float[np.ndarray, "seeds units k"]]
"""By figure; a unit is a prompt with its k pictures, or a logged step."""


def make_ablation_report(
    name: str, ablation: Ablation, scores: Mapping[str, Scores], **about: Any
) -> dict[str, Any]:
    """Returns the report; see the module.

    Args:
      name: of the ablation.
      ablation: the question.
      scores: of each arm, in the table's order; all arms have the same figures.
      about: further keys.
    """
    first, *others = scores
    return {
        "ablation": name,
        "question": ablation.question,
        "figure": ablation.figure,
        **about,
        "arms": {
            arm: {
                figure: values.mean(axis=(1, 2)).tolist()
                for figure, values in figures.items()
            }
            for arm, figures in scores.items()
        },
        "compared": {
            f"{first} - {other}": {
                figure: compare(scores[first][figure], scores[other][figure])
                for figure in scores[first]
            }
            for other in others
        },
    }


def format_ablation(report: Mapping[str, Any]) -> str:
    """Returns the report as Markdown."""
    figures = list(next(iter(report["arms"].values())))
    lines = [report["question"], "", "| arm | " + " | ".join(figures) + " |"]
    lines.append("|---" * (len(figures) + 1) + "|")
    for arm, values in report["arms"].items():
        cells = [" / ".join(f"{v:.4g}" for v in values[name]) for name in figures]
        lines.append(f"| {arm} | " + " | ".join(cells) + " |")
    lines += ["", f"A cell holds one value per seed ({report['seeds']}).", ""]
    lines += ["| difference | of | 95 % interval | seen |", "|---|---|---|---|"]
    for pair, by_figure in report["compared"].items():
        for name, c in by_figure.items():
            marked = f"**{name}**" if name == report["figure"] else name
            lines.append(
                f"| {pair} | {marked} | {c['difference']:+.4g} ({c['low']:+.4g} to "
                f"{c['high']:+.4g}) | {c['seen']} |"
            )
    return "\n".join(lines)
