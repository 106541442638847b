"""This machine among those that fill a store: its shards, and its devices."""

import re

import jax

from imagen_jax.config import MeshConfig
from imagen_jax.errors import UserError
from imagen_jax.parallel.distributed import join
from imagen_jax.parallel.mesh import make_mesh
from imagen_jax.parallel.sharding import place_on, to_global
from imagen_jax.text.encoder import TextEncoder, load_encoder
from imagen_jax.text_source import encode_on
from imagen_jax.weights.folder import open_weights
from imagen_jax.weights.hub import find_weights


def join_hosts(
    hosts: str | None,
    coordinator: str | None,
    num_processes: int | None,
    process_id: int | None,
) -> tuple[int, int]:
    """Returns (index, count) of this machine; (0, 1) if nothing is given.

    Args:
      hosts: "I/N" where the machines do not know of each other.
      coordinator: "HOST:PORT" of process 0, or "auto" where JAX finds the processes by
        itself (a TPU pod, Slurm); starts jax.distributed.
      num_processes: with "HOST:PORT".
      process_id: with "HOST:PORT".

    Raises:
      UserError: if they contradict each other.
    """
    if hosts and coordinator:
        raise UserError("give --hosts or --coordinator, not both")
    if hosts:
        if not (match := re.fullmatch(r"(\d+)/(\d+)", hosts)):
            raise UserError(f"--hosts is {hosts!r}; give I/N, such as 0/4")
        return int(match[1]), int(match[2])
    join(coordinator, num_processes, process_id)
    return jax.process_index(), jax.process_count()


def load_here(name: str, max_length: int, batch_size: int, **settings) -> TextEncoder:
    """Returns an encoder that works on all devices of this machine, and no other's.

    Its weights are spread over them, and so is every batch. Its `encode` gives
    bfloat16, and takes batches of `batch_size` rows.

    Args:
      name: of the encoder.
      max_length: tokens per caption.
      batch_size: a multiple of the number of devices.
      settings: further arguments of `load_encoder`.

    Raises:
      UserError: as `load_encoder`, or if the batches cannot be split.
    """
    mesh = make_mesh(MeshConfig(data=1, fsdp=-1), jax.local_devices())
    if batch_size < 1 or batch_size % mesh.size:
        raise UserError(
            f"--batch_size is {batch_size}; it must be a multiple of {mesh.size}, the "
            "number of this machine's devices"
        )
    encoder = load_encoder(
        name,
        max_length,
        find_weights=find_weights,
        open_weights=open_weights,
        place=place_on(mesh),
        **settings,
    )
    encode = encode_on(encoder, mesh)
    return encoder._replace(encode=lambda tokens: encode(to_global(tokens, mesh)))
