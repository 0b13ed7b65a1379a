"""microGPT: a GPT of 4,064 parameters that learns names, with its training loop and its sampler.

The model is that of Karpathy's microGPT (first revision): learned positions, RMSNorm without
weights, causal attention with four heads, an MLP with squared ReLU, no biases, an untied lm_head.

Exported from notebooks/03_microgpt.ipynb; edit it there.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle

import mlx.core as mx
import mlx.nn as nn

from course_lib.names.bigram import CharTokenizer
from course_lib.names.fitting import compiling_pays, fit
from course_lib.names.fitting import (
    cosine_decay as cosine_decay,
)  # for those who import it from here
from course_lib.names.refusals import check_length, check_sizes, check_temperature, check_training

# ---- 4. Three letters back: a window


def loss_fn(model: nn.Module, inputs: mx.array, targets: mx.array) -> mx.array:
    """Mean cross-entropy in nats per guess: targets (T,) or (B, T) ids -> scalar."""
    return nn.losses.cross_entropy(model(inputs), targets, reduction="mean")


def example(name: str, tokenizer: CharTokenizer, block_size: int) -> tuple[list[int], list[int]]:
    """Ids of a name that go in, and those that must come out; at most `block_size` of each."""
    ids = tokenizer.encode(name)[: block_size + 1]
    return ids[:-1], ids[1:]


# ---- 5. Attention: choosing where to look


@dataclass(frozen=True)
class MicroGPTConfig:
    """Sizes of a microGPT; the defaults give 4,064 parameters. `n_head` must divide `n_embd`."""

    n_embd: int = 16
    n_head: int = 4
    n_layer: int = 1
    block_size: int = 8
    vocab_size: int = 27

    def __post_init__(self):
        check_sizes(self)


class Attention(nn.Module):
    """Causal self-attention with several heads and no biases (Vaswani et al., 2017).

    x: (..., T, C) -> (..., T, C)
    """

    def __init__(self, config: MicroGPTConfig):
        super().__init__()
        self.n_head = config.n_head
        self.wq = nn.Linear(config.n_embd, config.n_embd, bias=False)
        self.wk = nn.Linear(config.n_embd, config.n_embd, bias=False)
        self.wv = nn.Linear(config.n_embd, config.n_embd, bias=False)
        self.wo = nn.Linear(config.n_embd, config.n_embd, bias=False)

    def heads(self, x: mx.array) -> mx.array:
        """Cut each vector into heads: (..., T, C) -> (..., H, T, D) with D = C / H."""
        cut = x.reshape(*x.shape[:-1], self.n_head, -1)  # (..., T, H, D)
        return mx.swapaxes(cut, -2, -3)

    def weights(self, x: mx.array) -> mx.array:
        """What each position takes from each earlier one and itself; rows sum to 1.

        x: (..., T, C) -> (..., H, T, T)
        """
        q, k = self.heads(self.wq(x)), self.heads(self.wk(x))  # (..., H, T, D)
        scores = q @ mx.swapaxes(k, -1, -2) / math.sqrt(q.shape[-1])  # (..., H, T, T)
        length = x.shape[-2]
        future = mx.triu(mx.full((length, length), -mx.inf), k=1)
        return mx.softmax(scores + future, axis=-1)

    def __call__(self, x: mx.array) -> mx.array:
        mixed = self.weights(x) @ self.heads(self.wv(x))  # (..., H, T, D)
        return self.wo(mx.swapaxes(mixed, -2, -3).reshape(x.shape))


# ---- 6. The other parts of a block


class MLP(nn.Module):
    """Two matrices with a squared ReLU between, at four times the width (So et al., 2021).

    x: (..., C) -> (..., C)
    """

    def __init__(self, config: MicroGPTConfig):
        super().__init__()
        self.fc1 = nn.Linear(config.n_embd, 4 * config.n_embd, bias=False)
        self.fc2 = nn.Linear(4 * config.n_embd, config.n_embd, bias=False)

    def __call__(self, x: mx.array) -> mx.array:
        hidden = mx.maximum(self.fc1(x), 0) ** 2  # (..., 4C)
        return self.fc2(hidden)


class RMSNorm(nn.Module):
    """Divide each vector by its root mean square; no weights (Zhang and Sennrich, 2019).

    x: (..., C) -> (..., C)
    """

    def __init__(self, eps: float = 1e-5):
        super().__init__()
        self.eps = eps

    def __call__(self, x: mx.array) -> mx.array:
        return x * mx.rsqrt((x * x).mean(axis=-1, keepdims=True) + self.eps)


class Block(nn.Module):
    """Attention, then the MLP, each after a norm and added to its input.

    x: (..., T, C) -> (..., T, C)
    """

    def __init__(self, config: MicroGPTConfig):
        super().__init__()
        self.norm1 = RMSNorm()
        self.attn = Attention(config)
        self.norm2 = RMSNorm()
        self.mlp = MLP(config)

    def __call__(self, x: mx.array) -> mx.array:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


# ---- 7. The whole model


class MicroGPT(nn.Module):
    """A small GPT over characters.

    ids: (T,), or (B, T) for B names at once -> logits (T, V) or (B, T, V).
    Raises CourseError for more positions than `block_size`.
    """

    def __init__(self, config: MicroGPTConfig):
        super().__init__()
        self.config = config
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.block_size, config.n_embd)
        self.norm_in = RMSNorm()
        self.layers = [Block(config) for _ in range(config.n_layer)]
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        init_weights(self)

    def __call__(self, ids: mx.array) -> mx.array:
        length = ids.shape[-1]
        check_length(length, self.config.block_size)
        x = self.norm_in(self.wte(ids) + self.wpe(mx.arange(length)))  # (..., T, C)
        for layer in self.layers:
            x = layer(x)
        return self.lm_head(x)  # (..., T, V)


def init_weights(model: MicroGPT) -> None:
    """Normal, standard deviation 0.02, for every matrix but `wo` and `fc2`, which become zero."""
    normal, zero = nn.init.normal(std=0.02), nn.init.constant(0.0)
    model.apply(normal)
    for layer in model.layers:
        layer.attn.wo.apply(zero)
        layer.mlp.fc2.apply(zero)


# ---- 8. Training, with a better optimizer


def evaluate(model: nn.Module, docs: list[str], tokenizer: CharTokenizer) -> float:
    """Loss in nats per guess over all of `docs`, each name cut to `block_size` predictions."""
    total, count = 0.0, 0
    for name in docs:
        inputs, targets = example(name, tokenizer, model.config.block_size)
        total += loss_fn(model, mx.array(inputs), mx.array(targets)).item() * len(inputs)
        count += len(inputs)
    return total / count


def train(
    model: MicroGPT,
    docs: list[str],
    tokenizer: CharTokenizer,
    num_steps: int = 500,
    learning_rate: float = 1e-2,
    on_step: Callable[[int, float], None] | None = None,
    compiled: bool | None = None,
) -> list[float]:
    """Train the model in place, one name per step in the order of `docs`, over and over; see `fit`.

    compiled: whether to compile the step; None does so where it pays.
    Returns the loss of each step in nats per guess. Raises CourseError for no names, no steps, or a
    tokenizer whose ids the model does not have.
    """
    check_training(docs, num_steps, tokenizer.vocab_size, model.config.vocab_size)
    compiled = compiling_pays(num_steps) if compiled is None else compiled
    pairs = (example(name, tokenizer, model.config.block_size) for name in cycle(docs))
    arrays = ((mx.array(inputs), mx.array(targets)) for inputs, targets in pairs)
    return fit(model, loss_fn, arrays, num_steps, learning_rate, on_step, compiled)


# ---- 10. Writing names


def generate(model: MicroGPT, tokenizer: CharTokenizer, temperature: float = 0.5, key: mx.array | None = None) -> str:
    """Write one name of at most `block_size` letters.

    temperature: 0 takes the likeliest letter each time. key: from mx.random.key; None uses the
    global random state.
    Raises CourseError for a negative or not finite temperature.
    """
    check_temperature(temperature)
    ids = [tokenizer.bos]
    for _ in range(model.config.block_size):
        logits = model(mx.array(ids))[-1]  # (V,) of the last position
        if temperature == 0:
            next_id = mx.argmax(logits).item()
        else:
            step_key = None
            if key is not None:
                key, step_key = mx.random.split(key)
            next_id = mx.random.categorical(logits / temperature, key=step_key).item()
        if next_id == tokenizer.bos:
            break
        ids.append(next_id)
    return tokenizer.decode(ids)
