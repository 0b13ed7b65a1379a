"""Text becomes batches of ids: tokenizer, documents, datasets of shards, the loader that can resume.

Chapters 05 and 06 build `tokenizer` and `split`, and show in small what `dataset` and `dataloader` do, both written by
hand. Read these four in this order. `best_fit` is chapter 21's other way to fill rows. The others, by hand too, bring
the text (`documents` and parquet files, `own_text`, the hub in `remote`, the running Python's documentation), train a
tokenizer on it, keep its files and count its tokens.
"""
