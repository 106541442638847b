"""What a study's database holds, read back for a report; a server may be running."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from imagen_jax.errors import UserError
from imagen_jax.raters.plan import Trial
from imagen_jax.raters.store import DATABASE


class Answer(NamedTuple):
    """One answer, with the trial that it is about.

    Attributes:
      rater: id, from 1.
      position: of the trial in the rater's order, from 0.
      trial: what was shown.
      question: "quality", "alignment" or "fidelity".
      answer: as given on the page; see `settings.QUESTIONS`.
      answered: when, in seconds since 1970.
    """

    rater: int
    position: int
    trial: Trial
    question: str
    answer: str
    answered: float


class Recorded(NamedTuple):
    """A study and its answers.

    Attributes:
      folder: of the study.
      manifest: the study when it was first served; see `Study.manifest`.
      num_trials: of each rater, by id; all raters that have a link.
      answers: by rater and position.
    """

    folder: Path
    manifest: dict[str, Any]
    num_trials: dict[int, int]
    answers: list[Answer]

    @property
    def kind(self) -> str:
        """The kind of study."""
        return self.manifest["settings"]["kind"]

    @property
    def names(self) -> tuple[str, str]:
        """The names of both systems."""
        first, second = self.manifest["settings"]["systems"]
        return first["name"], second["name"]


def read_recorded(folder: Path) -> Recorded:
    """Returns what raters have answered so far.

    Raises:
      UserError: if the study was not served yet, or its database is damaged.
    """
    path = folder / DATABASE
    if not path.exists():
        raise UserError(
            f"there is no {path}; serve the study first: "
            f"python -m imagen_jax.raters serve --study={folder}"
        )
    try:
        with closing(
            sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
        ) as db:
            db.execute("BEGIN")  # one moment for all three
            manifest = db.execute("SELECT manifest FROM study").fetchone()
            num_trials = db.execute(
                "SELECT rater, count(*) FROM trials GROUP BY rater"
            ).fetchall()
            answers = db.execute(
                "SELECT rater, position, item, is_control, swapped, system, question, "
                "answer, answered FROM answers JOIN trials USING (rater, position) "
                "ORDER BY rater, position, question"
            ).fetchall()
    except sqlite3.Error as error:
        raise UserError(
            f"cannot read {path} ({error}); give the folder of a study that was served"
        ) from error
    if manifest is None:
        raise UserError(f"{path} holds no study; serve the study first")
    return Recorded(
        folder,
        json.loads(manifest[0]),
        dict(num_trials),
        [
            Answer(row[0], row[1], _trial(*row[2:6]), row[6], row[7], row[8])
            for row in answers
        ],
    )


def _trial(item: str, is_control: int, swapped: int, system: int | None) -> Trial:
    return Trial(item, bool(is_control), bool(swapped), system)
