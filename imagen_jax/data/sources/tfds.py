"""Any TFDS data set with a picture and a caption, read without TensorFlow.

    DIR_OR_NAME[?image=FEATURE&caption=FEATURE]

DIR is the folder of a prepared data set (the one that holds dataset_info.json), NAME
one that is prepared in TFDS's own data folder, such as "coco_captions/2014". A feature
inside another is written with dots, as captions.text. Without FEATURES the picture is
`image`, and the caption is `caption`, `captions` or `text`: a text, a list of texts, or
a list of structures that hold one (as in coco_captions). Of a list, which caption a
record takes is a function of its number, so it is the same in every epoch.

Files may be array_record, tfrecord or parquet; they are read from a local disk.
"""

import os
import urllib.parse
from typing import Any

from imagen_jax.data.indexing.checks import choose_caption
from imagen_jax.data.records import BadRecordError, Record
from imagen_jax.data.sources.tfrecords import TfRecords
from imagen_jax.errors import UserError
from imagen_jax.optional import import_optional

_CAPTION_FEATURES = ("caption", "captions", "text")


class TfdsSource:
    """Records of one split.

    Pictures stay encoded, as stored. Safe to read from several threads; pickling sends
    the name only, and the other process opens the files itself.
    """

    def __init__(self, builder_dir_or_name: str, split: str = "train"):
        """Opens the split.

        Args:
          builder_dir_or_name: see the module.
          split: e.g. "train" or "train[:100]".

        Raises:
          UserError: if there is no such data set, split or feature, or its files
            cannot be read at random.
        """
        self._arguments = (builder_dir_or_name, split)
        tfds = import_optional("tensorflow_datasets", "quickstart")
        name, wanted = _parse_name(builder_dir_or_name)
        builder = _open_builder(tfds, name)
        if not builder.info.splits:
            raise UserError(
                f"the data set {name} is not prepared in {builder.data_dir}; prepare "
                "it with TFDS, as array_record"
            )
        features = builder.info.features or {}
        self._image = _find_image(tfds, name, features, wanted.get("image", "image"))
        self._caption = _find_caption(tfds, name, features, wanted.get("caption"))
        # Only these are parsed: others may need TensorFlow, or time.
        self._features = tfds.features.FeaturesDict(
            {key: features[key] for key in (self._image, self._caption[0])}
        )
        self._decoders = {self._image: tfds.decode.SkipDecoding()}
        self._data = _open_records(builder, name, split)

    def __len__(self) -> int:
        """Returns the number of records."""
        return len(self._data)

    def __getitem__(self, index: int) -> Record:
        """Returns record `index`; see `Source`."""
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        try:
            example = self._features.deserialize_example_np(
                self._data[index], decoders=self._decoders
            )
        except Exception as error:  # protobuf and TFDS raise many
            raise BadRecordError(
                "corrupt record", f"{type(error).__name__}: {error}"
            ) from error
        value: Any = example
        for key in self._caption:
            value = value[key]
        if not isinstance(value, bytes):
            value = choose_caption(value, index)
        try:
            caption = b"" if value is None else bytes(value)
            text = caption.decode("utf-8")
        except UnicodeDecodeError as error:
            raise BadRecordError("caption is not UTF-8", str(error)) from error
        if not text.strip():
            raise BadRecordError("no caption")
        name, split = self._arguments
        return Record(bytes(example[self._image]), text, f"{name}:{split}[{index}]")

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        """Returns how to open it again in another process."""
        return type(self), self._arguments


def _parse_name(text: str) -> tuple[str, dict[str, str]]:
    name, mark, query = text.partition("?")
    wanted = dict(urllib.parse.parse_qsl(query))
    if (mark and not wanted) or set(wanted) - {"image", "caption"}:
        raise UserError(
            f"the data set is {text!r}; give NAME?image=FEATURE&caption=FEATURE, one "
            "of the two, or neither"
        )
    return name, wanted


def _open_builder(tfds: Any, name: str) -> Any:
    if "://" in name:
        raise UserError(
            f"the data set {name} is in a bucket, where its records cannot be read at "
            "random; copy its folder to a local or mounted disk and name that"
        )
    if os.path.isdir(name):
        if not os.path.exists(os.path.join(name, "dataset_info.json")):
            raise UserError(
                f"{name} is no prepared data set: it has no dataset_info.json; prepare "
                "it first, or name its version folder"
            )
        return tfds.builder_from_directory(name)
    from tensorflow_datasets.core import read_only_builder

    try:
        # What is prepared needs no code; that of some sets imports TensorFlow.
        return read_only_builder.builder_from_files(name)
    except (tfds.core.DatasetNotFoundError, ValueError):
        pass
    try:
        return tfds.builder(name)
    except (tfds.core.DatasetNotFoundError, ValueError) as error:
        raise UserError(
            f"there is no data set {name!r}: give the folder of a prepared data set or "
            "the name of one that TFDS knows"
        ) from error
    except ImportError as error:
        raise UserError(
            f"the data set {name!r} is not prepared in TFDS's data folder under this "
            "name, and its code needs TensorFlow; prepare it where TensorFlow is "
            'installed and give its folder, or its whole name as "coco_captions/2014"'
        ) from error


def _open_records(builder: Any, name: str, split: str) -> Any:
    """Returns the split's serialized examples, by index."""
    from tensorflow_datasets.core import decode

    file_format = builder.info.file_format.value
    try:
        if file_format == "tfrecord":
            parts = builder.info.splits[split].file_instructions
            return TfRecords(
                [(str(part.filename), part.skip, part.take) for part in parts]
            )
        return builder.as_data_source(
            split, deserialize_method=decode.DeserializeMethod.RAW_BYTES
        )
    except (ValueError, KeyError, NotImplementedError) as error:
        raise UserError(
            f"split {split!r} of {name} cannot be read: {str(error).splitlines()[0]} "
            f"It has the splits {', '.join(builder.info.splits)}; its files are "
            f"{file_format}, and must be array_record, tfrecord or parquet"
        ) from error


def _find_image(tfds: Any, name: str, features: Any, wanted: str) -> str:
    found = [key for key in features if isinstance(features[key], tfds.features.Image)]
    if wanted not in found:
        raise UserError(
            f"{name} has no feature {wanted} that is a picture; a data set needs image "
            f"and caption, and this one's pictures are {', '.join(found) or 'none'}"
        )
    return wanted


def _find_caption(
    tfds: Any, name: str, features: Any, wanted: str | None
) -> tuple[str, ...]:
    """Returns the keys that lead to the caption, or to the list of them."""
    found = sorted(_text_paths(tfds, features))
    names = [wanted] if wanted else _CAPTION_FEATURES
    for start in names:
        keys = tuple(start.split("."))
        within = [path for path in found if path[: len(keys)] == keys]
        if len(within) == 1:
            return within[0]
    raise UserError(
        f"{name} has no feature {' or '.join(names)} that is, or holds, one text; a "
        "data set needs image and caption, and this one's texts are "
        f"{', '.join('.'.join(path) for path in found) or 'none'}: name one by "
        f"{name}?caption=FEATURE"
    )


def _text_paths(tfds: Any, features: Any, prefix: tuple[str, ...] = ()) -> Any:
    """Yields the keys that lead to each text that is not in a list of lists."""
    for key in features:
        feature, path = features[key], (*prefix, key)
        if isinstance(feature, tfds.features.Sequence) and not prefix:
            feature = feature.feature
        if isinstance(feature, tfds.features.Text):
            yield path
        elif isinstance(feature, tfds.features.FeaturesDict):
            yield from _text_paths(tfds, feature, path)
