"""Sources of records: each implements `imagen_jax.data.records.Source`.

openmoji          the quickstart set: concepts, grounds, captions and rendering
openmoji_builder  the same set as a TFDS builder (needs tensorflow_datasets)
opening           the source that a config or a flag names
tfds              any TFDS data set stored as array_record, read without TensorFlow
"""
