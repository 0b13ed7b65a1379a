"""Part I, complete: names and their bigram, autograd, microGPT, batches.

Chapters 01 to 04 build it, one module each. Start with `bigram`, then `autograd`, `microgpt`, `batching`.
By hand: `files`, which reads lists of names, and `download`, of the well-known one.
"""
