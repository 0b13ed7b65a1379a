"""What a model comes to before it is trained: parameters, operations, memory.

Parameters and operations are read off the model's own arrays, so that a change of the model needs no change here. MLX
is lazy: a model of any size is made in milliseconds, and takes no memory until its numbers are asked for.

Written by hand; chapter 08 uses it.
"""

from collections.abc import Iterable
from functools import cache
from typing import NamedTuple

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from course_lib import backend
from course_lib.model import loss
from course_lib.model.attention import CausalSelfAttention
from course_lib.model.gpt import GPT, GPTConfig


class Counts(NamedTuple):
    """How many numbers of a model are trained, and which of them do what.

    in_blocks: those of the blocks; looked_up: those of embeddings, which multiply nothing; queries: numbers in the
    queries of one token, over all layers.
    """

    parameters: int
    in_blocks: int
    looked_up: int
    queries: int


def counts(model: GPT) -> Counts:
    """The counts of a model, of whatever parts it is made."""

    def numbers(modules: Iterable[nn.Module]) -> int:
        return sum(array.size for module in modules for _, array in tree_flatten(module.parameters()))

    modules = model.modules()
    return Counts(
        parameters=numbers([model]),
        in_blocks=numbers(model.transformer.h),
        looked_up=numbers(module for module in modules if isinstance(module, nn.Embedding)),
        queries=sum(module.c_q.weight.shape[0] for module in modules if isinstance(module, CausalSelfAttention)),
    )


@cache  # a plan asks for the same config many times
def _counts_of(config: GPTConfig) -> Counts:
    state = mx.array(mx.random.state[0])
    found = counts(GPT(config))
    mx.random.state[0][:] = state  # layers draw random numbers when they are made: a count must not change later ones
    return found


def count_parameters(config: GPTConfig) -> int:
    """How many numbers are trained: 12 L d² + 2 V d when n_kv_head = n_head."""
    return _counts_of(config).parameters


def flops_per_token(config: GPTConfig) -> int:
    """Floating-point operations to train on one token: 6 for each weight that multiplies, and attention's 12 L d T.

    On the way forward a weight multiplies and adds once for each token, and the way back costs twice that. T is
    sequence_len. Source: Kaplan et al., 2020, and nanochat.
    """
    found = _counts_of(config)
    return 6 * (found.parameters - found.looked_up) + 12 * found.queries * config.sequence_len


def estimate_memory(
    config: GPTConfig, batch_size: int, sequence_len: int | None = None, recompute: bool = False
) -> dict[str, int]:
    """Bytes that a training step needs, by what needs them, and their "total".

    "weights" and "gradients" are float32. "optimizer": Muon keeps one number for each weight of the blocks, AdamW two
    for each of the others. "activations": all else at the fullest moment, which is when the head works, or the last
    block goes backward, or all gradients are there.
    Fitted to MLX on a CPU, where it is off by less than 25 %.
    """
    found = _counts_of(config)
    B, T, V, d = batch_size, sequence_len or config.sequence_len, config.vocab_size, config.n_embd
    rows, size = B * T, backend.compute_dtype().size
    weights, in_blocks, table = 4 * found.parameters, 4 * found.in_blocks, 4 * V * d
    # the weights of the products once more, in the compute type
    copies = 0 if size == 4 else (found.parameters - found.looked_up) * size

    stream = rows * d * size  # one array (B, T, n_embd)
    # attention matrices: only on CUDA does MLX train without keeping them
    scores = 0 if backend.device_kind() == "cuda" else B * config.n_head * T * T * size
    in_attention = 7 * stream + 3 * stream * config.n_kv_head // config.n_head + scores
    kept = in_attention + 8 * stream  # by one block: norm, q, k, v, y; stream, norm, the MLP's two
    at_work = 21 * stream + 2 * scores  # passing, while one block goes backward
    if recompute:
        kept, at_work = stream, at_work + 2 * kept  # MLX begins the next block before one is done

    logits = 4 * V * min(rows, 2 * max(1, loss.LOGITS_AT_ONCE // V))  # of a chunk, and of the next one
    fullest = copies + max(
        config.n_layer * kept + 14 * stream + 5 * logits + 3 * table,  # old sum, new part, new sum
        config.n_layer * kept + at_work + table,
        weights + kept + at_work,  # weights: as large as the gradients
    )
    sizes = {
        "weights": weights,
        "gradients": weights,
        "optimizer": in_blocks + 2 * (weights - in_blocks),
        "activations": fullest - weights,
    }
    return sizes | {"total": sum(sizes.values())}
