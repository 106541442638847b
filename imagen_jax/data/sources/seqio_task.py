"""Captions of a Task or Mixture that is registered with seqio.

    seqio:NAME:SPLIT[:FEATURE]            NAME is known to seqio on import
    seqio:MODULE@NAME:SPLIT[:FEATURE]     importing MODULE registers NAME

A Mixture gives every example of its tasks once: its rates serve training, and a store
of embeddings has no use for them. seqio brings TensorFlow, which is imported only when
a task is read.
"""

import importlib
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from imagen_jax.errors import UserError
from imagen_jax.optional import import_optional

DEFAULT_FEATURE = "caption"

# Colons inside [...] are the split's own. A name may hold colons too; it then needs the
# feature, as the last two parts are taken off a text of four or more.
_FORM = re.compile(
    r"seqio:(?:(?P<module>[\w.]+)@)?(?P<task>[^@\[\]]+?)"
    r":(?P<split>[^:@\[\]]+(?:\[[^\[\]]*\])?)(?::(?P<feature>[^:@\[\]]+))?"
)


class SeqioName(NamedTuple):
    """What a text of the form above names; `module` "" imports nothing."""

    task: str
    split: str
    feature: str
    module: str


def parse_seqio(text: str) -> SeqioName:
    """Returns the parts of "seqio:[MODULE@]NAME:SPLIT[:FEATURE]".

    Raises:
      UserError: for any other form.
    """
    match = _FORM.fullmatch(text)
    if match is None:
        raise UserError(
            f"the source of captions is {text!r}; give "
            "seqio:[MODULE@]NAME:SPLIT[:FEATURE]"
        )
    return SeqioName(
        match["task"],
        match["split"],
        match["feature"] or DEFAULT_FEATURE,
        match["module"] or "",
    )


def seqio_captions(
    task: str, split: str, feature: str = DEFAULT_FEATURE, module: str = ""
) -> Iterator[str]:
    """Yields the captions, read lazily and unshuffled.

    Args:
      task: name of a Task or Mixture.
      split: one of its splits, or a part such as "train[:10%]" where its source can.
      feature: a text feature of its examples, after its preprocessors. Tokenized
        features are refused: their ids are another vocabulary's.
      module: imported first, to register the task; "" imports nothing.

    Raises:
      UserError: if there is no such task, split or text feature, an example cannot be
        made, or the package `seqio` is not installed.
    """
    seqio = import_optional("seqio", "seqio")
    if module:
        _import_registry(module)
    try:
        found = seqio.get_mixture_or_task(task)
    except ValueError as error:
        raise UserError(
            f"seqio knows no Task or Mixture {task!r}; give a registered one, and the "
            "module that registers it as MODULE@NAME"
        ) from error
    whole = split.partition("[")[0]
    parts = [
        part
        for part in seqio.get_subtasks(found)
        if not part.splits or whole in part.splits
    ]
    if not parts:
        raise UserError(
            f"the seqio task {task!r} has no split {whole!r}; give one of "
            f"{', '.join(map(str, found.splits))}"
        )
    for part in parts:
        for example in _examples(part, split):
            yield _text(example, feature, part.name)


def _import_registry(module: str) -> None:
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise UserError(
            f"the module {module} that registers a seqio task cannot be imported "
            f"({error}); install it, or run where it is"
        ) from error


def _examples(task: Any, split: str) -> Iterator[Mapping[str, Any]]:
    try:
        dataset = task.get_dataset(
            sequence_length=None, split=split, shuffle=False, num_epochs=1
        )
        yield from dataset.as_numpy_iterator()
    except Exception as error:  # sources and preprocessors may raise anything
        raise UserError(
            f"split {split!r} of the seqio task {task.name!r} cannot be read: "
            f"{type(error).__name__}: {str(error).partition(chr(10))[0]}; see that its "
            "data are there and its preprocessors run"
        ) from error


def _text(example: Mapping[str, Any], feature: str, task: str) -> str:
    texts = [name for name, value in example.items() if isinstance(value, bytes)]
    if feature not in texts:
        raise UserError(
            f"the seqio task {task!r} has no text feature {feature!r}; it has "
            f"{', '.join(sorted(texts)) or 'none'}, so name one as the last part"
        )
    try:
        return example[feature].decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(
            f"feature {feature!r} of the seqio task {task!r} holds a caption that is "
            f"not UTF-8 ({error.reason}); repair its source"
        ) from error
