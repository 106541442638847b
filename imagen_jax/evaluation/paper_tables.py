"""The paper's Table 1 with one row more: FID-30K on COCO at 256 x 256.

The figures are printed in arXiv:2205.11487, Table 1. A row of one's own stands among
them only if it is a FID of Inception features. What else it is (another count,
resolution or data set) stands in notes below the table.
"""

from collections.abc import Sequence
from typing import NamedTuple

COUNT = 30_000
RESOLUTION = 256
MARK = ">"  # before the new row


class Row(NamedTuple):
    """A line of the table.

    Attributes:
      model: its name.
      fid: less is better.
      zero_shot: whether it was not trained on COCO.
      new: whether it is not the paper's.
    """

    model: str
    fid: float
    zero_shot: bool
    new: bool = False


_TRAINED = {
    "AttnGAN": 35.49,
    "DM-GAN": 32.64,
    "DF-GAN": 21.42,
    "DM-GAN + CL": 20.79,
    "XMC-GAN": 9.33,
    "LAFITE": 8.12,
    "Make-A-Scene": 7.55,
}
_ZERO_SHOT = {
    "DALL-E": 17.89,
    "LAFITE": 26.94,
    "GLIDE": 12.24,
    "DALL-E 2": 10.39,
    "Imagen": 7.27,
}
TABLE_1 = (
    *(Row(model, fid, zero_shot=False) for model, fid in _TRAINED.items()),
    *(Row(model, fid, zero_shot=True) for model, fid in _ZERO_SHOT.items()),
)


def format_table_1(
    row: Row, figure: str, comparable: bool, notes: Sequence[str] = ()
) -> str:
    """Returns the table as text, the best of each group last as in the paper.

    Args:
      row: the new one.
      figure: what its value is, such as "FID (Inception-v3)".
      comparable: whether it is a FID of Inception features; otherwise it stands below
        the table, not in it.
      notes: sentences on how it departs from the protocol.
    """
    row = row._replace(new=True)
    rows = [*TABLE_1, row] if comparable else list(TABLE_1)
    width = max(len(entry.model) for entry in [*rows, row])
    lines = [f"COCO {RESOLUTION} x {RESOLUTION}, FID-30K (arXiv:2205.11487, Table 1)"]
    for title, zero_shot in (("trained on COCO", False), ("zero-shot", True)):
        group = [entry for entry in rows if entry.zero_shot == zero_shot]
        lines.append(f"  {title}")
        group.sort(key=lambda entry: -entry.fid)
        lines += [_line(entry, width) for entry in group]
    if not comparable:
        lines.append(f"  {figure}: another measure, not comparable with the above")
        lines.append(_line(row, width))
    lines += [f"  {MARK} {row.model}: {figure}", *(f"    {note}" for note in notes)]
    return "\n".join(lines)


def protocol_notes(count: int, resolution: int, year: int) -> list[str]:
    """Returns how a figure departs from the paper's protocol, a sentence each.

    Args:
      count: generated pictures.
      resolution: of the pictures.
      year: of the COCO set.
    """
    notes = []
    if count < COUNT:
        notes.append(
            f"{count:,} pictures, not {COUNT:,}: a distance of fewer pictures is "
            "biased upwards."
        )
    elif count > COUNT:
        notes.append(f"{count:,} pictures, not {COUNT:,}: biased downwards against it.")
    if resolution != RESOLUTION:
        notes.append(f"{resolution} x {resolution} pixels, not {RESOLUTION}.")
    if year != 2014:
        notes.append(
            f"Pictures and captions of {year}; the known figures are of 2014's larger "
            "set (the paper does not say the year)."
        )
    return notes


def _line(row: Row, width: int) -> str:
    mark = MARK if row.new else " "
    return f"  {mark} {row.model:{width}} {row.fid:8.2f}"
