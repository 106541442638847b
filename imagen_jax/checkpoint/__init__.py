"""Checkpoints of a run, and weights for sampling; the only importer of orbax.

A workdir holds `config.json` and `checkpoints/STEP/`, written asynchronously and
committed by a rename, so a killed run leaves the last complete one. Restoring puts each
leaf straight onto the devices that its sharding names, whatever mesh and number of
hosts wrote it. A held-out loss is saved inside the checkpoint that it is of, so which
one is the best is known after any kill. Each array's checksum is saved beside it and
compared when it is read, since Orbax's formats have none of values.

With several processes each writes the parts that its devices hold, to the folder that
all share; all must call every method of `Checkpoints`, in the same order. Where they
share no folder (`bucket_checkpoints`), `PartWriter` and `restore_parts` write and read
folders of this machine.

Files:
  manager.py: a workdir's checkpoints, their retention, and weights for sampling.
  parts.py: parts of a checkpoint on this machine.
  reading.py: what both need to read one: errors in words, checksums, memory.
"""

from imagen_jax.checkpoint.manager import (
    FOLDER,
    Checkpoints,
    restore_ema_params,
    write_config,
)
from imagen_jax.checkpoint.parts import PartWriter, restore_parts

__all__ = [
    "FOLDER",
    "Checkpoints",
    "PartWriter",
    "restore_ema_params",
    "restore_parts",
    "write_config",
]
