"""Causal self-attention with rotary positions, QK norm and grouped keys and values.

Exported from notebooks/07_attention.ipynb; edit it there.
"""

import mlx.core as mx
import mlx.nn as nn

from course_lib.host.errors import CourseError
from course_lib.model.mask import causal_mask
from course_lib.model.products import project

# ---- 3. Positions as rotations


def inverse_frequencies(head_dim: int, base: float = 10000.0) -> mx.array:
    """Positions per radian of rotation for each pair of numbers: (head_dim / 2,), 1 … below `base`.

    A whole turn takes 2π times as many.
    Raises CourseError for an odd head_dim.
    """
    if head_dim < 2 or head_dim % 2:
        raise CourseError(f"head_dim={head_dim}: rotary positions turn pairs of numbers; make it an even number")
    return base ** (mx.arange(0, head_dim, 2, dtype=mx.float32) / head_dim)


def rotate(x: mx.array, w: mx.array, offset: int | mx.array = 0) -> mx.array:
    """Turn each pair (x[i], x[i + D/2]) by -position / w[i] radians (RoPE: Su et al., 2021).

    x: (B, H, T, D), whose first position is `offset`, or (B,) of them, one for each text;
    w: (D/2,), the inverse frequencies. Sign and halves are those of nanochat (October 2025).
    """
    return mx.fast.rope(x, x.shape[-1], traditional=False, base=None, scale=1.0, offset=offset, freqs=-w)


# ---- 4. QK norm


def rms_norm(x: mx.array, eps: float = 1e-5) -> mx.array:
    """x / sqrt(mean(x²) + eps) over the last axis, no weight (Zhang and Sennrich, 2019)."""
    return mx.fast.rms_norm(x, None, eps)


# ---- 8. The class


class Linear(nn.Linear):
    """y = x Wᵀ without a bias, computed in the type of x; the weight (out, in) keeps its own."""

    def __init__(self, input_dims: int, output_dims: int):
        super().__init__(input_dims, output_dims, bias=False)

    def __call__(self, x: mx.array) -> mx.array:
        return project(x, self.weight)


class CausalSelfAttention(nn.Module):
    """Attention of `n_head` query heads to `n_kv_head` heads of keys and values.

    (B, T, n_embd) -> the same. n_kv_head: n_head for MHA, a divisor of it for GQA, 1 for MQA; query
    head h reads kv head h // (n_head / n_kv_head).
    Raises CourseError for numbers that do not divide, or an odd n_embd / n_head.
    """

    def __init__(
        self,
        n_embd: int,
        n_head: int,
        n_kv_head: int,
        rope_base: float = 10000.0,
        norm_eps: float = 1e-5,
    ):
        super().__init__()
        if min(n_embd, n_head, n_kv_head) < 1 or n_embd % n_head or n_head % n_kv_head:
            raise CourseError(
                f"n_embd={n_embd}, n_head={n_head}, n_kv_head={n_kv_head}: expected n_embd to be a "
                "multiple of n_head, and n_head a multiple of n_kv_head; change one of them"
            )
        self.head_dim, self.norm_eps = n_embd // n_head, norm_eps
        self.scale = self.head_dim**-0.5
        self.c_q = Linear(n_embd, n_head * self.head_dim)
        self.c_k = Linear(n_embd, n_kv_head * self.head_dim)
        self.c_v = Linear(n_embd, n_kv_head * self.head_dim)
        self.c_proj = Linear(n_embd, n_embd)
        # The underscore keeps these out of the parameters: not trained, counted or saved.
        self._inverse_frequencies = inverse_frequencies(self.head_dim, rope_base)

    def __call__(self, x: mx.array, cache=None) -> mx.array:
        """x: (B, T, n_embd), the T positions after those that the cache holds.

        cache: keeps keys and values: `offset`, `update_and_fetch(k, v)`; None for a whole text. Its
        offset is an int, or (B,) where the texts of a batch have different lengths.
        """
        return self.mix(*self.heads(x), cache)

    def heads(self, x: mx.array) -> tuple[mx.array, mx.array, mx.array]:
        """Queries, keys and values of x (B, T, n_embd): (B, heads, T, head_dim) each."""
        linears = self.c_q, self.c_k, self.c_v
        return tuple(linear(x).reshape(*x.shape[:2], -1, self.head_dim).transpose(0, 2, 1, 3) for linear in linears)

    def mix(self, q: mx.array, k: mx.array, v: mx.array, cache=None) -> mx.array:
        """(B, T, n_embd) of queries, keys and values as `heads` makes them."""
        offset, T = 0 if cache is None else cache.offset, q.shape[2]
        q, k = (rms_norm(rotate(a, self._inverse_frequencies, offset), self.norm_eps) for a in (q, k))
        if cache is not None:
            k, v = cache.update_and_fetch(k, v)  # (B, n_kv_head, S, D)
        mask = self.mask(cache, offset, T, k.shape[2])
        y = mx.fast.scaled_dot_product_attention(q, k, v, scale=self.scale, mask=mask)  # (B, H, T, D)
        return self.c_proj(y.transpose(0, 2, 1, 3).flatten(2))

    def mask(self, cache, offset: int | mx.array, T: int, S: int) -> str | mx.array | None:
        """What T queries may see of S keys."""
        return causal_mask(offset, T, S)
