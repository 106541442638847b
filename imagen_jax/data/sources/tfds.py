"""Any TFDS data set stored as array_record, read without TensorFlow."""

import os
from typing import Any

from imagen_jax.data.records import BadRecordError, Record
from imagen_jax.errors import UserError
from imagen_jax.optional import import_optional


class TfdsSource:
    """Records of one split; features `image` and `caption` are read.

    Pictures stay encoded, as stored. Safe to read from several threads; pickling sends
    the name only, and the other process opens the files itself.
    """

    def __init__(self, builder_dir_or_name: str, split: str = "train"):
        """Opens the split.

        Args:
          builder_dir_or_name: folder of a prepared data set (the one that holds
            dataset_info.json), or a TFDS name such as "openmoji/default" prepared in
            TFDS's own data folder.
          split: e.g. "train" or "train[:100]".

        Raises:
          UserError: if there is no such data set, split or feature, or it is not
            stored as array_record.
        """
        self._arguments = (builder_dir_or_name, split)
        tfds = import_optional("tensorflow_datasets", "quickstart")
        builder = _open_builder(tfds, builder_dir_or_name)
        if not builder.info.splits:
            raise UserError(
                f"the data set {builder_dir_or_name} is not prepared in "
                f"{builder.data_dir}; prepare it with TFDS, as array_record"
            )
        missing = {"image", "caption"} - set(builder.info.features or ())
        if missing:
            raise UserError(
                f"{builder_dir_or_name} has no feature {' or '.join(sorted(missing))}; "
                "a data set needs image and caption"
            )
        try:
            self._data = builder.as_data_source(
                split,
                decoders={"image": tfds.decode.SkipDecoding()},
            )
        except (ValueError, NotImplementedError) as error:
            raise UserError(
                f"split {split!r} of {builder_dir_or_name} cannot be read: "
                f"{str(error).splitlines()[0]} It has the splits "
                f"{', '.join(builder.info.splits)}; files must be array_record"
            ) from error

    def __len__(self) -> int:
        """Returns the number of records."""
        return len(self._data)

    def __getitem__(self, index: int) -> Record:
        """Returns record `index`; see `Source`."""
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        example: dict[str, Any] = self._data[index]
        try:
            caption = bytes(example["caption"]).decode("utf-8")
        except UnicodeDecodeError as error:
            raise BadRecordError("caption is not UTF-8", str(error)) from error
        name, split = self._arguments
        return Record(bytes(example["image"]), caption, f"{name}:{split}[{index}]")

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        """Returns how to open it again in another process."""
        return type(self), self._arguments


def _open_builder(tfds: Any, builder_dir_or_name: str) -> Any:
    if os.path.isdir(builder_dir_or_name):
        if not os.path.exists(os.path.join(builder_dir_or_name, "dataset_info.json")):
            raise UserError(
                f"{builder_dir_or_name} is no prepared data set: it has no "
                "dataset_info.json; prepare it first, or name its version folder"
            )
        return tfds.builder_from_directory(builder_dir_or_name)
    try:
        return tfds.builder(builder_dir_or_name)
    except (tfds.core.DatasetNotFoundError, ValueError) as error:
        raise UserError(
            f"there is no data set {builder_dir_or_name!r}: give the folder of a "
            "prepared data set or the name of one that TFDS knows"
        ) from error
