"""The GPT of nanochat at any depth.

Chapters 07 and 08 build it: `attention`, and `gpt`, the whole model; start there. By hand, and explained in chapter 19:
`loss`, `activation` and `sizes`; `head` has the logits, `mask` who may see what, `refusals` what a model refuses.
"""
