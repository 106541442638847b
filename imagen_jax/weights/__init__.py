"""Readers of tensor files; what comes out is numpy.

safetensors   the format of the Hugging Face hub
"""
