"""Weights in and out: models of other programs, ours for them, fewer bits for a number, several tokens in a pass.

Chapter 22 uses it; all is written by hand. `load` brings a model in from a folder or the hub, `out` writes one for
another program; start there. `gpt2`, `bits` and `speculative` stand for themselves.
"""
