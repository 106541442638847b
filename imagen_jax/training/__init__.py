"""Training one stage: state, optimizer, step and the loop.

From the command to the maths: `train.py` -> `loop.py` -> `step.py` ->
`diffusion/loss.py`.
"""
