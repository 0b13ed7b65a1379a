"""Many names at once: padded batches, a loss that ignores the padding, one compiled step.

Exported from notebooks/04_batches.ipynb; edit it there.
"""

import random
from collections.abc import Callable, Iterator

import mlx.core as mx
import mlx.nn as nn

from course_lib.host.errors import CourseError
from course_lib.names.bigram import CharTokenizer
from course_lib.names.microgpt import MicroGPT, example, fit

# ---- 1. Padding


def make_batch(names: list[str], tokenizer: CharTokenizer, block_size: int) -> tuple[mx.array, mx.array, mx.array]:
    """Inputs, targets and mask of several names, each (B, T) with T = block_size.

    Names are cut to block_size predictions and filled up with BOS; the mask is 1.0 for a real
    prediction, else 0.0.
    """
    inputs, targets, mask = [], [], []
    for name in names:
        ids, next_ids = example(name, tokenizer, block_size)
        fill = block_size - len(ids)
        inputs.append(ids + [tokenizer.bos] * fill)
        targets.append(next_ids + [tokenizer.bos] * fill)
        mask.append([1.0] * len(ids) + [0.0] * fill)
    return mx.array(inputs), mx.array(targets), mx.array(mask)


# ---- 2. A loss that ignores the padding


def masked_loss(model: MicroGPT, inputs: mx.array, targets: mx.array, mask: mx.array) -> mx.array:
    """Mean cross-entropy in nats over the predictions whose mask is 1; 0 when there is none.

    inputs, targets, mask: (B, T) -> scalar
    """
    losses = nn.losses.cross_entropy(model(inputs), targets)  # (B, T)
    return (losses * mask).sum() / mx.maximum(mask.sum(), 1)


# ---- 3. Which names when


def batches(names: list[str], batch_size: int, seed: int) -> Iterator[list[str]]:
    """Lists of `batch_size` names for ever, in epochs: every name once in each, shuffled."""
    generator = random.Random(seed)
    waiting: list[str] = []
    while True:
        while len(waiting) < batch_size:
            waiting += generator.sample(names, len(names))  # a shuffled copy
        yield waiting[:batch_size]
        waiting = waiting[batch_size:]


# ---- 4. One compiled step for a whole batch


def train_batches(
    model: MicroGPT,
    docs: list[str],
    tokenizer: CharTokenizer,
    num_steps: int = 2000,
    batch_size: int = 64,
    learning_rate: float = 1e-2,
    seed: int = 42,
    compiled: bool = True,
    on_step: Callable[[int, float], None] | None = None,
) -> list[float]:
    """Train the model in place on `batch_size` names per step; see `microgpt.fit`.

    Returns the loss of each step in nats per token.
    Raises CourseError for no names, no steps or an empty batch.
    """
    if not docs or num_steps < 1 or batch_size < 1:
        given = f"{len(docs)} names, {num_steps} steps, batch_size={batch_size}"
        raise CourseError(f"{given}: give at least one of each")
    stream = batches(docs, batch_size, seed)
    arrays = (make_batch(some, tokenizer, model.config.block_size) for some in stream)
    return fit(model, masked_loss, arrays, num_steps, learning_rate, on_step, compiled)


# ---- 6. All names, 64 per step


def evaluate_batches(model: MicroGPT, docs: list[str], tokenizer: CharTokenizer, batch_size: int = 512) -> float:
    """Loss in nats per token over all of `docs`: the number of `microgpt.evaluate`, faster."""
    total = count = 0.0
    for start in range(0, len(docs), batch_size):
        inputs, targets, mask = make_batch(docs[start : start + batch_size], tokenizer, model.config.block_size)
        total += masked_loss(model, inputs, targets, mask).item() * mask.sum().item()
        count += mask.sum().item()
    return total / count
