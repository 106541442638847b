"""What may be done to a caption before it becomes tokens.

Cleaning is a property of the tokenizer, so training and sampling cannot differ in it,
and its name is recorded with the embeddings. Captions are stored, looked up and shown
as they were given; only their tokens are made from the cleaned text.

No kind lower-cases, unquotes or drops punctuation: DeepFloyd IF does so, which destroys
the texts to be drawn that DrawBench's prompts hold in quotes (arXiv:2205.11487,
section 4.1).
"""

import html
import html.entities
import re

from imagen_jax.errors import UserError

KINDS = ("none", "basic")

# With its semicolon only: "fish&chips" holds no entity.
_ENTITY = re.compile(r"&(?:#[0-9]+|#[xX][0-9a-fA-F]+|[a-zA-Z][a-zA-Z0-9]*);")
# A letter right after the bracket, because "2 < 3 and 5 > 4" is text.
_TAG = re.compile(r"<!--.*?-->|</?[a-zA-Z][^<>]*>", re.DOTALL)
# Ends before quotes and brackets, which belong to the sentence around it.
_URL = re.compile(r"(?:\bhttps?://|\bwww\.)[^\s<>()\"']+", re.IGNORECASE)


def clean(kind: str, caption: str) -> str:
    """Returns the text that a caption's tokens are made from.

    Args:
      kind: "none" gives the caption exactly as it is. "basic" replaces HTML entities by
        their characters, once, and tags by spaces, removes web addresses, makes each
        run of white space one space and strips the ends; case and quotes stay.
      caption: any text.

    Raises:
      UserError: if `kind` is none of `KINDS`.
    """
    match kind:
        case "none":
            return caption
        case "basic":
            text = _ENTITY.sub(_character, caption)
            text = _URL.sub("", _TAG.sub(" ", text))
            return " ".join(text.split())
        case _:
            raise UserError(
                f"the caption cleaning is {kind!r}; give one of {', '.join(KINDS)}"
            )


def _character(entity: re.Match[str]) -> str:
    """Returns what an entity stands for, or the entity if that is nothing."""
    name = entity[0][1:]
    if name.startswith("#"):
        return html.unescape(entity[0])
    # Not html.unescape, which takes "&not" out of "&notes;".
    return html.entities.html5.get(name, entity[0])
