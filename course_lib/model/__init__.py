"""The GPT of nanochat at any depth.

Chapters 07 and 08 build it: `attention`, then `gpt`, which is the whole model. Start with `gpt`.
"""
