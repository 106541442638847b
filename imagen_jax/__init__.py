"""Imagen (arXiv:2205.11487) in JAX: text to 64, 256 and 1024 pixel pictures.

A frozen text encoder, a 64 pixel base diffusion model and two super-resolution models,
each trained by itself by one jitted, sharded step, then sampled as a cascade.

The rooms, in the order of imports (a room imports only from lines above its own):

  interfaces config ...   containers, settings and errors that all rooms share
  diffusion    the maths of noise, loss, guidance and samplers: pure, float32
  models       the networks; the only room that knows Flax
  parallel     device mesh, partition rules, host batch -> global array
  weights      readers and writers of tensor files
  data         disk -> uint8 batches and stored text embeddings
  text         tokenizers and text encoders
  features     networks that describe pictures, weights from elsewhere
  metrics      distances and scores of pictures, and their reference files
  stage checkpoint bundle   one stage of the cascade; its state and model on disk
  sampling     a jitted sampler for each resolution, and the cascade
  pipeline     one call from prompts to pictures, for every tool that samples
  training     train state, train step, train loop
  embedding evaluation planning app      jobs and tools around them
  train sample embed evaluate ...        commands, `python -m imagen_jax.NAME`

From the command to the maths is three hops:

  train:   train.py -> training/loop.py -> training/step.py -> diffusion/loss.py
  sample:  sample.py -> pipeline.py -> sampling/cascade.py -> sampling/sampler.py
           -> diffusion/samplers.py

Importing this package loads nothing else: import the module that you need. `load`
imports what it needs when it is called.
"""

from typing import TYPE_CHECKING, Any

from imagen_jax.version import __version__

if TYPE_CHECKING:
    import imagen_jax.pipeline

__all__ = ["__version__", "load"]


def load(*folders: Any, **settings: Any) -> "imagen_jax.pipeline.Pipeline":
    """Returns a cascade, ready to draw; see `imagen_jax.loading.load`.

    Args:
      *folders: a bundle of a whole cascade, or workdirs or bundles of its stages, from
        the base up.
      **settings: embeddings, encoder_weights, mesh, resident, say.
    """
    from imagen_jax.loading import load

    return load(*folders, **settings)
