"""What the names models refuse, each in one sentence.

Written by hand; chapter 03 uses it.
"""

import math

from course_lib.host.errors import CourseError


def check_sizes(config) -> None:
    """Raise CourseError for a size below 1, or heads that do not divide the width."""
    for name, value in vars(config).items():
        if value < 1:
            raise CourseError(f"{name}={value}, expected at least 1")
    if config.n_embd % config.n_head:
        raise CourseError(
            f"n_embd={config.n_embd} cannot be shared out to n_head={config.n_head} heads; make it a multiple of n_head"
        )


def check_length(length: int, block_size: int) -> None:
    """Raise CourseError for more positions than the model has."""
    if length > block_size:
        raise CourseError(f"{length} ids, but the model sees block_size={block_size}; cut them")


def check_training(docs: list[str], num_steps: int, ids: int, model_ids: int) -> None:
    """Raise CourseError for no names, no steps, or a tokenizer with other ids than the model's."""
    if not docs:
        raise CourseError("there are no names to train on; give at least one")
    if num_steps < 1:
        raise CourseError(f"num_steps={num_steps}, expected at least 1")
    if ids != model_ids:
        raise CourseError(
            f"the tokenizer has {ids} ids, the model {model_ids}; make the model with MicroGPTConfig(vocab_size={ids})"
        )


def check_temperature(temperature: float) -> None:
    """Raise CourseError for a negative or not finite temperature."""
    if not 0 <= temperature < math.inf:
        raise CourseError(f"temperature={temperature}, expected 0 (always the likeliest letter) or more")
