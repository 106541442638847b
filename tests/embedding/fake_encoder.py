"""An encoder of known values: a table of random rows, one for each word.

No weights, no compile: a caption's tokens are its words, the embedding of a word the
same wherever it stands. So what a store must hold is known without running a job.
"""

import time
import zlib

import ml_dtypes
import numpy as np

from imagen_jax.interfaces import TextEmbeddings, TextTokens
from imagen_jax.text.encoder import TextEncoder

NUM_ROWS = 512


class WordTokenizer:
    def __init__(self, max_length):
        self.id = "words sha256:0"
        self.max_length = max_length
        self.num_truncated = 0

    def __call__(self, captions):
        ids = np.zeros((len(captions), self.max_length), np.int32)
        mask = np.zeros(ids.shape, bool)
        for row, caption in enumerate(captions):
            words = caption.split()
            self.num_truncated += len(words) > self.max_length
            for i, word in enumerate(words[: self.max_length]):
                ids[row, i] = zlib.crc32(word.encode()) % NUM_ROWS
                mask[row, i] = True
        return TextTokens(ids, mask)


def make_encoder(width=8, max_length=6, batch_sec=0.0):
    """Returns the encoder; a call of its `encode` takes at least `batch_sec`."""
    table = np.random.default_rng(0).normal(size=(NUM_ROWS, width)).astype(np.float32)

    def encode(tokens):
        time.sleep(batch_sec)
        mask = np.array(tokens.mask)
        embed = np.where(mask[..., None], table[tokens.ids], np.float32(0))
        mask[~mask.any(axis=1), 0] = True  # the null text
        return TextEmbeddings(embed, mask)

    tokenize = WordTokenizer(max_length)
    return TextEncoder(
        name="words",
        width=width,
        max_length=max_length,
        tokenizer=tokenize.id,
        cleaning="none",
        weights_sha256="0" * 64,
        tokenize=tokenize,
        encode=encode,
        params={},
        states_fn=None,
    )


def expected(captions, width=8, max_length=6):
    """Returns (embed, mask) that a store of this encoder must give."""
    encoder = make_encoder(width, max_length)
    embed, mask = encoder.encode(encoder.tokenize(captions))
    return embed.astype(ml_dtypes.bfloat16), mask
