"""The OpenMoji set as a TFDS data set, stored as array_record.

This module imports tensorflow_datasets at its top (a builder has to be a class), never
TensorFlow: pictures are handed over as PNG files in memory, because arrays would make
TFDS encode them with TensorFlow.
"""

import dataclasses
import io
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from imagen_jax.data import images
from imagen_jax.data.sources import openmoji

SIZE = 256  # of the quickstart's pictures
VERSION = "1.0.0"
_NUM_HELD_OUT_VARIANTS = {"default": 12, "core": 4, "all": 1, "default17": 12}


@dataclasses.dataclass(kw_only=True)
class OpenmojiConfig(tfds.core.BuilderConfig):
    """Which set, how many training pictures per pair, and the pictures' side."""

    set_name: str
    variants: int
    size: int


def make_config(
    set_name: str, variants: int | None = None, size: int = SIZE
) -> OpenmojiConfig:
    """Returns the TFDS config of a set.

    Args:
      set_name: one of `openmoji.SETS`.
      variants: training pictures per pair, at least 1; None for the default: 48, 16,
        2 or 48, which makes 2,304, 10,112, about 30,000 or 2,448 pictures.
      size: side of the pictures in pixels, at least 1.

    Another number or size becomes part of the config's name, so that both can be
    stored.
    """
    default = {"default": 48, "core": 16, "all": 2, "default17": 48}[set_name]
    name = set_name if variants in (None, default) else f"{set_name}_{variants}"
    name += "" if size == SIZE else f"_{size}px"
    return OpenmojiConfig(
        name=name,
        description=f"The concepts and grounds of the set {set_name!r}.",
        set_name=set_name,
        variants=variants or default,
        size=size,
    )


class Openmoji(tfds.core.GeneratorBasedBuilder):
    """OpenMoji drawings on coloured grounds; splits `train` and `held_out`."""

    VERSION = tfds.core.Version(VERSION)
    # No downloads, hence no checksums. TFDS 4.9.10 would look for them through
    # importlib_resources, which it does not declare and may be missing.
    url_infos: ClassVar[dict] = {}
    BUILDER_CONFIGS: ClassVar[list] = [make_config(name) for name in openmoji.SETS]

    def _info(self) -> tfds.core.DatasetInfo:
        config: Any = self.builder_config
        return tfds.core.DatasetInfo(
            builder=self,
            description="OpenMoji drawings on coloured grounds, with captions.",
            homepage="https://openmoji.org",
            license=openmoji.ATTRIBUTION,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(
                        shape=(config.size, config.size, 3), encoding_format="png"
                    ),
                    "caption": tfds.features.Text(),
                    "concept": tfds.features.Text(),
                    "ground": tfds.features.Text(),
                    "held_out": tfds.features.Scalar(np.bool_),
                }
            ),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
        del dl_manager  # nothing is downloaded
        config: Any = self.builder_config
        num_held_out = _NUM_HELD_OUT_VARIANTS[config.set_name]
        return {
            "train": self._generate_examples("train", config.variants),
            "held_out": self._generate_examples("held_out", num_held_out),
        }

    def _generate_examples(
        self, split: str, num_variants: int
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        config: Any = self.builder_config

        def png(pair: openmoji.Pair, variant: int) -> io.BytesIO:
            picture = openmoji.compose_variant(pair, variant, split, config.size)
            return io.BytesIO(images.encode_png(picture))

        # Resizing and compressing release the interpreter lock, so threads help;
        # processes would be forked, which a program that loaded JAX must not do.
        with ThreadPoolExecutor(2) as pool:
            for pair in openmoji.pairs(config.set_name):
                if pair.held_out != (split == "held_out"):
                    continue
                files = pool.map(png, [pair] * num_variants, range(num_variants))
                for variant, file in enumerate(files):
                    yield (
                        f"{pair.concept}/{pair.ground}/{variant}",
                        {"image": file, **pair._asdict()},
                    )


def build(config: OpenmojiConfig, data_dir: str) -> dict[str, int]:
    """Returns the number of pictures by split, after drawing and storing the set.

    TFDS writes into a folder of another name and renames it at the end, so that an
    interrupted run is never taken for a set. A set that is there is left alone.

    Args:
      config: from `make_config`.
      data_dir: the set goes to `data_dir/openmoji/<config.name>/<VERSION>`.
    """
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()  # it fills logs
    # TFDS refuses a config object that equals one it knows already by name.
    known = config.name in Openmoji.builder_configs
    builder = Openmoji(
        data_dir=data_dir,
        config=config.name if known else config,
        file_format="array_record",
    )
    builder.download_and_prepare()
    return {name: split.num_examples for name, split in builder.info.splits.items()}
