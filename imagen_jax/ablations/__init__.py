"""Ablations: the same small run with one thing changed, several times, compared.

`table` says what is changed, `arm` trains and draws one arm with the ordinary training
loop and sampler, `verdict` says whether a difference is seen.
"""
