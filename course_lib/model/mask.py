"""What new positions may see, in the form that mx.fast.scaled_dot_product_attention takes.

Written by hand; chapters 07, 12 and 21 use it.
"""

import mlx.core as mx


def causal_mask(offset: int | mx.array, T: int, S: int, window: int | None = None) -> str | mx.array | None:
    """What T new positions may see of S: each the keys up to its own, or the `window` keys before it and its own.

    offset: where among the S the first of them stands; (B,) when that differs from text to text of a batch, which makes
    the mask (B, 1, T, S), else (T, S), True for what may be seen.
    """
    same = not isinstance(offset, mx.array)
    if same and (window is None or S <= window + 1):
        return "causal" if T > 1 else None  # a single query sees every key
    own = mx.array([offset] if same else offset)[:, None] + mx.arange(T)  # (B, T)
    own, keys = own[..., None], mx.arange(S)
    seen = keys <= own  # (B, T, S)
    if window is not None:
        seen = seen & (keys >= own - window)
    return seen[0] if same else seen[:, None]
