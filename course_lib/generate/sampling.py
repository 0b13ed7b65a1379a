"""One token from logits: temperature, top-k, top-p, min-p, and the draw.

Exported from notebooks/12_engine.ipynb; edit it there.
"""

import math
import random

import mlx.core as mx

from course_lib.generate.cutoffs import keep_top_p, largest
from course_lib.model.head import fast_exp


def probabilities(logits: mx.array) -> mx.array:
    """Softmax over the last axis."""
    weights = fast_exp(logits - logits.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def keep_min_p(logits: mx.array, p: float) -> mx.array:
    """-inf for what has less than p times the likeliest's probability (Nguyen et al., 2024)."""
    return mx.where(logits >= logits.max(axis=-1, keepdims=True) + math.log(p), logits, -mx.inf)


def draw(logits: mx.array, uniform: mx.array) -> mx.array:
    """One index for each row (B, n), with its softmax probability: (B,).

    Lay the probabilities side by side from 0 to 1: uniform (B, 1), 0 <= u < 1, falls into one of
    them. What has probability 0 is never drawn, in whatever order the device adds up.
    """
    probs = probabilities(logits)
    ends = mx.where(probs > 0, mx.cumsum(probs, axis=-1), 0)
    # u < 1, so the largest end is beyond u times itself: one is always found
    return mx.argmax(ends > uniform * ends.max(axis=-1, keepdims=True), axis=-1)


def token_key(seed: int, text: int, place: int) -> list[int]:
    """Key of one token: two 32-bit numbers that follow from seed, text and place alone."""
    bits = random.Random(f"{seed},{text},{place}").getrandbits(64)
    return [bits >> 32, bits & 0xFFFFFFFF]


def sample(
    logits: mx.array,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    key: mx.array | None = None,
) -> mx.array:
    """One token for each row of logits (B, V): (B,) int32, -1 where there are NaN among the logits.

    temperature 0 takes the likeliest. Otherwise top_k, top_p and min_p each leave out tokens of
    what the one before has left, and logits are divided by the temperature after top_k.
    key: of mx.random, one (2,), or one for each row (B, 2): then a row's token does not depend on
    the others.
    """
    best = logits.max(axis=-1, keepdims=True)  # (B, 1), NaN where there is one
    ids = None
    if temperature == 0:
        choice = mx.argmax(logits, axis=-1)
    else:
        if top_k is not None and top_k < logits.shape[-1]:
            logits, ids = largest(logits, top_k)
        logits = (logits - best) / temperature
        if top_p is not None and top_p < 1:
            logits = keep_top_p(logits, top_p)
        if min_p is not None and min_p > 0:
            logits = keep_min_p(logits, min_p)
        if key is not None and key.ndim == 2:
            uniform = mx.vmap(lambda key: mx.random.uniform(key=key))(key)[:, None]
        else:
            uniform = mx.random.uniform(shape=best.shape, key=key)
        choice = draw(logits, uniform)  # (B,)
    if ids is not None:
        choice = mx.take_along_axis(ids, choice[:, None], axis=-1)[:, 0]
    return mx.where(mx.isnan(best[:, 0]), -1, choice.astype(mx.int32))
