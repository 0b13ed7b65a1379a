"""GPT-2 (Radford et al., 2019), with the weights that transformers stores for it.

What is different from nanochat's model: learned positions in place of rotary ones, LayerNorm with weights in place of
RMSNorm, biases, GELU in place of ReLU², and a head that is the table of tokens itself. The engine and its KV cache work
with it.

Written by hand; chapter 22 uses it.
"""

from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import tiktoken

from course_lib import backend
from course_lib.data.tokenizer import SPECIAL_TOKENS, Tokenizer
from course_lib.host.errors import CourseError
from course_lib.model import refusals
from course_lib.model.mask import causal_mask
from course_lib.model.products import project
from course_lib.train.checkpoint import load_weights
from course_lib.weights.files import or_damaged, read_json
from course_lib.weights.safetensors_files import load_all
from course_lib.weights.tokenizers import GPT2_PATTERN, MOST_BYTES, byte_alphabet

# ---- the model


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


class GPT2(nn.Module):
    """The model: ids (B, T) to logits (B, T, vocab_size), float32."""

    def __init__(self, config: GPT2Config):
        super().__init__()
        self.config = config
        self.transformer = Transformer(config)

    def __call__(self, ids: mx.array, cache: list | None = None) -> mx.array:
        refusals.check_ids(self.config, ids, None, whole=cache is None)
        return self.head(self.hidden(ids, cache))

    def hidden(self, ids: mx.array, cache: list | None = None) -> mx.array:
        """What the head reads, (B, T, n_embd), of ids that are not checked."""
        return self.transformer(ids, cache)

    def head(self, x: mx.array) -> mx.array:
        """Logits (…, vocab_size), float32: how well each token's own vector fits (…, n_embd)."""
        return project(x, self.transformer.wte.weight).astype(mx.float32)


# ---- its files


class GPT2Tokenizer(Tokenizer):
    """GPT-2's tokenizer. It has one special token, <|endoftext|>, which stands for each of the course's nine."""

    def __init__(self, mergeable_ranks: dict[bytes, int]):
        super().__init__(mergeable_ranks, GPT2_PATTERN)
        self.bos = end = len(mergeable_ranks)
        self.vocab_size = end + 1
        self._special_ids = dict.fromkeys(SPECIAL_TOKENS, end)
        self.token_bytes = self.token_bytes[: self.vocab_size]
        self._encoding = tiktoken.Encoding(
            "gpt2", pat_str=GPT2_PATTERN, mergeable_ranks=mergeable_ranks, special_tokens={"<|endoftext|>": end}
        )


def load_gpt2(folder: Path) -> tuple[GPT2, GPT2Tokenizer]:
    """Model and tokenizer of a folder with config.json, model.safetensors and vocab.json, in float32.

    Raises CourseError for another model, and for files that are missing or do not fit together.
    """
    with or_damaged(folder):
        config = _config(read_json(folder / "config.json"))
        vocabulary, byte_of = read_json(folder / "vocab.json", MOST_BYTES), byte_alphabet()
        names = vocabulary.items() - {("<|endoftext|>", len(vocabulary) - 1)}
        ranks = {bytes(byte_of[character] for character in name): number for name, number in names}
        weights = _as_ours(load_all(folder))
    blocks = len({name.split(".")[2] for name in weights if name.startswith("transformer.h.")})
    tables = [weights.get(f"transformer.{name}.weight", mx.array(0)).shape for name in ("wte", "wpe")]
    said = [(config.vocab_size, config.n_embd), (config.sequence_len, config.n_embd)]
    if (blocks, tables) != (config.n_layer, said):  # before anything of that size is built
        raise CourseError(
            f"config.json of {folder} says {config.n_layer} layers and tables of {said}, its weights have {blocks} and "
            f"{tables}; fetch it again"
        )
    model = GPT2(config)
    load_weights(model, weights)
    return model, GPT2Tokenizer(ranks)


def _config(said: dict) -> GPT2Config:
    """The numbers of config.json. Raises CourseError for a variant of GPT-2."""
    expected = {"model_type": "gpt2", "activation_function": "gelu_new", "scale_attn_by_inverse_layer_idx": False}
    for name, value in expected.items():
        if said.get(name, value) != value:
            raise CourseError(f"config.json has {name}={said[name]!r:.40}, GPT-2 has {value!r}; take another folder")
    return GPT2Config(
        said["n_positions"],
        said["vocab_size"],
        said["n_layer"],
        said["n_head"],
        said["n_embd"],
        said["layer_norm_epsilon"],
    )


def _as_ours(arrays: dict[str, mx.array]) -> dict[str, mx.array]:
    """The arrays by our names, without the masks and the copy of the head that some files hold.

    A matrix is stored as (in, out) there: y = x W.
    """
    found = {}
    for name, array in arrays.items():
        name = name if name.startswith(("transformer.", "lm_head.")) else f"transformer.{name}"
        if name == "lm_head.weight" or name.endswith((".attn.bias", ".attn.masked_bias")):
            continue
        is_matrix = ".h." in name and array.ndim == 2
        found[name] = (array.T if is_matrix else array).astype(mx.float32)
    return found
