"""Frozen text encoders: captions -> tokens -> last hidden states.

encoder     the one interface to all of them, and the choice by name
tokenizer   captions -> ids and mask
bert        the BERT encoder as a pure function
minilm      fetches the small BERT that the quickstart uses
"""
