"""Cross-entropy without ever holding all logits: they may need more memory than the rest of the model.

Each row has a loss of its own, and its gradient is known as soon as its logits are: p - onehot, times the slope of the
cap. So the logits of some rows are made, used for loss and gradient, and thrown away.

Written by hand; chapter 08 uses it, chapter 19 explains it.
"""

from collections.abc import Callable
from functools import cache

import mlx.core as mx
import mlx.nn as nn

from course_lib import backend
from course_lib.model.head import capped_logits, fast_exp


def logits_at_once() -> int:
    """Numbers of one array of logits: on a CPU 64 MB in float32; on a GPU a 64th of its memory, at most 512 MB.

    Each chunk reads and writes the whole gradient of the head, and starts some twenty kernels: the more rows, the less
    of that. But about ten such arrays are in memory together.
    """
    return 1 << 24 if backend.device_kind() == "cpu" else min(1 << 27, backend.memory_bytes() >> 8)


def chunks(rows: int, vocab_size: int) -> list[slice]:
    """Slices of so many rows that their logits are at most `logits_at_once()` numbers; of one row at least."""
    size = max(1, logits_at_once() // vocab_size)
    return [slice(start, start + size) for start in range(0, rows, size)]


def row_losses(head: Callable[[mx.array], mx.array], x: mx.array, targets: mx.array, vocab_size: int) -> mx.array:
    """Cross-entropy of each row in nats: x (N, n_embd), targets (N,) -> (N,).

    head: (n, n_embd) -> logits (n, vocab_size). To evaluate: for a gradient MLX would keep all logits after all.
    """
    losses = []
    for rows in chunks(x.shape[0], vocab_size):
        # MLX is lazy and might make all logits first: a chunk waits for the one before
        part = mx.depends(x[rows], losses[-1:]) if losses else x[rows]
        losses.append(nn.losses.cross_entropy(head(part), targets[rows]))
    return mx.concatenate(losses)


def fused_loss(x: mx.array, weight: mx.array, targets: mx.array, importance: mx.array, softcap: float) -> mx.array:
    """Sum of importance · cross-entropy of `capped_logits` in nats, a single number, for training.

    x: (N, n_embd), weight: (V, n_embd), targets, importance: (N,). Gradients for x and weight are made with the value,
    whether or not someone asks for them; targets and importance get zeros.
    """
    return _loss_and_gradients(softcap)(x, weight, targets, importance)[0]


@cache
def _loss_and_gradients(softcap: float) -> Callable:
    """(x, weight, targets, importance) -> loss, and as further outputs its gradients for x and weight."""

    @mx.custom_function
    def forward(x, weight, targets, importance):
        loss, for_x, for_weight = mx.array(0.0), [], mx.zeros_like(weight)
        for rows in chunks(x.shape[0], weight.shape[0]):
            part = mx.depends(x[rows], [loss, for_weight, *for_x[-1:]]) if for_x else x[rows]
            more = _of_a_chunk(part, weight, targets[rows], importance[rows], softcap)
            loss, for_weight = loss + more[0], for_weight + more[2]
            for_x.append(more[1])
        return loss, mx.concatenate(for_x), for_weight

    @forward.vjp
    def backward(primals, cotangents, outputs):
        (_, _, targets, importance), (_, for_x, for_weight), slope = primals, outputs, cotangents[0]
        zeros = mx.zeros_like(targets), mx.zeros_like(importance)
        return (slope * for_x).astype(for_x.dtype), slope * for_weight, *zeros

    return forward


def _of_a_chunk(
    x: mx.array, weight: mx.array, targets: mx.array, importance: mx.array, softcap: float
) -> tuple[mx.array, mx.array, mx.array]:
    """Sum of importance · cross-entropy over n rows, and its gradients: (), (n, n_embd), (V, n_embd)."""
    logits = capped_logits(x, weight, softcap)  # (n, V)
    exp = fast_exp(logits)  # at most e^15: no maximum need be subtracted
    total = exp.sum(axis=-1, keepdims=True)  # (n, 1)
    target, share = targets[:, None], importance[:, None]
    losses = mx.log(total) - mx.take_along_axis(logits, target, axis=-1)  # (n, 1)
    slope = exp * (share / total)  # p - onehot, times importance: the gradient for the capped logits
    at_target = mx.take_along_axis(slope, target, axis=-1) - share
    slope = mx.put_along_axis(slope, target, at_target, axis=-1)
    # through the cap: z = c tanh(u / c) has the slope 1 - (z / c)²
    slope = (slope * (1 - mx.square(logits / softcap))).astype(x.dtype)
    return (losses * share).sum(), slope @ weight.astype(x.dtype), (slope.T @ x).astype(weight.dtype)
