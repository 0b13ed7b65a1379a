"""Counts of what follows longer contexts, and back-off from long contexts to short ones.

Exported from notebooks/01_names.ipynb; edit it there.
"""

from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from course_lib.names.bigram import CharTokenizer


def guesses(
    docs: list[str], tokenizer: CharTokenizer, max_len: int | None = None
) -> Iterator[tuple[tuple[int, ...], int]]:
    """Every guess in `docs`: all ids before it, BOS first, and the id that comes next.

    max_len: only the first guesses of each name.
    """
    for doc in docs:
        ids = tuple(tokenizer.encode(doc))
        for n in range(1, len(ids))[:max_len]:
            yield ids[:n], ids[n]


def count_contexts(docs: list[str], tokenizer: CharTokenizer, back: int) -> dict[tuple[int, ...], np.ndarray]:
    """How often each id follows each context of 0 to `back` ids: context -> counts (V,)."""
    table = defaultdict(lambda: np.zeros(tokenizer.vocab_size))
    for before, following in guesses(docs, tokenizer):
        for n in range(min(back, len(before)) + 1):
            table[before[len(before) - n :]][following] += 1
    return dict(table)


def backoff_probs(
    table: dict[tuple[int, ...], np.ndarray],
    before: tuple[int, ...],
    back: int,
    strength: float = 30.0,
) -> np.ndarray:
    """Probabilities (V,) of the id after `before`, from contexts of up to `back` ids.

    table: of count_contexts. strength: how many counts the next shorter context is worth.
    """
    vocab_size = len(table[()])
    probs = np.full(vocab_size, 1 / vocab_size)
    for n in range(min(back, len(before)) + 1):
        counts = table.get(before[len(before) - n :])
        if counts is None:
            break
        probs = (counts + strength * probs) / (counts.sum() + strength)
    return probs


def backoff_loss(
    table: dict[tuple[int, ...], np.ndarray],
    docs: list[str],
    tokenizer: CharTokenizer,
    back: int,
    strength: float = 30.0,
    max_len: int | None = None,
) -> float:
    """Mean negative log-likelihood of `docs` under back-off, in nats per guess."""
    chances = [
        backoff_probs(table, before, back, strength)[following]
        for before, following in guesses(docs, tokenizer, max_len)
    ]
    return -np.log(chances).mean().item()
