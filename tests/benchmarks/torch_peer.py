"""Both models in eager PyTorch, forward and loss, with the weights of ours: what `bench_gpu.py` times beside them.

Every product, norm and rotation is an operation of its own. As in ours, weights are float32, and cast where they are
used; all but the loss is in one number type. Attention is PyTorch's fused one: `is_causal=True` where a block looks
back as far as the text goes; where its window is short, a mask (T, T), since that function has no windows. With a mask
CUDA cannot take FlashAttention, and all T × T scores are computed. All logits are in memory at once.

Needs torch, which the course does not; `tests/test_torch_peer.py` compares loss and gradients with ours.
Source: nanochat (October 2025), and nanochat (July 2026), commit 92d63d4.
"""

import mlx.core as mx
import numpy as np
import torch
import torch.nn.functional as F
from mlx.utils import tree_flatten

from course_lib.model.config2026 import GPT2026Config
from course_lib.model.gpt import GPT
from course_lib.model.kinds import windows_of


class Peer:
    """The model of the year that `model` is of. weights: copies of its own, by their names; dtype: to compute in."""

    def __init__(self, model: GPT, device: str, dtype: torch.dtype):
        self.config, self.dtype, self.device = model.config, dtype, device
        self.later = isinstance(model.config, GPT2026Config)
        self.weights = {name: self.tensor(array).requires_grad_() for name, array in tree_flatten(model.parameters())}
        T, D = self.config.sequence_len, self.config.head_dim
        positions = torch.arange(T, device=device)
        angles = positions[:, None] / self.config.rope_base ** (torch.arange(0, D, 2, device=device) / D)
        self.cos, self.sin = angles.cos().to(dtype), angles.sin().to(dtype)  # (T, D / 2)
        behind = positions[:, None] - positions
        self.windows = windows_of(self.config)
        self.masks = {n: (behind >= 0) & (behind <= n) for n in set(self.windows) if n < T - 1}

    def tensor(self, array: mx.array) -> torch.Tensor:
        """A copy on the device."""
        return torch.tensor(np.array(array), device=self.device)

    def weight(self, name: str) -> torch.Tensor:
        """In the type to compute in."""
        return self.weights[name].to(self.dtype)

    def linear(self, x: torch.Tensor, name: str) -> torch.Tensor:
        """x Wᵀ."""
        return F.linear(x, self.weight(f"{name}.weight"))

    def rows(self, ids: torch.Tensor, name: str) -> torch.Tensor:
        """Of a table, by ids (B, T)."""
        return F.embedding(ids, self.weights[f"{name}.weight"]).to(self.dtype)

    def norm(self, x: torch.Tensor) -> torch.Tensor:
        """RMSNorm without a weight."""
        return F.rms_norm(x, x.shape[-1:], eps=self.config.norm_eps)

    def heads(self, x: torch.Tensor) -> torch.Tensor:
        """(B, T, H · D) -> (B, H, T, D)."""
        return x.view(*x.shape[:2], -1, self.config.head_dim).transpose(1, 2)

    def turned(self, x: torch.Tensor) -> torch.Tensor:
        """Rotary positions of (B, H, T, D), then QK norm and, in 2026, a gain."""
        cos, sin = self.cos[: x.shape[2]], self.sin[: x.shape[2]]
        a, b = x.chunk(2, dim=-1)
        x = self.norm(torch.cat([a * cos + b * sin, b * cos - a * sin], dim=-1))
        return 1.2 * x if self.later else x

    def attention(self, x: torch.Tensor, name: str, window: int, own: torch.Tensor | None) -> torch.Tensor:
        """x: (B, T, n_embd); own: (B, T, n_kv_head · D), values by the tokens' ids."""
        q, k, v = (self.heads(self.linear(x, f"{name}.c_{letter}")) for letter in "qkv")
        if own is not None:
            gate = 3 * torch.sigmoid(self.linear(x[..., :12], f"{name}.ve_gate"))  # (B, T, n_kv_head)
            v = v + self.heads(own) * gate.transpose(1, 2)[..., None]
        T, shared = x.shape[1], q.shape[1] > k.shape[1]
        mask = None if window >= T - 1 else self.masks[window][:T, :T]
        q, k = self.turned(q), self.turned(k)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None, enable_gqa=shared)
        return self.linear(y.transpose(1, 2).reshape(x.shape), f"{name}.c_proj")

    def block(self, x: torch.Tensor, n: int, own: torch.Tensor | None = None) -> torch.Tensor:
        """Attention, then an MLP with ReLU²."""
        name = f"transformer.h.{n}"
        x = x + self.attention(self.norm(x), f"{name}.attn", self.windows[n], own)
        y = F.relu(self.linear(self.norm(x), f"{name}.mlp.c_fc")).square()
        return x + self.linear(y, f"{name}.mlp.c_proj")

    def hidden(self, ids: torch.Tensor) -> torch.Tensor:
        """What the head reads, (B, T, n_embd), of October 2025."""
        x = self.norm(self.rows(ids, "transformer.wte"))
        for n in range(self.config.n_layer):
            x = self.block(x, n)
        return self.norm(x)

    def hidden_2026(self, ids: torch.Tensor) -> torch.Tensor:
        """The same of July 2026: with smear, shares of the stream and the embedding, own values and backout."""
        e = self.norm(self.rows(ids, "transformer.wte"))
        gate = self.weight("smear_lambda") * torch.sigmoid(self.linear(e[:, 1:, :24], "smear_gate"))
        x = x0 = torch.cat([e[:, :1], e[:, 1:] + gate * e[:, :-1]], dim=1)
        r, z, after = self.weight("resid_lambdas"), self.weight("x0_lambdas"), []
        for n in range(self.config.n_layer):
            own = self.rows(ids, f"value_embeds.{n}") if f"value_embeds.{n}.weight" in self.weights else None
            x = self.block(r[n] * x + z[n] * x0, n, own)
            after.append(x)
        return self.norm(x - self.weight("backout_lambda") * after[len(after) // 2])

    def loss(self, ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy in nats of targets (B, T) that are not -1; computed in float32."""
        x = self.hidden_2026(ids) if self.later else self.hidden(ids)
        logits, c = self.linear(x, "lm_head")[..., : self.config.vocab_size].float(), self.config.softcap
        return F.cross_entropy((c * torch.tanh(logits / c)).flatten(0, 1), targets.flatten().long(), ignore_index=-1)

    def passes(self, ids: torch.Tensor, targets: torch.Tensor) -> float:
        """Forward and backward; the loss, once the device has done both."""
        for weight in self.weights.values():
            weight.grad = None
        loss = self.loss(ids, targets)
        loss.backward()
        return loss.item()  # waits for all that the device was given before
