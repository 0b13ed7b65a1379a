"""The GPT of nanochat at any depth.

Chapters 07 and 08 build it: `attention`, `head`, and `gpt`, the whole model; start there. By hand: mask, loss, sizes.
"""
