"""Sampling: one compiled function per stage, and the cascade that chains them."""
