"""Readers of tensor files; what comes out is numpy, one tensor at a time.

folder        opens weights of any form: the module that others use
hub           finds them on this machine or on the Hugging Face hub
lazy          the mapping that reads a tensor when it is asked for
safetensors   the format of the Hugging Face hub
torch_pickle  torch's older .bin files, and torch_unpickler, which runs nothing
t5x           the checkpoints of T5X: msgpack and zarr
"""
