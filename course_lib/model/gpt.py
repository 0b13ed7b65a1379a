"""nanochat's GPT, any size from one dial, the depth: its weight names, its counts, its logits.

What is special about it: rotary positions, QK norm, norms without weights and one of them right
after the token embedding, ReLU² in the MLP, no biases, a head of its own that starts at zero,
capped logits.

Exported from notebooks/08_gpt.ipynb; edit it there.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_unflatten

from course_lib import backend
from course_lib.host.errors import CourseError
from course_lib.model.attention import CausalSelfAttention, Linear, rms_norm
from course_lib.model.products import project

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
        for name in ("sequence_len", "vocab_size", "n_layer", "n_head", "n_kv_head", "n_embd"):
            if getattr(self, name) < 1:
                raise CourseError(f"{name}={getattr(self, name)}, expected 1 or more")
        if self.n_embd % (2 * self.n_head):
            raise CourseError(
                f"n_embd={self.n_embd} cannot be shared out to n_head={self.n_head} heads of an "
                f"even size; make n_embd a multiple of {2 * self.n_head}, or change n_head"
            )
        if self.n_head % self.n_kv_head:
            raise CourseError(
                f"n_kv_head={self.n_kv_head} does not divide n_head={self.n_head}; expected one of "
                f"{[n for n in range(1, self.n_head + 1) if self.n_head % n == 0]}"
            )

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
        a narrower or wider model; head_dim: about so many numbers a head.
        """
        for name, value in {
            "depth": depth,
            "aspect_ratio": aspect_ratio,
            "head_dim": head_dim,
        }.items():
            if value < 1:
                raise CourseError(f"{name}={value}, expected 1 or more")
        n_embd = aspect_ratio * depth
        n_head = math.ceil(n_embd / head_dim)
        while n_embd % (2 * n_head):
            n_head -= 1
        n_kv_head = n_head if n_kv_head is None else n_kv_head
        return cls(sequence_len, vocab_size, depth, n_head, n_kv_head, n_embd)


# ---- 2. Blocks


@mx.custom_function
def relu_squared(x: mx.array) -> mx.array:
    """max(x, 0)² (So et al., 2021). Its gradient, below, needs x alone: nothing else is kept."""
    return mx.square(mx.maximum(x, 0))


@relu_squared.vjp
def _relu_squared_gradient(x: mx.array, slope: mx.array, output: mx.array) -> mx.array:
    return 2 * slope * mx.maximum(x, 0)


class MLP(nn.Module):
    """Each position by itself: four times as wide, ReLU², and back. (B, T, n_embd) -> the same."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.c_fc = Linear(config.n_embd, 4 * config.n_embd)
        self.c_proj = Linear(4 * config.n_embd, config.n_embd)

    def __call__(self, x: mx.array) -> mx.array:
        return self.c_proj(relu_squared(self.c_fc(x)))


class Block(nn.Module):
    """Attention, then MLP; each reads a normed copy of the stream and adds its result to it."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.norm_eps = config.norm_eps
        self.attn = CausalSelfAttention(
            config.n_embd, config.n_head, config.n_kv_head, config.rope_base, config.norm_eps
        )
        self.mlp = MLP(config)

    def __call__(self, x: mx.array, cache=None) -> mx.array:
        x = x + self.attn(rms_norm(x, self.norm_eps), cache)
        return x + self.mlp(rms_norm(x, self.norm_eps))


class Transformer(nn.Module):
    """Ids (B, T) to what the head reads (B, T, n_embd), in the compute type of the device."""

    def __init__(self, config: GPTConfig, recompute: bool):
        super().__init__()
        self.norm_eps, self.recompute = config.norm_eps, recompute
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.h = [Block(config) for _ in range(config.n_layer)]

    def __call__(self, ids: mx.array, caches: list | None = None) -> mx.array:
        x = rms_norm(self.wte(ids).astype(backend.compute_dtype()), self.norm_eps)
        for n, block in enumerate(self.h):
            if caches is not None:
                x = block(x, caches[n])
            else:
                x = nn.utils.checkpoint(block)(x) if self.recompute else block(x)
        return rms_norm(x, self.norm_eps)


# ---- 3. Logits with a limit


def _exp(x: mx.array) -> mx.array:
    """e to the x. On a CPU, MLX's power takes a third of its exp's time."""
    return mx.power(math.e, x) if backend.device_kind() == "cpu" else mx.exp(x)


