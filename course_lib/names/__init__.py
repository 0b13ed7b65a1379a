"""Part I, complete: names and their bigram, autograd, microGPT, batches.

Chapters 01 to 04 build it. Start with `bigram` and `counts`, then `autograd`, `microgpt`, `batching`.
By hand: `files`, which reads lists of names, `download`, of the well-known one, `fitting` and `refusals`.
"""
