"""Raters and answers in SQLite, on the disk before a rater hears that they are saved.

The journal is a write-ahead log with `synchronous=FULL`: a commit returns after fsync,
so neither a kill nor a power cut takes an acknowledged answer. An answer is written
once; the same one again changes nothing, and another one for the same trial is refused.
One server at a time: it holds a lock on `serving.lock` that ends with its process.
"""

import collections
import contextlib
import enum
import fcntl
import json
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from imagen_jax.errors import UserError
from imagen_jax.raters.plan import Counts, Trial

DATABASE = "answers.sqlite"
LOCK = "serving.lock"
TOKEN_BYTES = 24  # 192 bits: not to be guessed

_SCHEMA = """
CREATE TABLE IF NOT EXISTS study (
  id INTEGER PRIMARY KEY CHECK (id = 1), began REAL NOT NULL, manifest TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS raters (
  id INTEGER PRIMARY KEY, token TEXT NOT NULL UNIQUE, consented REAL
) STRICT;
CREATE TABLE IF NOT EXISTS trials (
  rater INTEGER NOT NULL REFERENCES raters, position INTEGER NOT NULL,
  item TEXT NOT NULL, is_control INTEGER NOT NULL, swapped INTEGER NOT NULL,
  system INTEGER, PRIMARY KEY (rater, position)
) STRICT;
CREATE TABLE IF NOT EXISTS answers (
  rater INTEGER NOT NULL, position INTEGER NOT NULL, question TEXT NOT NULL,
  answer TEXT NOT NULL, answered REAL NOT NULL,
  PRIMARY KEY (rater, position, question),
  FOREIGN KEY (rater, position) REFERENCES trials
) STRICT;
"""


class StoreError(UserError):
    """The database could not be read or written; nothing that it held is lost."""


class Saved(enum.Enum):
    """What became of an answer."""

    NEW = "written now"
    SAME = "it was there already"
    OTHER = "another answer was there already; that one stands"
    NOT_NEXT = "this is not the rater's next trial"


class Rater(NamedTuple):
    """A rater as the pages need it.

    Attributes:
      id: from 1.
      consented: whether the instructions were accepted.
      num_trials: of the plan.
      position: of the next trial, from 0; `num_trials` when all are answered.
    """

    id: int
    consented: bool
    num_trials: int
    position: int


