"""The numbers of nanochat's GPT of July 2026, and its starting values.

Source: nanochat (July 2026), commit 92d63d4.

Written by hand; chapter 21 uses it.
"""

import math
from dataclasses import dataclass, field

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_unflatten

from course_lib.model import refusals
from course_lib.model.gpt import GPTConfig


@dataclass(frozen=True)
class GPT2026Config(GPTConfig):
    """The numbers that make a GPT2026. Raises CourseError for numbers that do not fit together.

    window_pattern: for each block in turn S (a short window) or L (all that came before); the last
    block is L in any case.
    """

    vocab_size: int = 32768
    rope_base: float = field(default=100_000.0, kw_only=True)
    norm_eps: float = field(default=1e-5, kw_only=True)
    softcap: float = field(default=15.0, kw_only=True)
    window_pattern: str = "SSSL"

    def __post_init__(self):
        super().__post_init__()
        refusals.check_2026(self)

    @classmethod
    def from_depth(
        cls,
        depth: int,
        vocab_size: int = 32768,
        sequence_len: int = 2048,
        n_kv_head: int | None = None,
        aspect_ratio: int = 64,
        head_dim: int = 128,
        window_pattern: str = "SSSL",
    ) -> "GPT2026Config":
        """nanochat's model with `depth` blocks: n_embd 64 · depth, rounded up to whole heads of 128."""
        refusals.at_least_one(depth=depth, aspect_ratio=aspect_ratio, head_dim=head_dim)
        n_head = math.ceil(aspect_ratio * depth / head_dim)
        return cls(
            sequence_len=sequence_len,
            vocab_size=vocab_size,
            n_layer=depth,
            n_head=n_head,
            n_kv_head=n_kv_head or n_head,
            n_embd=n_head * head_dim,
            window_pattern=window_pattern,
        )

    @property
    def padded_vocab_size(self) -> int:
        """Rows of the tables: the vocabulary, up to a multiple of 64, which is kinder to a GPU."""
        return -(-self.vocab_size // 64) * 64

    @property
    def windows(self) -> list[int]:
        """For each block, how many keys before its own a query sees at most."""
        short = 128 * math.ceil(self.sequence_len / 4 / 128)  # whole tiles of 128
        sizes = {"S": min(short, self.sequence_len), "L": self.sequence_len}
        pattern = self.window_pattern * self.n_layer
        return [sizes[letter] for letter in pattern[: self.n_layer - 1]] + [self.sequence_len]

    @property
    def value_layers(self) -> list[int]:
        """The blocks with a table of values: every second one, the last among them."""
        return [n for n in range(self.n_layer) if n % 2 == (self.n_layer - 1) % 2]


def init_weights_2026(model: nn.Module, seed: int) -> None:
    """nanochat's starting values, for a GPT2026.

    N(0, 0.8²) for wte, N(0, 0.001²) for lm_head, zero for every c_proj. The other matrices and the
    value tables are uniform up to √3/√n_embd, c_fc up to 0.4 of that, the gates from 0 to 0.02. The
    residual stream's shares fall from 1.15 to 1.05, the embedding's from 0.2 to 0.05.
    """
    config, weights = model.config, tree_flatten(model.parameters())
    keys = mx.random.split(mx.random.key(seed), len(weights))
    bound = math.sqrt(3 / config.n_embd)  # a standard deviation of 1/√n_embd
    new = {
        "resid_lambdas": mx.linspace(1.15, 1.05, config.n_layer),
        "x0_lambdas": mx.linspace(0.2, 0.05, config.n_layer),
        "smear_lambda": mx.zeros(1),
        "backout_lambda": mx.full((1,), 0.2),
    }
    for (name, weight), key in zip(weights, keys, strict=True):
        if "wte" in name or "lm_head" in name:
            new[name] = (0.8 if "wte" in name else 0.001) * mx.random.normal(weight.shape, key=key)
        elif "c_proj" in name:
            new[name] = mx.zeros(weight.shape)
        elif "gate" in name:
            new[name] = mx.random.uniform(0, 0.02, weight.shape, key=key)
        elif weight.ndim == 2:
            high = 0.4 * bound if "c_fc" in name else bound
            new[name] = mx.random.uniform(-high, high, weight.shape, key=key)
    model.update(tree_unflatten(list(new.items())))
