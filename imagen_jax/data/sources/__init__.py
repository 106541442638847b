"""Sources of records: each implements `imagen_jax.data.records.Source`.

opening           the source that a config or a flag names
indexed           records of an index of tars, Parquet files and folders
folder            a folder of pictures; folder_table its table of captions
folder_split      a tenth of a folder's or an index's records, held out
tfds              any TFDS data set, without TensorFlow; tfrecords reads its older files
mixture           several sources in proportion
openmoji          the quickstart set: concepts, grounds, captions and rendering
openmoji_builder  the same set as a TFDS builder (needs tensorflow_datasets)
emoji             emoji of several styles; emoji_tars writes them, npm fetches them
seqio_task        captions of a seqio task, for the embedding job

tars and parquet scan such files for an index (see `imagen_jax.data.indexing`).
"""
