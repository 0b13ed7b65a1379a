"""The GPT of nanochat (October 2025), any size from one dial, the depth: names, logits, loss.

What is special about it: rotary positions, QK norm, norms without weights and one of them right
after the token embedding, ReLU² in the MLP, no biases, a head of its own that starts at zero,
capped logits.

Exported from notebooks/08_gpt.ipynb; edit it there.
"""

import math
from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_unflatten

from course_lib import backend
from course_lib.model import refusals
from course_lib.model.activation import relu_squared
from course_lib.model.attention import CausalSelfAttention, Linear, rms_norm
from course_lib.model.embedding import look_up
from course_lib.model.head import capped_logits
from course_lib.model.loss import fused_loss, row_losses

# ---- 1. One dial


@dataclass(frozen=True)
class GPTConfig:
    """The numbers that make a GPT. Raises CourseError for numbers that do not fit together."""

    sequence_len: int = 2048
    vocab_size: int = 65536
    n_layer: int = 12
    n_head: int = 6
    n_kv_head: int = 6
    n_embd: int = 768
    rope_base: float = 10000.0
    norm_eps: float = 1e-5
    softcap: float = 15.0

    def __post_init__(self):
        refusals.check_sizes(self)

    @property
    def head_dim(self) -> int:
        """Numbers of one attention head."""
        return self.n_embd // self.n_head

    @classmethod
    def from_depth(
        cls,
        depth: int,
        vocab_size: int = 65536,
        sequence_len: int = 2048,
        n_kv_head: int | None = None,
        aspect_ratio: int = 64,
        head_dim: int = 128,
    ) -> "GPTConfig":
        """nanochat's model with `depth` blocks: n_embd 64 · depth, heads of 128 where that divides.

        n_kv_head: by default as many as query heads. aspect_ratio: n_embd / depth, another one for
        a narrower or wider model; head_dim: about so many numbers per attention head.
        """
        refusals.at_least_one(depth=depth, aspect_ratio=aspect_ratio, head_dim=head_dim)
        n_embd = aspect_ratio * depth
        n_head = math.ceil(n_embd / head_dim)
        while n_embd % (2 * n_head):
            n_head -= 1
        n_kv_head = n_head if n_kv_head is None else n_kv_head
        return cls(sequence_len, vocab_size, depth, n_head, n_kv_head, n_embd)


# ---- 2. Blocks


class MLP(nn.Module):
    """Each position by itself: four times as wide, ReLU², and back. (B, T, n_embd) -> the same."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.c_fc = Linear(config.n_embd, 4 * config.n_embd)
        self.c_proj = Linear(4 * config.n_embd, config.n_embd)

    def __call__(self, x: mx.array) -> mx.array:
        return self.c_proj(relu_squared(self.c_fc(x)))


class Block(nn.Module):
    """Attention, then MLP; each adds what it makes of a normed copy of x, the residual stream."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.norm_eps = config.norm_eps
        self.attn = CausalSelfAttention(
            config.n_embd, config.n_head, config.n_kv_head, config.rope_base, config.norm_eps
        )
        self.mlp = MLP(config)

    def __call__(self, x: mx.array, *for_attention) -> mx.array:
        x = x + self.attn(rms_norm(x, self.norm_eps), *for_attention)
        return x + self.mlp(rms_norm(x, self.norm_eps))


class Transformer(nn.Module):
    """Ids (B, T) to what `lm_head` reads (B, T, n_embd), in the compute type of the device."""

    def __init__(self, config: GPTConfig, recompute: bool):
        super().__init__()
        self.norm_eps, self.recompute = config.norm_eps, recompute
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.h = [Block(config) for _ in range(config.n_layer)]

    def __call__(self, ids: mx.array, caches: list | None = None) -> mx.array:
        x = look_up(self.wte.weight, ids).astype(backend.compute_dtype())
        x = rms_norm(x, self.norm_eps)
        for n, block in enumerate(self.h):
            if caches is not None:
                x = block(x, caches[n])
            else:
                x = nn.utils.checkpoint(block)(x) if self.recompute else block(x)
        return rms_norm(x, self.norm_eps)


# ---- 4. The whole model


class GPT(nn.Module):
    """The model: ids to logits, or to a loss. It begins with `init_weights(model, seed=0)`.

    recompute: keep only what enters each block, and compute the rest again for the gradient: less
    memory, more time.
    """

    def __init__(self, config: GPTConfig, recompute: bool = False):
        super().__init__()
        self.config = config
        self.transformer = Transformer(config, recompute)
        self.lm_head = Linear(config.n_embd, config.vocab_size)
        init_weights(self, seed=0)

    def __call__(self, ids: mx.array, cache: list | None = None) -> mx.array:
        """Logits (B, T, vocab_size), float32, of ids (B, T).

        cache: one for each block, see CausalSelfAttention. Raises CourseError for ids outside the
        vocabulary, or more than sequence_len of them without a cache.
        """
        refusals.check_ids(self.config, ids, whole=cache is None)
        return self.head(self.hidden(ids, cache))

    def hidden(self, ids: mx.array, cache: list | None = None) -> mx.array:
        """What the head reads, (B, T, n_embd), of ids that are not checked."""
        return self.transformer(ids, cache)

    @property
    def head_weight(self) -> mx.array:
        """The head's matrix (vocab_size, n_embd)."""
        return self.lm_head.weight

    def head(self, x: mx.array) -> mx.array:
        """Logits (…, vocab_size) of (…, n_embd); `fused_loss` has their gradient written out."""
        return capped_logits(x, self.head_weight, self.config.softcap)

    def loss(self, ids: mx.array, targets: mx.array, reduction: str = "mean") -> mx.array:
        """Cross-entropy in nats of targets (B, T) that are not -1: "mean", "sum", or "none": (B, T).

        With no such target the mean is 0. "mean" and "sum" make their gradient at once: to evaluate,
        take "none".
        Raises CourseError as `__call__` does, and for targets that do not fit the ids.
        """
        refusals.check_reduction(reduction)
        refusals.check_ids(self.config, ids, targets)
        x = self.hidden(ids).reshape(-1, self.config.n_embd)  # (B T, n_embd)
        counts = (targets.reshape(-1) >= 0).astype(mx.float32)  # (B T,)
        targets_or_0 = mx.maximum(targets.reshape(-1), 0)
        if reduction == "none":
            losses = row_losses(self.head, x, targets_or_0, self.config.vocab_size)
            return (losses * counts).reshape(targets.shape)
        if reduction == "mean":
            counts = counts / mx.maximum(counts.sum(), 1)
        return fused_loss(x, self.head_weight, targets_or_0, counts, self.config.softcap)


def init_weights(model: GPT, seed: int) -> None:
    """nanochat's starting values: N(0, 1) for wte, zero for lm_head and every c_proj.

    The other matrices (fan_out, fan_in): N(0, s²) with s = 1/√fan_in · min(1, √(fan_out / fan_in)).
    """
    weights = tree_flatten(model.parameters())
    keys = mx.random.split(mx.random.key(seed), len(weights))
    new = []
    for (name, weight), key in zip(weights, keys, strict=True):
        if weight.ndim != 2:  # a gain or a bias keeps what its layer gave it
            continue
        fan_out, fan_in = weight.shape
        std = min(1, math.sqrt(fan_out / fan_in)) / math.sqrt(fan_in)
        if "wte" in name:
            std = 1.0
        if "c_proj" in name or "lm_head" in name:
            std = 0.0
        new.append((name, std * mx.random.normal(weight.shape, key=key)))
    model.update(tree_unflatten(new))
