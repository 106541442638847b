"""What `prepare index` can be asked for."""

import dataclasses
from typing import Any

from imagen_jax.errors import UserError


def _flag(default: Any, text: str) -> Any:
    """Returns a field that the command line explains by `text`."""
    return dataclasses.field(default=default, metadata={"help": text})


@dataclasses.dataclass(frozen=True)
class IndexOptions:
    """Which records an index takes, and what the columns of tables are called.

    Attributes:
      min_size: a picture's shorter side must have as many pixels.
      max_aspect: longer side over shorter side at most; 0 takes any.
      min_caption: characters a caption must have, at least 1.
      max_caption: characters it may have; 0 takes any length.
      decode: decode every picture whole, which finds damage behind its header but
        takes some milliseconds each.
      image_column: of Parquet files; "" takes the first of the usual names.
      caption_column: of Parquet files and of tables of captions, likewise.
    """

    min_size: int = _flag(0, "pixels the shorter side must have")
    max_aspect: float = _flag(0.0, "longest side over shorter side; 0: any")
    min_caption: int = _flag(1, "characters a caption must have")
    max_caption: int = _flag(0, "characters it may have; 0: any length")
    decode: bool = _flag(False, "decode every picture: finds all damage, slow")
    image_column: str = _flag("", "Parquet column of pictures")
    caption_column: str = _flag("", "column of captions")

    def __post_init__(self):
        if self.min_size < 0:
            raise UserError(
                f"--min_size is {self.min_size}; give pixels, 0 takes any size"
            )
        # Written so that NaN is refused.
        if not (self.max_aspect == 0 or self.max_aspect >= 1):
            raise UserError(
                f"--max_aspect is {self.max_aspect}; give longer side over shorter "
                "side, at least 1, or 0 for any"
            )
        if self.min_caption < 1:
            raise UserError(
                f"--min_caption is {self.min_caption}; give at least 1 character"
            )
        if self.max_caption and self.max_caption < self.min_caption:
            raise UserError(
                f"--max_caption is {self.max_caption}, below --min_caption "
                f"{self.min_caption}; give more characters, or 0 for any length"
            )
