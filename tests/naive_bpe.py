"""Byte pair encoding as its definition says, slow and without a shortcut: the truth that the tests compare with."""

from collections import Counter
from collections.abc import Iterable
from itertools import pairwise

import regex


def train(texts: Iterable[str], vocab_size: int, pattern: str) -> dict[bytes, int]:
    """Bytes of each token -> its id: 256 bytes, then the commonest pair, again and again, up to `vocab_size` ids.

    Everything is counted anew for each merge. Ties go to the smaller (left id, right id).
    """
    pieces = Counter(piece for text in texts for piece in regex.findall(pattern, text))
    words = [(list(piece.encode()), count) for piece, count in pieces.items()]
    tokens = [bytes([byte]) for byte in range(256)]
    while len(tokens) < vocab_size:
        counts: Counter[tuple[int, int]] = Counter()
        for ids, count in words:
            for pair in pairwise(ids):
                counts[pair] += count
        if not counts:
            break
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        tokens.append(tokens[best[0]] + tokens[best[1]])
        words = [(merged(ids, best, len(tokens) - 1), count) for ids, count in words]
    return {token: rank for rank, token in enumerate(tokens)}


def merged(ids: list[int], pair: tuple[int, int], new: int) -> list[int]:
    """`ids` with `new` in place of each `pair`, from left to right."""
    out: list[int] = []
    n = 0
    while n < len(ids):
        found = tuple(ids[n : n + 2]) == pair
        out.append(new if found else ids[n])
        n += 2 if found else 1
    return out


def encode(text: str, ranks: dict[bytes, int], pattern: str) -> list[int]:
    """Ids of `text`: in each piece, join the neighbours that make the token of the lowest rank, until none do."""
    ids = []
    for piece in regex.findall(pattern, text):
        parts = [bytes([byte]) for byte in piece.encode()]
        while len(parts) > 1:
            joined = [ranks.get(left + right, len(ranks)) for left, right in pairwise(parts)]
            lowest = min(joined)
            if lowest == len(ranks):
                break
            at = joined.index(lowest)
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        ids += [ranks[part] for part in parts]
    return ids