def capped_logits(x: mx.array, weight: mx.array, softcap: float) -> mx.array:
    """softcap · tanh(x Wᵀ / softcap) in float32: (…, n_embd), (V, n_embd) -> (…, V)."""
    logits = project(x, weight).astype(mx.float32)
    logits = mx.minimum(logits, 10 * softcap)  # tanh(10) is 1, and exp stays finite
    return softcap - 2 * softcap / (_exp(logits * (2 / softcap)) + 1)  # tanh, with one exp


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
        self._check(ids, whole=cache is None)
        return capped_logits(self.transformer(ids, cache), self.lm_head.weight, self.config.softcap)

    def _check(self, ids: mx.array, whole: bool) -> None:
        if ids.ndim != 2 or ids.size == 0:
            raise CourseError(f"ids have shape {ids.shape}, expected (B, T) with one token or more")
        if whole and ids.shape[1] > self.config.sequence_len:
            raise CourseError(
                f"{ids.shape[1]} positions, but the model has sequence_len={self.config.sequence_len}; give fewer"
            )
        _check_ids("ids", ids, 0, self.config.vocab_size)

    def loss(self, ids: mx.array, targets: mx.array, reduction: str = "mean") -> mx.array:
        """Cross-entropy in nats of targets (B, T) that are not -1: "mean", "sum", or "none": (B, T).

        With no such target the mean is 0. "mean" and "sum" make their gradient at once: to evaluate,
        take "none".
        Raises CourseError as `__call__` does, and for targets that do not fit the ids.
        """
        if reduction not in ("mean", "sum", "none"):
            raise CourseError(f"reduction={reduction!r}, expected 'mean', 'sum' or 'none'")
        if ids.shape != targets.shape:
            raise CourseError(f"ids {ids.shape} and targets {targets.shape} must have the same shape (B, T)")
        self._check(ids, whole=True)
        _check_ids("targets", targets, -1, self.config.vocab_size)
        x = self.transformer(ids).reshape(-1, self.config.n_embd)  # (B T, n_embd)
        counts = (targets.reshape(-1) >= 0).astype(mx.float32)  # (B T,)
        targets_or_0 = mx.maximum(targets.reshape(-1), 0)
        if reduction == "none":
            losses = row_losses(x, self.lm_head.weight, targets_or_0, self.config.softcap)
            return (losses * counts).reshape(targets.shape)
        if reduction == "mean":
            counts = counts / mx.maximum(counts.sum(), 1)
        return _fused_loss(self.config.softcap)(x, self.lm_head.weight, targets_or_0, counts)


def _check_ids(name: str, ids: mx.array, least: int, vocab_size: int) -> None:
    """Raises CourseError for an id outside least … vocab_size - 1, which MLX would not notice."""
    try:
        low, high = ids.min().item(), ids.max().item()
    except ValueError:  # inside mx.compile the ids are not known; the first, uncompiled call has checked
        return
    if low < least or high >= vocab_size:
        raise CourseError(
            f"{name} go from {low} to {high}, but this model knows {least} to {vocab_size - 1}; "
            "use the tokenizer that it was trained with"
        )


def init_weights(model: GPT, seed: int) -> None:
    """nanochat's starting values: N(0, 1) for wte, zero for lm_head and every c_proj.

    The other matrices (fan_out, fan_in): N(0, s²) with s = 1/√fan_in · min(1, √(fan_out / fan_in)).
    """
    weights = tree_flatten(model.parameters())
    keys = mx.random.split(mx.random.key(seed), len(weights))
    new = []
    for (name, weight), key in zip(weights, keys, strict=True):
        fan_out, fan_in = weight.shape
        spread = min(1, math.sqrt(fan_out / fan_in)) / math.sqrt(fan_in)
        if "wte" in name:
            spread = 1.0
        if "c_proj" in name or "lm_head" in name:
            spread = 0.0
        new.append((name, spread * mx.random.normal(weight.shape, key=key)))
    model.update(tree_unflatten(new))


# ---- 5. The loss, without ever holding all logits


LOGITS_AT_ONCE = 1 << 24  # numbers of one array of logits: 64 MB


