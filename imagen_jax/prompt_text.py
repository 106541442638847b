"""Prompts to embeddings, each by itself, and what to tell the user about them.

An encoder's rounding depends on the batch that a prompt is in. Embedded alone, a prompt
has one embedding, so its pictures do not depend on the other prompts. The latest ones
are kept, since a prompt is mostly drawn several times.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np

from imagen_jax.config import TextConfig
from imagen_jax.interfaces import TextEmbeddings
from imagen_jax.text.tokenizer import Tokenizer
from imagen_jax.text_source import TextSource, check_identity

KEPT = 1024  # prompts whose embeddings stay in memory
SHOWN = 60  # letters of a prompt in a remark


class PromptText:
    """Embeds prompts for a cascade.

    Attributes:
      identity: what the embeddings are made by, as `TextSource` has it.
    """

    def __init__(
        self,
        source: TextSource,
        configs: Sequence[TextConfig],
        say: Callable[[str], None],
    ):
        """Checks that every stage was trained with such embeddings.

        Args:
          source: where embeddings come from.
          configs: of the stages.
          say: called with a sentence on a prompt that is empty or was cut.

        Raises:
          UserError: a stage knows others, of another width say.
        """
        for config in configs:
            check_identity(config, source.identity, "the text encoder or store")
        self.identity = source.identity
        self._source = source
        self._say = say
        self._max_length = configs[0].max_length
        self._kept: OrderedDict[str, TextEmbeddings] = OrderedDict()
        self._empty: set[str] = set()

    def __call__(self, prompts: Sequence[str]) -> TextEmbeddings:
        """Returns the embeddings, numpy, bfloat16 `[len(prompts) n d]`.

        Args:
          prompts: at least one.

        Raises:
          UserError: a prompt is not in the store, or is not valid Unicode.
        """
        rows = {prompt: self._one(prompt) for prompt in dict.fromkeys(prompts)}
        parts = [rows[prompt] for prompt in prompts]
        embed = np.concatenate([part.embed for part in parts])
        mask = np.concatenate([part.mask for part in parts])
        return TextEmbeddings(embed, mask)  # pyright: ignore[reportArgumentType]

    def forget(self) -> None:
        """Lets go of the embeddings that were kept."""
        self._kept.clear()

    def remark(self, prompts: Sequence[str]) -> None:
        """Says of each prompt that is empty, once, that it is the null text."""
        for prompt in set(prompts) - self._empty:
            if not np.asarray(self._one(prompt).embed).any():
                self._empty.add(prompt)
                self._say(
                    f"the prompt {prompt!r} is empty: its pictures are drawn from the "
                    "null text, without any prompt"
                )

    def _one(self, prompt: str) -> TextEmbeddings:
        """Returns a prompt's embedding, a batch of one."""
        if prompt in self._kept:
            self._kept.move_to_end(prompt)
            return self._kept[prompt]
        before = self._num_truncated()
        made = self._source.embed([prompt])
        if self._num_truncated() > before:
            shown = prompt if len(prompt) <= SHOWN else f"{prompt[:SHOWN]}..."
            self._say(
                f"the prompt {shown!r} is longer than the {self._max_length} tokens "
                "that the stages know: it is cut there"
            )
        self._kept[prompt] = made
        if len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return made

    def _num_truncated(self) -> int:
        tokenize = self._source.batch_text
        # A store has no tokenizer; its prompts were cut when they were embedded.
        return tokenize.num_truncated if isinstance(tokenize, Tokenizer) else 0
