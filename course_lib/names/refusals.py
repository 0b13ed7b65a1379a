"""What the names models and the autograd engine refuse, each in one sentence.

Written by hand; chapters 02 and 03 use it.
"""

import math
from numbers import Real

from course_lib.host.errors import CourseError


def check_number(data: object) -> None:
    """Raise CourseError for what is not one plain number."""
    if not isinstance(data, Real):
        raise CourseError(f"a Value holds one plain number, got {data!r}; give an int or a float")


def check_power(base: float, exponent: object) -> None:
    """Raise CourseError for a power that is no finite number, or whose slope is none."""
    if not isinstance(exponent, Real):
        raise CourseError(f"an exponent must be a plain number, got {exponent!r}; write a ** b as (b * a.log()).exp()")
    try:
        math.pow(base, exponent)
        math.pow(base, exponent - 1 if exponent else 0)
    except (ValueError, OverflowError):
        raise CourseError(
            f"{base:g} ** {exponent:g} has no finite value with a finite slope (and a / b means a * b ** -1); "
            "keep the base away from 0 and, unless the exponent is whole, above it"
        ) from None


def check_exp(number: float) -> None:
    """Raise CourseError where e to the power of a number is too large for a float."""
    try:
        math.exp(number)
    except OverflowError:
        raise CourseError(
            f"exp({number:g}) is too large for a float; subtract the largest number from all of them first"
        ) from None


def check_log(number: float) -> None:
    """Raise CourseError for a number that has no logarithm."""
    if number <= 0:
        raise CourseError(f"log needs a number above 0, got {number:g}; check what computes it")


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
