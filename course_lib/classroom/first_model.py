"""The model that chapter 00 trains before anything is explained: a microGPT that learns names.

Written by hand; chapter 00 uses it.
"""

from collections.abc import Callable

import mlx.core as mx

from course_lib.names.batching import train_batches
from course_lib.names.bigram import CharTokenizer, load_names
from course_lib.names.microgpt import MicroGPT, MicroGPTConfig, generate


def untrained_model(seed: int = 1) -> MicroGPT:
    """A microGPT with random parameters that looks back on at most 12 ids, BOS included."""
    mx.random.seed(seed)
    return MicroGPT(MicroGPTConfig(n_embd=32, block_size=12))


def train(model: MicroGPT, steps: int, on_step: Callable[[int, float], None]) -> None:
    """Train in place on the course's names, 32 at a step; on_step(step, loss) is called after each, from 1."""
    names = load_names()
    train_batches(model, names, CharTokenizer(names), num_steps=steps, batch_size=32, compiled=False, on_step=on_step)


def write(model: MicroGPT, count: int, seed: int = 1) -> list[str]:
    """Names that the model makes up; the same seed is the same luck."""
    tokenizer = CharTokenizer(load_names())
    keys = mx.random.split(mx.random.key(seed), count)
    return [generate(model, tokenizer, temperature=0.7, key=key) for key in keys]


def bets(model: MicroGPT, start: str) -> dict[str, float]:
    """The probability of each letter, and of •, the end, after the letters `start` (at most 11)."""
    tokenizer = CharTokenizer(load_names())
    logits = model(mx.array(tokenizer.encode(start)[:-1]))[-1]  # (V,)
    return dict(zip([*tokenizer.chars, "•"], mx.softmax(logits).tolist(), strict=True))
