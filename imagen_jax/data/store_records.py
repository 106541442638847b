"""The records of an embedding store: a caption and the embedding of its valid tokens.

A record is, little-endian: uint32 number of tokens n, uint32 number of caption bytes,
the caption in UTF-8, then by the store's dtype

    bfloat16   bfloat16 [n d]
    int8       float32 scale [n], int8 [n d]; a token is scale times its integers, and
               scale its largest magnitude / 127

valid tokens only: padding a caption of 12 tokens to 256 would be 20 times the bytes.
"""

import struct

import ml_dtypes
import numpy as np
from jaxtyping import BFloat16, Float32, Int8

_HEADER = struct.Struct("<II")


def encode_record(
    caption: str, embed: BFloat16[np.ndarray, "n d"], dtype: str = "bfloat16"
) -> bytes:
    """Returns the record of one caption.

    Args:
      caption: as it is looked up.
      embed: its valid tokens only.
      dtype: one of `DTYPES`.
    """
    text = caption.encode("utf-8")
    head = _HEADER.pack(len(embed), len(text)) + text
    if dtype == "bfloat16":
        return head + embed.tobytes()
    scale, quantised = quantise(embed)
    return head + scale.astype("<f4").tobytes() + quantised.tobytes()


def decode_record(
    record: bytes, width: int, dtype: str = "bfloat16"
) -> tuple[str, BFloat16[np.ndarray, "n d"]]:
    """Returns (caption, embedding of its valid tokens); inverts `encode_record`.

    Raises:
      ValueError: if the record is not one of this width and dtype.
    """
    try:
        num_tokens, num_bytes = _HEADER.unpack_from(record)
    except struct.error as error:
        raise ValueError(f"a record of {len(record)} bytes") from error
    start = _HEADER.size + num_bytes
    token_bytes = 2 * width if dtype == "bfloat16" else 4 + width
    if len(record) != start + num_tokens * token_bytes:
        raise ValueError(f"a record of {len(record)} bytes with {num_tokens} tokens")
    caption = record[_HEADER.size : start].decode("utf-8")
    if dtype == "bfloat16":
        embed = np.frombuffer(record, ml_dtypes.bfloat16, -1, start)
        return caption, embed.reshape(num_tokens, width)
    scale = np.frombuffer(record, "<f4", num_tokens, start)
    quantised = np.frombuffer(record, np.int8, -1, start + 4 * num_tokens)
    quantised = quantised.reshape(num_tokens, width).astype(np.float32)
    return caption, (quantised * scale[:, None]).astype(ml_dtypes.bfloat16)


def quantise(
    embed: BFloat16[np.ndarray, "n d"],
) -> tuple[Float32[np.ndarray, " n"], Int8[np.ndarray, "n d"]]:
    """Returns (scale, integers in [-127, 127]), so that embed = scale x integers.

    A token's error is at most half its scale; a token of zeros has scale 0.
    """
    values = embed.astype(np.float32)
    scale = np.abs(values).max(axis=1) / np.float32(127)
    divisor = np.where(scale > 0, scale, np.float32(1))
    return scale, np.rint(values / divisor[:, None]).astype(np.int8)
