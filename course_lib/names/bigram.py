"""Names as ids, and a bigram model that counts: the loss to beat.

The ids are those of Andrej Karpathy's microGPT: characters in alphabetical order, then BOS, which
stands at both ends.

Exported from notebooks/01_names.ipynb; edit it there.
"""

import random
from itertools import pairwise

import mlx.core as mx

from course_lib.host.errors import CourseError
from course_lib.names.files import load_names as load_names

# ---- 2. From letters to ids


class CharTokenizer:
    """Characters to ids and back: 0, 1, … for `chars` in alphabetical order, then `bos`.

    docs: the texts whose characters it is to know. Raises CourseError when they have none.
    """

    def __init__(self, docs: list[str]):
        self.chars = sorted(set("".join(docs)))
        if not self.chars:
            raise CourseError("a tokenizer finds its characters in names, and got none; give it load_names()")
        self.id_of = {char: i for i, char in enumerate(self.chars)}
        self.bos = len(self.chars)
        self.vocab_size = len(self.chars) + 1

    def encode(self, name: str) -> list[int]:
        """Ids of `name` between two BOS: len(name) + 2. Raises CourseError for an unknown character."""
        for char in name:
            if char not in self.id_of:
                raise CourseError(f"{char!r} in {name!r} has no id; this tokenizer knows {''.join(self.chars)!r} only")
        return [self.bos, *(self.id_of[char] for char in name), self.bos]

    def decode(self, ids: list[int]) -> str:
        """Text of `ids`, every BOS dropped. Raises CourseError for an id outside 0 … vocab_size - 1."""
        for i in ids:
            if not 0 <= i < self.vocab_size:
                raise CourseError(f"{i} is not an id of this tokenizer; its ids go from 0 to {self.vocab_size - 1}")
        return "".join(self.chars[i] for i in ids if i != self.bos)


# ---- 3. Counting pairs


def bigrams(docs: list[str], tokenizer: CharTokenizer, max_len: int | None = None) -> list[tuple[int, int]]:
    """Every (id, next id) in `docs`: len(name) + 1 a name, or the first `max_len` of them.

    Raises CourseError for no names, an unknown character, or max_len below 1.
    """
    if not docs:
        raise CourseError("there are no names to look at; give at least one")
    if max_len is not None and max_len < 1:
        raise CourseError(f"max_len={max_len}, expected at least 1, or None for whole names")
    return [pair for doc in docs for pair in list(pairwise(tokenizer.encode(doc)))[:max_len]]


def bigram_counts(docs: list[str], tokenizer: CharTokenizer) -> mx.array:
    """How often each id follows each id: (V, V) ints, row = an id, column = the next.

    Raises CourseError as `bigrams` does.
    """
    counts = [[0] * tokenizer.vocab_size for _ in range(tokenizer.vocab_size)]
    for first, second in bigrams(docs, tokenizer):
        counts[first][second] += 1
    return mx.array(counts)


# ---- 5. Writing names


def bigram_sample(probs: mx.array, tokenizer: CharTokenizer, key: mx.array | None = None, max_len: int = 30) -> str:
    """A new name from the table `probs` (V, V), letter by letter, up to BOS or `max_len` letters.

    key: the random key; None takes MLX's own.
    """
    logits, ids = mx.log(probs), [tokenizer.bos]
    keys = [None] * max_len if key is None else mx.random.split(key, max_len)
    for step_key in keys:
        ids.append(mx.random.categorical(logits[ids[-1]], key=step_key).item())
        if ids[-1] == tokenizer.bos:
            break
    return tokenizer.decode(ids)


# ---- 6. How good is it? One number


def bigram_loss(probs: mx.array, docs: list[str], tokenizer: CharTokenizer, max_len: int | None = None) -> float:
    """Mean negative log-likelihood of `docs` under the table `probs` (V, V), in nats a guess.

    max_len: only the first guesses of each name. Infinite for a pair that has probability 0.
    Raises CourseError as `bigrams` does.
    """
    losses = (-mx.log(probs)).tolist()
    pairs = bigrams(docs, tokenizer, max_len)
    return sum(losses[first][second] for first, second in pairs) / len(pairs)


# ---- 7. Names it has never seen


def split_names(names: list[str], held_out: float = 0.1, seed: int = 42) -> tuple[list[str], list[str]]:
    """Training and held-out names: shuffled with `seed`, the share `held_out` cut off at the end.

    Each part gets at least one. Equal names may come to lie in both parts.
    Raises CourseError for fewer than two names or a share outside 0 < held_out < 1.
    """
    if len(names) < 2 or not 0 < held_out < 1:
        raise CourseError(f"cannot hold out {held_out} of {len(names)} names; give at least 2, 0 < held_out < 1")
    shuffled = list(names)
    random.Random(seed).shuffle(shuffled)
    cut = min(max(round(len(names) * (1 - held_out)), 1), len(names) - 1)
    return shuffled[:cut], shuffled[cut:]


def bigram_probs(docs: list[str], tokenizer: CharTokenizer, smoothing: float = 1.0) -> mx.array:
    """Bigram model of `docs`: (V, V), row x = probabilities of the next id, counts + `smoothing`.

    Raises CourseError for a negative smoothing, for 0 when an id never occurs, or as `bigrams`.
    """
    if not 0 <= smoothing < float("inf"):
        raise CourseError(f"smoothing={smoothing}, expected 0 or more")
    counts = bigram_counts(docs, tokenizer) + smoothing
    sums = counts.sum(axis=1, keepdims=True)  # (V, 1)
    if smoothing == 0 and sums.min().item() == 0:
        missing = tokenizer.chars[sums.argmin().item()]
        raise CourseError(f"{missing!r} is in no name, so nothing says what follows it; use smoothing > 0")
    return counts / sums
