"""The command `python -m imagen_jax.evaluate`: one file for each of its jobs.

A job's file is named as the job, with "_" for "-". The first line of its docstring is
the help text; `add_arguments(parser)` declares its flags, `run(args)` does the work.
Flags and wiring only: the work is in `imagen_jax.evaluation`, the figures are defined
in `imagen_jax.metrics`.
"""
