"""What a source of training data hands out, and how it reports a bad record."""

from typing import NamedTuple, Protocol, runtime_checkable


class Record(NamedTuple):
    """One picture with its caption, as stored.

    `image` is an encoded file (PNG, JPEG, WebP, ...); `name` identifies the record
    in logs, unique within its source.
    """

    image: bytes
    caption: str
    name: str


@runtime_checkable  # the tests check annotations at run time
class Source(Protocol):
    """Random access to records; safe to read from several threads, and picklable."""

    def __len__(self) -> int:
        """Returns the number of records."""
        ...

    def __getitem__(self, index: int) -> Record:
        """Returns record `index`, always the same one.

        Args:
          index: 0 <= index < len(self).

        Raises:
          BadRecordError: if this record cannot be used.
        """
        ...


class BadRecordError(Exception):
    """One record that cannot be used; the pipeline counts it and goes on.

    Attributes:
      reason: the class of the fault, short and free of details, so that faults can
        be counted by it; the exception's text has the details.
    """

    def __init__(self, reason: str, detail: str = ""):
        """Makes the error.

        Args:
          reason: e.g. "corrupt picture".
          detail: what exactly was wrong, or "".
        """
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        """Returns how to rebuild it in another process (two arguments, one text)."""
        detail = str(self).removeprefix(self.reason).removeprefix(": ")
        return type(self), (self.reason, detail)
