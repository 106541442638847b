"""The job that fills an embedding store.

job      captions -> store: resumable, shared between hosts
spill    captions sorted into shards on the local disk, in constant memory
encoding captions -> embeddings, in batches of one length
machine  which shards are this machine's, and the encoder on its devices
verify   every checksum and record of a store
sources  where captions come from
"""
