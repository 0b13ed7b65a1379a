"""What new positions may see, in the form that mx.fast.scaled_dot_product_attention takes.

Written by hand; chapters 07 and 12 use it.
"""

import mlx.core as mx


def causal_mask(offset: int | mx.array, T: int, S: int) -> str | mx.array | None:
    """What the last T of S positions may see: each the keys up to its own.

    offset: where the first of them stands; (B,) when that differs from text to text of a batch, which makes the mask
    (B, 1, T, S), True for what may be seen.
    """
    if isinstance(offset, mx.array):
        own = offset[:, None] + mx.arange(T)  # (B, T)
        return (mx.arange(S) <= own[..., None])[:, None]
    return "causal" if T > 1 else None  # a single query sees every key
