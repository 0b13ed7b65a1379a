"""The GPT of nanochat (July 2026): the one of October 2025 plus some new ideas.

What is new: the stream and the embedding reach each block in shares that are learned; each token is
smeared with the one before it; a share of what it held half-way up is taken out at the end; every
second block has a table of values of its own; most blocks look back through a short window; queries
and keys are longer; rotary positions turn more slowly.

Source: nanochat (July 2026), commit 92d63d4; the parameters have its names.

Exported from notebooks/21_nanochat_2026.ipynb; edit it there.
"""

import mlx.core as mx
import mlx.nn as nn

from course_lib import backend
from course_lib.model.attention import CausalSelfAttention, Linear, rms_norm
from course_lib.model.config2026 import GPT2026Config, init_weights_2026
from course_lib.model.embedding import look_up
from course_lib.model.gpt import GPT, Block
from course_lib.model.mask import causal_mask


class Attention2026(CausalSelfAttention):
    """CausalSelfAttention with a window, sharper scores, and in some blocks own values."""

    gain = 1.2  # of queries and of keys

    def __init__(self, config: GPT2026Config, layer: int):
        sizes = config.n_embd, config.n_head, config.n_kv_head
        super().__init__(*sizes, config.rope_base, config.norm_eps)
        self.scale *= self.gain**2
        self.window = config.windows[layer]
        if layer in config.value_layers:
            self.ve_gate = Linear(12, config.n_kv_head)

    def __call__(self, x: mx.array, cache=None, own: mx.array | None = None) -> mx.array:
        """x: (B, T, n_embd); own: (B, T, n_kv_head · head_dim), values by the tokens' ids."""
        q, k, v = self.heads(x)
        if own is not None:
            gate = 3 * mx.sigmoid(self.ve_gate(x[..., :12]))  # (B, T, n_kv_head)
            own = own.reshape(*gate.shape, self.head_dim) * gate[..., None]
            v = v + own.transpose(0, 2, 1, 3)
        return self.mix(q, k, v, cache)

    def mask(self, cache, offset: int | mx.array, T: int, S: int) -> str | mx.array | None:
        """What T queries may see of S keys; a cache leaves out those beyond the window."""
        place = S - T if isinstance(offset, int) else cache.place
        return causal_mask(place, T, S, self.window)


class Block2026(Block):
    """A Block with the attention of 2026."""

    def __init__(self, config: GPT2026Config, layer: int):
        super().__init__(config)
        self.attn = Attention2026(config, layer)


class GPT2026(GPT):
    """The model: ids to logits, or to a loss; it begins with `init_weights_2026(model, seed=0)`."""

    shares = "smear_gate", "smear_lambda", "backout_lambda", "resid_lambdas", "x0_lambdas"

    def __init__(self, config: GPT2026Config, recompute: bool = False):
        nn.Module.__init__(self)
        self.config, self.recompute = config, recompute
        V, L, tables = config.padded_vocab_size, config.n_layer, config.value_layers
        self.transformer = nn.Module()
        self.transformer.wte = nn.Embedding(V, config.n_embd)
        self.transformer.h = [Block2026(config, n) for n in range(L)]
        kv_dim, none = config.n_kv_head * config.head_dim, nn.Module
        self.value_embeds = [nn.Embedding(V, kv_dim) if n in tables else none() for n in range(L)]
        self.smear_gate = Linear(24, 1)
        self.smear_lambda, self.backout_lambda = mx.zeros(1), mx.zeros(1)
        self.resid_lambdas, self.x0_lambdas = mx.zeros(L), mx.zeros(L)
        self.lm_head = Linear(config.n_embd, V)
        init_weights_2026(self, seed=0)  # fills what is 0 so far

    @property
    def head_weight(self) -> mx.array:
        """The head's matrix (vocab_size, n_embd), without the padding."""
        return self.lm_head.weight[: self.config.vocab_size]

    def embed(self, ids: mx.array) -> mx.array:
        """(B, T) -> (B, T, n_embd), normed."""
        x = look_up(self.transformer.wte.weight, ids).astype(backend.compute_dtype())
        return rms_norm(x, self.config.norm_eps)

    def smear(self, ids: mx.array, cache=None) -> mx.array:
        """Embeddings, each with a share of the one before it: (B, T) -> (B, T, n_embd)."""
        e, first = self.embed(ids), id_before(ids, cache)
        before_first = self.embed(mx.maximum(first, 0)) * (first >= 0)[..., None]
        before = mx.concatenate([before_first, e[:, :-1]], axis=1)
        gate = self.smear_lambda.astype(e.dtype) * mx.sigmoid(self.smear_gate(e[..., :24]))
        return e + gate * before  # (B, T, 1) times (B, T, n_embd)

    def hidden(self, ids: mx.array, cache: list | None = None) -> mx.array:
        """What the head reads, (B, T, n_embd), of ids that are not checked.

        cache: one for each block, and one for the ids, as in `KVCache.layers`.
        """
        L, eps = self.config.n_layer, self.config.norm_eps
        *caches, of_ids = cache or [None] * (L + 1)
        x = x0 = middle = self.smear(ids, of_ids)
        r, z = self.resid_lambdas.astype(x.dtype), self.x0_lambdas.astype(x.dtype)
        for n, block in enumerate(self.transformer.h):
            if self.recompute and cache is None:
                block = nn.utils.checkpoint(block)
            has_table = n in self.config.value_layers
            own = look_up(self.value_embeds[n].weight, ids).astype(x.dtype) if has_table else None
            x = block(r[n] * x + z[n] * x0, caches[n], own)
            middle = x if n == L // 2 else middle
        return rms_norm(x - self.backout_lambda.astype(x.dtype) * middle, eps)


def id_before(ids: mx.array, cache=None) -> mx.array:
    """(B, 1), the id before the first of each row of ids (B, T); -1 where there is none.

    cache: gives back all ids so far, these included; None for a text that begins here.
    """
    offset = 0 if cache is None else cache.offset
    if cache is not None:
        so_far = cache.update_and_fetch(ids[:, None, :, None])[0][:, 0, :, 0]  # (B, S)
    if isinstance(offset, int):
        return so_far[:, offset - 1 : offset] if offset else mx.full((len(ids), 1), -1, ids.dtype)
    found = mx.take_along_axis(so_far, mx.maximum(offset - 1, 0)[:, None], axis=1)
    return mx.where(offset[:, None] > 0, found, -1)
