"""An index: where every picture of tars, Parquet files and folders lies, made once.

format   what is in an index
options  which records are taken, and how their columns are called
checks   a record that was found, and why it is dropped
files    files and folders on this disk or in a bucket: finding, dating, reading a part
scan     one input: its records, checked
build    all inputs into one index

`imagen_jax.data.sources.indexed` reads an index; the scanners of the kinds of input are
`tars`, `parquet` and `folder` beside it.
"""
