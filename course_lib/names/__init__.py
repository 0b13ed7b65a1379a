"""Part I, complete: names and their bigram, autograd, microGPT, batches.

Chapters 01 to 04 build it. Start with `bigram` and `counts`, then `autograd`, `microgpt`, `batching`.
By hand: `download`, of the well-known list.
"""
