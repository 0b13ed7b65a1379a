"""What a model comes to before it is trained: parameters and operations, read off its own arrays, and memory.

MLX is lazy: a model of any size is made in milliseconds, and takes no memory until its numbers are asked for.

Written by hand; chapter 08 uses it, chapter 19 explains it.
"""

from functools import cache
from typing import NamedTuple

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from course_lib import backend
from course_lib.model import loss
from course_lib.model.gpt import GPTConfig
from course_lib.model.kinds import make_model, windows_of


class Counts(NamedTuple):
    """Numbers of a model that are trained: all, those of its blocks, those that multiply; and of a token's queries."""

    parameters: int
    in_blocks: int
    multiplied: int  # rows of embeddings are looked up, and a few shares of the whole stream are no matrices
    queries: tuple[int, ...]  # of each layer


@cache
def _counts(config: GPTConfig) -> Counts:
    state = mx.array(mx.random.state[0])
    model = make_model(config)
    mx.random.state[0][:] = state  # new layers draw random numbers: counting must not change those that come later
    blocks = model.transformer.h
    others = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    others += [getattr(model, name) for name in getattr(model, "shares", ())]
    return Counts(
        _numbers(model),
        sum(_numbers(block) for block in blocks),
        _numbers(model) - sum(map(_numbers, others)),
        tuple(block.attn.c_q.weight.shape[0] for block in blocks),
    )


def _numbers(part: nn.Module | mx.array) -> int:
    return part.size if isinstance(part, mx.array) else sum(a.size for _, a in tree_flatten(part.parameters()))


def count_parameters(config: GPTConfig) -> int:
    """How many numbers are trained: 12 L d² + 2 V d for a GPT with n_kv_head = n_head."""
    return _counts(config).parameters


def scaling_parameters(config: GPTConfig) -> int:
    """How many numbers of matrices multiply every token: those of the blocks and of the head."""
    return _counts(config).multiplied


def flops_per_token(config: GPTConfig) -> int:
    """Floating-point operations to train on one token: 6 for each weight that multiplies, and attention's 12 L d T.

    Of the 6, 2 are forward and 4 backward. T is sequence_len, or of a block with a window that. Source: Kaplan et al.,
    2020, and nanochat.
    """
    seen = zip(_counts(config).queries, windows_of(config), strict=True)
    attention = sum(queries * min(window, config.sequence_len) for queries, window in seen)
    return 6 * scaling_parameters(config) + 12 * attention


def decoding_flops(config: GPTConfig, length: int) -> int:
    """Floating-point operations for one token after `length` others: 2 for each weight, and attention to the rest."""
    seen = zip(_counts(config).queries, windows_of(config), strict=True)
    return 2 * scaling_parameters(config) + sum(4 * queries * min(window, length) for queries, window in seen)


def trains_fused(config: GPTConfig, sequence_len: int) -> bool:
    """Whether MLX trains without keeping attention matrices.

    On NVIDIA GPUs alone, since Ampere, for rows of a multiple of 128 tokens and heads of a multiple of 8 numbers, at
    most 128. Source: cuda/scaled_dot_product_attention.cpp of MLX 0.32.
    """
    if backend.device_kind() != "cuda":
        return False
    capability = int(mx.device_info(mx.default_device()).get("compute_capability_major") or 0)
    return capability >= 8 and sequence_len % 128 == 0 and config.head_dim <= 128 and config.head_dim % 8 == 0


def estimate_memory(
    config: GPTConfig, batch_size: int, sequence_len: int | None = None, recompute: bool = False
) -> dict[str, int]:
    """Bytes that a training step needs, by what needs them, and their "total"; on a CPU off by less than 25 %.

    "weights" and "gradients" are float32. "optimizer": Muon keeps one number for each weight of the blocks, AdamW two
    for each of the others. "activations": all else at the fullest moment, which is when the head works, or the last
    block goes backward, or all gradients are there, or the weights are moved; fitted to MLX on a CPU, not measured on
    a GPU.
    """
    found = _counts(config)
    B, T, V, d = batch_size, sequence_len or config.sequence_len, config.vocab_size, config.n_embd
    rows, size = B * T, backend.compute_dtype().size
    weights, in_blocks, table = 4 * found.parameters, 4 * found.in_blocks, 4 * V * d
    # the weights of the products once more, in the compute type
    copies = 0 if size == 4 else scaling_parameters(config) * size

    stream = rows * d * size  # one array (B, T, n_embd)
    scores = 0 if trains_fused(config, T) else B * config.n_head * T * T * size  # attention matrices
    in_attention = 7 * stream + 3 * stream * config.n_kv_head // config.n_head + scores
    kept = in_attention + 8 * stream  # by one block: norm, q, k, v, y; stream, norm, the MLP's two
    at_work = 21 * stream + 2 * scores  # passing, while one block goes backward
    if recompute:
        kept, at_work = stream, at_work + 2 * kept  # MLX begins the next block before one is done

    logits = 4 * V * min(rows, 2 * max(1, loss.logits_at_once() // V))  # of a chunk, and of the next one
    fullest = copies + max(
        config.n_layer * kept + 14 * stream + 5 * logits + 3 * table,  # old sum, new part, new sum
        config.n_layer * kept + at_work + table,
        weights + kept + at_work,  # weights: as large as the gradients
        weights + 7 * (weights - in_blocks) // 4,  # AdamW at work: measured 1.4 to 2.3 times its own arrays
    )
    sizes = {
        "weights": weights,
        "gradients": weights,
        "optimizer": in_blocks + 2 * (weights - in_blocks),
        "activations": fullest - weights,
    }
    return sizes | {"total": sum(sizes.values())}
