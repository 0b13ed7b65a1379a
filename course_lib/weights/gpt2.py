"""GPT-2 (Radford et al., 2019): the model for the weights that transformers stores for it.

What is different from nanochat's model: learned positions in place of rotary ones, LayerNorm with weights in place of
RMSNorm, biases, GELU in place of ReLU², and a head that is the table of tokens itself. The engine and its KV cache work
with it.

Written by hand; chapter 22 uses it.
"""

from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn

from course_lib import backend
from course_lib.host.errors import CourseError
from course_lib.model import refusals
from course_lib.model.gpt import GPT
from course_lib.model.mask import causal_mask
from course_lib.model.products import project


@dataclass(frozen=True)
class GPT2Config:
    """The numbers that make a GPT-2; these make the smallest of the four. The heads share no keys."""

    sequence_len: int = 1024
    vocab_size: int = 50257
    n_layer: int = 12
    n_head: int = 12
    n_embd: int = 768
    norm_eps: float = 1e-5

    def __post_init__(self):
        refusals.check_sizes(self)  # ty: ignore[invalid-argument-type]  # it has the same names as a GPTConfig

    @property
    def n_kv_head(self) -> int:
        """Heads of keys and values, for the cache."""
        return self.n_head

    @property
    def head_dim(self) -> int:
        """Numbers of one attention head."""
        return self.n_embd // self.n_head


class Attention(nn.Module):
    """Causal self-attention: (B, T, n_embd) -> the same. One matrix makes queries, keys and values."""

    def __init__(self, config: GPT2Config):
        super().__init__()
        self.head_dim = config.head_dim
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd)

    def __call__(self, x: mx.array, cache=None) -> mx.array:
        B, T, C = x.shape
        q, k, v = (
            part.reshape(B, T, -1, self.head_dim).transpose(0, 2, 1, 3) for part in mx.split(self.c_attn(x), 3, axis=-1)
        )
        offset = 0 if cache is None else cache.offset
        if cache is not None:
            k, v = cache.update_and_fetch(k, v)
        mask = causal_mask(offset, T, k.shape[2])
        y = mx.fast.scaled_dot_product_attention(q, k, v, scale=self.head_dim**-0.5, mask=mask)
        return self.c_proj(y.transpose(0, 2, 1, 3).reshape(B, T, C))


class MLP(nn.Module):
    """Four times as wide, GELU in the form with tanh, and back."""

    def __init__(self, config: GPT2Config):
        super().__init__()
        self.c_fc = nn.Linear(config.n_embd, 4 * config.n_embd)
        self.c_proj = nn.Linear(4 * config.n_embd, config.n_embd)

    def __call__(self, x: mx.array) -> mx.array:
        return self.c_proj(nn.gelu_approx(self.c_fc(x)))


class Block(nn.Module):
    """Attention, then MLP; each adds what it makes of a normed copy of x."""

    def __init__(self, config: GPT2Config):
        super().__init__()
        self.ln_1, self.attn = nn.LayerNorm(config.n_embd, config.norm_eps), Attention(config)
        self.ln_2, self.mlp = nn.LayerNorm(config.n_embd, config.norm_eps), MLP(config)

    def __call__(self, x: mx.array, cache=None) -> mx.array:
        x = x + self.attn(self.ln_1(x), cache)
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    """Ids (B, T) to what the head reads (B, T, n_embd). A token's place is a vector that is added to its own."""

    def __init__(self, config: GPT2Config):
        super().__init__()
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.sequence_len, config.n_embd)
        self.h = [Block(config) for _ in range(config.n_layer)]
        self.ln_f = nn.LayerNorm(config.n_embd, config.norm_eps)

    def __call__(self, ids: mx.array, caches: list | None = None) -> mx.array:
        offset = 0 if caches is None else caches[0].offset
        places = mx.arange(ids.shape[1]) + (offset[:, None] if isinstance(offset, mx.array) else offset)
        x = (self.wte(ids) + self.wpe(places)).astype(backend.compute_dtype())
        for block, cache in zip(self.h, caches or [None] * len(self.h), strict=True):
            x = block(x, cache)
        return self.ln_f(x)


class GPT2(GPT):
    """The model: ids (B, T) to logits (B, T, vocab_size), float32. It is read, and not trained."""

    def __init__(self, config: GPT2Config):
        nn.Module.__init__(self)
        self.config = config
        self.transformer = Transformer(config)

    @property
    def head_weight(self) -> mx.array:
        """The table of tokens: a logit is how well a token's own vector fits."""
        return self.transformer.wte.weight

    def head(self, x: mx.array) -> mx.array:
        """Logits (…, vocab_size), float32, of (…, n_embd); nothing caps them."""
        return project(x, self.head_weight).astype(mx.float32)

    def loss(self, ids: mx.array, targets: mx.array, reduction: str = "none") -> mx.array:
        """As of GPT, with "none" alone."""
        if reduction != "none":
            raise CourseError('GPT-2 is not trained here; take its loss with reduction="none"')
        return super().loss(ids, targets, reduction)
