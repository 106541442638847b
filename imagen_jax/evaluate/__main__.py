"""Runs `python -m imagen_jax.evaluate`."""

from imagen_jax.errors import run_command
from imagen_jax.evaluate.command import main

if __name__ == "__main__":
    run_command(main)
