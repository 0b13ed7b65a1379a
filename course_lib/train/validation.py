"""A look at a model while it trains: bits per byte of text that it has not seen, and a few words of its own.

Written by hand; chapter 10's loop uses it, chapter 11 explains it.
"""

import math
from collections.abc import Iterable

import mlx.core as mx

from course_lib.data.tokenizer import Tokenizer
from course_lib.model.gpt import GPT
from course_lib.train.distributed import Group, all_sum


def nats_and_bytes(model: GPT, inputs: mx.array, targets: mx.array, token_bytes: mx.array) -> mx.array:
    """The loss in nats, and the bytes, of the targets (B, T) that stand for text: (2,).

    token_bytes: (vocab_size,), 0 for special tokens. They and targets of -1 count for neither.
    """
    losses = model.loss(inputs, targets, reduction="none")  # (B, T)
    sizes = mx.where(targets >= 0, token_bytes[mx.maximum(targets, 0)], 0)
    return mx.stack([(losses * (sizes > 0)).sum(), sizes.sum().astype(mx.float32)])


def validate(
    model: GPT,
    batches: Iterable[tuple[mx.array, mx.array]],
    token_bytes: mx.array,
    group: Group | None = None,
) -> float:
    """Bits per byte of the batches (of all processes together): nats / (ln 2 · bytes)."""
    nats = size = 0.0
    for inputs, targets in batches:
        more = nats_and_bytes(model, inputs, targets, token_bytes).tolist()
        nats, size = nats + more[0], size + more[1]
    if group is not None and group.size() > 1:
        nats, size = all_sum([nats, size], group)
    return nats / (math.log(2) * size) if size else math.nan


def continue_text(model: GPT, tokenizer: Tokenizer, prompt: str, max_tokens: int = 24, seed: int = 0) -> str:
    """What the model writes after `prompt`, up to <|bos|>, at temperature 0.8.

    For a look during training: the whole text goes through the model for every token.
    """
    ids = tokenizer.encode(prompt, bos=True)
    start, key = len(ids), mx.random.key(seed)
    for _ in range(max_tokens):
        logits = model(mx.array([ids[-model.config.sequence_len :]]))[0, -1]  # (V,)
        key, now = mx.random.split(key)
        following = mx.random.categorical(logits / 0.8, key=now).item()
        if following == tokenizer.bos:
            break
        ids.append(following)
    return tokenizer.decode(ids[start:])
