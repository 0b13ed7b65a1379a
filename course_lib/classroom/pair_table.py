"""A table of pairs that is asked like a GPT: the simplest model that has read the same text."""

from collections.abc import Iterable

import mlx.core as mx
import numpy as np

from course_lib.model.gpt import GPTConfig


class PairTable:
    """Counts of the pairs in some batches; an id that is rare leans on how common the next one is.

    config: that of the GPT which it stands beside. It answers wherever only its `hidden` and head are asked.
    strength: how many counts the shares of single ids are worth; of 30, 100, 300 and 1,000 the best on held-out text.
    """

    def __init__(self, config: GPTConfig, batches: Iterable[tuple[mx.array, mx.array]], strength: float = 100):
        self.config = config
        pairs = np.zeros((config.vocab_size, config.vocab_size))
        for inputs, targets in batches:
            np.add.at(pairs, (np.array(inputs), np.array(targets)), 1)
        shares = (pairs.sum(axis=0) + 1) / (pairs.sum() + len(pairs))
        chances = (pairs + strength * shares) / (pairs.sum(axis=1, keepdims=True) + strength)
        self._log_p = mx.array(np.log(chances).astype(np.float32))

    def hidden(self, ids: mx.array, caches: list | None = None) -> mx.array:
        """The ids themselves: all that a table of pairs knows of what came before."""
        return ids

    def head(self, ids: mx.array) -> mx.array:
        """Log-probabilities of what follows each id: (..., vocab_size)."""
        return self._log_p[ids]