class Store:
    """The database of one study; safe to use from several threads."""

    def __init__(self, folder: Path):
        """Opens the database, or makes it.

        Args:
          folder: of the study.

        Raises:
          StoreError: if it cannot be written, or is damaged.
        """
        self.path = folder / DATABASE
        self._lock = threading.Lock()
        with self._reported("open"):
            # Not for others' eyes: it holds the raters' links.
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
            self._db = sqlite3.connect(
                self.path, check_same_thread=False, isolation_level=None
            )
            try:
                self._db.execute("PRAGMA journal_mode = WAL")
                self._db.execute("PRAGMA synchronous = FULL")
                self._db.execute("PRAGMA foreign_keys = ON")
                self._db.executescript(_SCHEMA)
            except sqlite3.Error:
                self._db.close()
                raise

    def close(self) -> None:
        """Ends the connection."""
        self._db.close()

    def manifest(self) -> dict[str, Any] | None:
        """Returns the study as it was first served; None before that."""
        with self._lock, self._reported("read"):
            row = self._db.execute("SELECT manifest FROM study").fetchone()
        return None if row is None else json.loads(row[0])

    def add_raters(
        self,
        num: int,
        plan: Callable[[int, Counts], list[Trial]],
        manifest: dict[str, Any] | None = None,
    ) -> int:
        """Adds raters until there are `num`; returns how many there are.

        Args:
          num: wanted; no rater is ever removed.
          plan: gives the trials of a rater (index from 0) after what was given before.
          manifest: of a study that is served for the first time, written down with its
            raters or not at all; None later.
        """
        with self._writing():
            if manifest is not None:
                self._db.execute(
                    "INSERT INTO study VALUES (1, ?, ?)",
                    (time.time(), json.dumps(manifest)),
                )
            (have,) = self._db.execute("SELECT count(*) FROM raters").fetchone()
            counts = self._count_given()
            for index in range(have, num):
                trials = plan(index, counts)
                self._add_rater(index + 1, trials)
                for trial in trials:
                    if not trial.is_control:
                        counts[trial.item, trial.system] += 1
        return max(have, num)

    def _count_given(self) -> collections.Counter:
        """Returns how many raters have been given each (item, system)."""
        rows = self._db.execute(
            "SELECT item, system, count(*) FROM trials WHERE NOT is_control "
            "GROUP BY item, system"
        )
        return collections.Counter({(item, system): n for item, system, n in rows})

    def _add_rater(self, rater: int, trials: list[Trial]) -> None:
        token = secrets.token_urlsafe(TOKEN_BYTES)
        self._db.execute("INSERT INTO raters VALUES (?, ?, NULL)", (rater, token))
        self._db.executemany(
            "INSERT INTO trials VALUES (?, ?, ?, ?, ?, ?)",
            [(rater, i, *trial) for i, trial in enumerate(trials)],
        )

    def tokens(self) -> list[str]:
        """Returns the token of every rater, in order."""
        with self._lock, self._reported("read"):
            rows = self._db.execute("SELECT token FROM raters ORDER BY id").fetchall()
        return [token for (token,) in rows]

    def find_rater(self, token: str) -> Rater | None:
        """Returns the rater of a token, None if there is no such rater."""
        with self._lock, self._reported("read"):
            row = self._db.execute(
                "SELECT id, consented IS NOT NULL, "
                "(SELECT count(*) FROM trials WHERE rater = id), "
                "(SELECT count(DISTINCT position) FROM answers WHERE rater = id) "
                "FROM raters WHERE token = ?",
                (token,),
            ).fetchone()
        return None if row is None else Rater(row[0], bool(row[1]), *row[2:])

    def trial(self, rater: int, position: int) -> Trial:
        """Returns one trial of a rater's plan."""
        with self._lock, self._reported("read"):
            item, is_control, swapped, system = self._db.execute(
                "SELECT item, is_control, swapped, system FROM trials "
                "WHERE rater = ? AND position = ?",
                (rater, position),
            ).fetchone()
        return Trial(item, bool(is_control), bool(swapped), system)

    def consent(self, rater: int) -> None:
        """Notes when the rater agreed; the first time counts."""
        with self._writing():
            self._db.execute(
                "UPDATE raters SET consented = ? WHERE id = ? AND consented IS NULL",
                (time.time(), rater),
            )

    def save(self, rater: int, position: int, answers: Mapping[str, str]) -> Saved:
        """Writes the answers of one trial, all or none.

        Args:
          rater: id.
          position: of the trial, from 0.
          answers: answer by question, as seen on the page.

        Returns:
          What became of them; after NEW they are on the disk.

        Raises:
          StoreError: if they could not be written; nothing changed then.
        """
        with self._writing():
            there = dict(
                self._db.execute(
                    "SELECT question, answer FROM answers "
                    "WHERE rater = ? AND position = ?",
                    (rater, position),
                ).fetchall()
            )
            if there:
                return Saved.SAME if there == dict(answers) else Saved.OTHER
            (following,) = self._db.execute(
                "SELECT count(DISTINCT position) FROM answers WHERE rater = ?", (rater,)
            ).fetchone()
            if position != following:
                return Saved.NOT_NEXT
            now = time.time()
            self._db.executemany(
                "INSERT INTO answers VALUES (?, ?, ?, ?, ?)",
                [(rater, position, *answer, now) for answer in answers.items()],
            )
        return Saved.NEW

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """One transaction, on the disk when the block is left; undone on any error."""
        with self._lock, self._reported("write to"):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            finally:
                if self._db.in_transaction:  # SQLite may have rolled back by itself
                    self._db.execute("ROLLBACK")

    @contextlib.contextmanager
    def _reported(self, what: str) -> Iterator[None]:
        """Turns an error of SQLite into one sentence."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise StoreError(
                f"cannot {what} {self.path} ({error}); see that the disk has room and "
                "the file may be written: the answers in it are kept"
            ) from error


@contextlib.contextmanager
def only_server(folder: Path) -> Iterator[None]:
    """Holds the study for this process within the block.

    Raises:
      UserError: if another server holds it, or the folder cannot be written.
    """
    path = folder / LOCK
    try:
        file = open(path, "ab+", buffering=0)  # unbuffered: closing it never fails
    except OSError as error:
        raise UserError(
            f"cannot write {path} ({error.strerror}); a study's folder must be "
            "writable, and its disk not full"
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            holder = file.read().decode() or "unknown"
            raise UserError(
                f"another server is serving {folder} (process {holder}); stop that "
                "one, or serve another study"
            ) from error
        with contextlib.suppress(OSError):  # the note is for people; the lock holds
            file.truncate(0)
            file.write(str(os.getpid()).encode())
        yield
