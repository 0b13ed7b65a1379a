"""Text becomes batches of ids: tokenizer, documents, datasets of shards, the loader that can resume.

Chapters 05 and 06 build it. Start with `tokenizer`, then `documents`, `dataset`, `dataloader` in this order; the other
modules are written by hand: corpora of the hub (`remote`), text as people have it (`own_text`, `text_file`), parquet
files, a tokenizer's input and files, the running Python's documentation, how to train a tokenizer on a dataset, sizes
in tokens.
"""