def _chunks(x: mx.array, weight: mx.array) -> list[slice]:
    rows = max(1, LOGITS_AT_ONCE // weight.shape[0])
    return [slice(start, start + rows) for start in range(0, x.shape[0], rows)]


def row_losses(x: mx.array, weight: mx.array, targets: mx.array, softcap: float) -> mx.array:
    """Cross-entropy of each row in nats: x (N, n_embd), weight (V, n_embd), targets (N,) -> (N,).

    A chunk of rows at a time, so that the logits of all are never in memory together.
    """
    losses = []
    for rows in _chunks(x, weight):
        part = mx.depends(x[rows], losses[-1:]) if losses else x[rows]  # one chunk after the other
        logits = capped_logits(part, weight, softcap)
        losses.append(nn.losses.cross_entropy(logits, targets[rows]))
    return mx.concatenate(losses)


def _loss_and_gradients(
    x: mx.array, weight: mx.array, targets: mx.array, importance: mx.array, softcap: float
) -> tuple[mx.array, mx.array, mx.array]:
    """Sum of importance · cross-entropy over some rows, and its gradients for x and weight."""
    logits = capped_logits(x, weight, softcap)  # (n, V)
    exp = _exp(logits)  # at most e^15: no maximum need be subtracted
    total = exp.sum(axis=-1, keepdims=True)  # (n, 1)
    target = targets[:, None]
    losses = mx.log(total) - mx.take_along_axis(logits, target, axis=-1)  # (n, 1)
    share = importance[:, None]
    slope = exp * (share / total)  # p - onehot: the gradient with respect to the capped logits
    at_target = mx.take_along_axis(slope, target, axis=-1) - share
    slope = mx.put_along_axis(slope, target, at_target, axis=-1)
    slope = (slope * (1 - mx.square(logits / softcap))).astype(x.dtype)  # through tanh
    return (
        (losses * share).sum(),
        slope @ weight.astype(x.dtype),
        (slope.T @ x).astype(weight.dtype),
    )


@cache
def _fused_loss(softcap: float) -> Callable:
    """A function of (x, weight, targets, importance): the loss, in chunks, with its gradient."""

    @mx.custom_function
    def loss_and_gradients(x, weight, targets, importance):
        loss, for_x, for_weight = mx.array(0.0), [], mx.zeros_like(weight)
        for rows in _chunks(x, weight):
            part = mx.depends(x[rows], [loss, for_weight, *for_x[-1:]]) if for_x else x[rows]
            more = _loss_and_gradients(part, weight, targets[rows], importance[rows], softcap)
            loss, for_weight = loss + more[0], for_weight + more[2]
            for_x.append(more[1])
        return loss, mx.concatenate(for_x), for_weight

    @loss_and_gradients.vjp
    def scale(primals, cotangents, outputs):
        _, _, targets, importance = primals
        slope = cotangents[0]
        for_x, for_weight = outputs[1:]
        return (
            (slope * for_x).astype(for_x.dtype),
            slope * for_weight,
            mx.zeros_like(targets),
            mx.zeros_like(importance),
        )

    return lambda *arrays: loss_and_gradients(*arrays)[0]


# ---- 6. Counting before building


def count_parameters(config: GPTConfig) -> int:
    """How many numbers are trained; no model is made. 12 L d² + 2 V d when n_kv_head = n_head."""
    d, kv = config.n_embd, config.n_embd * config.n_kv_head // config.n_head
    return config.n_layer * (2 * d * d + 2 * d * kv + 8 * d * d) + 2 * config.vocab_size * d


def flops_per_token(config: GPTConfig) -> int:
    """Floating-point operations to train on one token: 6 for each weight but wte, and 12 L d T.

    The second part is attention's, at T = sequence_len. Source: Kaplan et al., 2020, and nanochat.
    """
    weights = count_parameters(config) - config.vocab_size * config.n_embd
    return 6 * weights + 12 * config.n_layer * config.n_embd * config.sequence_len


def estimate_memory(
    config: GPTConfig, batch_size: int, sequence_len: int | None = None, recompute: bool = False
) -> dict[str, int]:
    """Bytes that a training step needs, by what needs them, and their "total"; no model is made.

    "weights" and "gradients" are float32. "optimizer": Muon keeps one number for each weight of the
    blocks, AdamW two for each of wte and lm_head. "activations": all else at the fullest moment,
    which is when the head works, or the last block goes backward, or all gradients are there.
    Fitted to MLX on a CPU, where it is off by less than 25 %.
    """
    B, T, d = batch_size, sequence_len or config.sequence_len, config.n_embd
    rows, V, size = B * T, config.vocab_size, backend.compute_dtype().size
    weights, table = 4 * count_parameters(config), 4 * V * d
    in_blocks = weights - 2 * table
    # the weights of the products once more, in the compute type
    copies = 0 if size == 4 else (in_blocks + table) * size // 4

    stream = rows * d * size  # one array (B, T, n_embd)
    # attention matrices: only on CUDA does MLX train without keeping them
    scores = 0 if backend.device_kind() == "cuda" else B * config.n_head * T * T * size
    in_attention = 7 * stream + 3 * stream * config.n_kv_head // config.n_head + scores
    kept = in_attention + 8 * stream  # by one block: norm, q, k, v, y; stream, norm, the MLP's two
    at_work = 21 * stream + 2 * scores  # passing, while one block goes backward
    if recompute:
        kept, at_work = stream, at_work + 2 * kept  # MLX begins the next block before one is done

    logits = 4 * V * min(rows, 2 * max(1, LOGITS_AT_ONCE // V))  # of a chunk, and of the next one
    fullest = copies + max(
        config.n_layer * kept + 14 * stream + 5 * logits + 3 * table,  # old sum, new part, new sum
        config.n_layer * kept + at_work + table,
        weights + kept + at_work,  # weights: as large as the gradients
    )
    sizes = {
        "weights": weights,
        "gradients": weights,
        "optimizer": in_blocks + 4 * table,
        "activations": fullest - weights,
    }
    return sizes | {"total": sum(sizes.values())}
