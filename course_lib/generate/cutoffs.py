"""What is cut off before a token is drawn: top-k, found without sorting, and top-p.

Written by hand; chapter 12 uses it, and its exercises build both.
"""

import mlx.core as mx


def largest(logits: mx.array, k: int) -> tuple[mx.array, mx.array]:
    """The k largest of each row (B, V) from large to small, and their ids: (B, k) each.

    Only the k blocks of 64 with the largest maxima can hold them, since any other block has k maxima above it. On a
    CPU that takes half the time of mx.argpartition over all of 8 x 65,536 logits; for a single row it gains little.
    """
    B, V = logits.shape
    blocks = mx.pad(logits, ((0, 0), (0, -V % 64)), constant_values=-mx.inf).reshape(B, -1, 64)
    n = min(k, blocks.shape[1])
    best = mx.argpartition(-blocks.max(axis=-1), n - 1, axis=-1)[:, :n, None]  # (B, n, 1)
    values = mx.take_along_axis(blocks, best, axis=1).reshape(B, -1)  # (B, n * 64)
    ids = (best * 64 + mx.arange(64)).reshape(B, -1)
    found = mx.argpartition(-values, k - 1, axis=-1)[:, :k]
    values, ids = (mx.take_along_axis(array, found, axis=-1) for array in (values, ids))
    order = mx.argsort(-values, axis=-1)
    return mx.take_along_axis(values, order, axis=-1), mx.take_along_axis(ids, order, axis=-1)


def keep_top_k(logits: mx.array, k: int) -> mx.array:
    """-inf for all but the k largest of each row (B, V); equal ones at the edge all stay."""
    values, _ = largest(logits, k)
    return mx.where(logits >= values[:, -1:], logits, -mx.inf)


def keep_top_p(logits: mx.array, p: float) -> mx.array:
    """-inf for all but the likeliest that make up p together (nucleus: Holtzman et al., 2020).

    A token stays when those likelier than it have less than p in all.
    """
    ordered = -mx.sort(-logits, axis=-1)
    probs = mx.softmax(ordered, axis=-1)
    before = mx.cumsum(probs, axis=-1) - probs
    least = mx.where(before < p, ordered, mx.inf).min(axis=-1, keepdims=True)
    return mx.where(logits >= least, logits, -mx.inf)
