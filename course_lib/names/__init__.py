"""Part I, complete: names and their bigram, autograd, microGPT, batches.

Chapters 01 to 04 build it, one module each. Start with `bigram`, then `autograd`, `microgpt`, `batching`.
By hand: `download`, of the well-known list.
"""
