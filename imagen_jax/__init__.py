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
  stage checkpoint bundle   one stage of the cascade; its state and model on disk
  sampling     a jitted sampler for each resolution, and the cascade
  training     train state, train step, train loop
  embedding evaluation planning app      jobs and tools around them
  train sample embed evaluate ...        commands, `python -m imagen_jax.NAME`

From the command to the maths is three hops:

  train:   train.py -> training/loop.py -> training/step.py -> diffusion/loss.py
  sample:  sample.py -> sampling/cascade.py -> sampling/sampler.py
           -> diffusion/samplers.py

Importing this package loads nothing else: import the module that you need.
"""

from imagen_jax.version import __version__

__all__ = ["__version__"]
