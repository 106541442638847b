"""Frozen text encoders: captions -> tokens -> hidden states.

encoder     the one interface to all of them, and the loading of one by name
catalog     the encoders known by name
cleaning    what is done to a caption first, in training and in sampling alike
tokenizer   captions -> ids and mask; tokenizer_* are the kinds of vocabulary
bert, clip, t5   the encoders, each a pure function of its parameters
t5x         T5's parameters from T5X checkpoints
network     which of them some weights are, its sizes and parameters
layers      what the encoders are made of
parameters  tensors of a checkpoint -> parameters, leaf by leaf
minilm      fetches the small BERT that the quickstart uses
"""
