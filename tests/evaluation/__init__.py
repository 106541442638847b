"""Tests of imagen_jax.evaluation and of the command imagen_jax.evaluate."""
