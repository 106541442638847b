"""A TFDS data set whose captions stand in every way that a data set may have them."""

import io

import numpy as np
import tensorflow_datasets as tfds

from tests.data.sources.archives import png

NUM_RECORDS = 12


class Captioned(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Record i has picture i and i % 3 + 1 captions "i j"; of record 11 all are ""."""

    VERSION = tfds.core.Version("1.0.0")
    url_infos = {}  # noqa: RUF012
    features: dict

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(self.features)
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for i in range(NUM_RECORDS):
            texts = [f"{i} {j}" if i < 11 else "" for j in range(i % 3 + 1)]
            values = {
                "photo": io.BytesIO(png(i)),
                "image": io.BytesIO(png(i)),
                "label": i,
                "captions": [{"id": j, "text": text} for j, text in enumerate(texts)],
                "lines": texts,
                "alt": {"title": f"title {i}", "text": texts[0]},
                "text": texts[0],
                "caption": texts[-1],
            }
            yield i, {key: values[key] for key in self.features}


def features(*names):
    """Features of these names; see `Captioned._generate_examples`."""
    text, image = tfds.features.Text(), tfds.features.Image(shape=(8, 8, 3))
    every = {
        "photo": image,
        "image": image,
        "label": np.int64,
        "captions": tfds.features.Sequence({"id": np.int64, "text": text}),
        "lines": tfds.features.Sequence(text),
        "alt": {"title": text, "text": text},
        "text": text,
        "caption": text,
    }
    return {name: every[name] for name in names}


def write(folder, *names, file_format="array_record"):
    """Prepares a set with these features; returns its folder."""
    fields = {"features": features(*names)}
    kind = type("Captioned", (Captioned,), fields, skip_registration=True)
    builder = kind(data_dir=str(folder), file_format=file_format)
    builder.download_and_prepare()
    return str(builder.data_dir)
