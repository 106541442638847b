"""From files on disk to numpy batches; nothing here touches an accelerator.

records          what a source hands out, and how a bad record is reported
images           bytes <-> uint8 pictures; the box filter shared with the diffusion
embedding_store  captions' embeddings on disk: the reader; store_format has the format,
                 store_shard a shard's files, store_writer the writer
remote           folders on this disk or in a bucket
pipeline         batch k as a pure function of (seed, k); prefetching
synthetic        coloured shapes made on the fly, for tests and smoke runs
indexing/        where each picture of tars, Parquet and folders lies, made once
sources/         where records come from
optional         packages that only some users need
"""
