"""The gradient of the embedding as a GPU may give it: other last bits from run to run, on any machine.

A GPU adds the rows of one id up in whatever order they come. With this folder in PYTHONPATH every Python, a notebook's
too, moves these gradients by 6e-8 of their size, one rounding of float32, each time by other numbers.
"""

import os

import mlx.core as mx
import mlx.nn as nn

ROUNDING = 6e-8

_value_and_grad = nn.value_and_grad


def value_and_grad(model, function):
    """nn.value_and_grad, with noise."""
    inner = _value_and_grad(model, function)

    def noisy(*args, **kwargs):
        value, gradients = inner(*args, **kwargs)
        table = gradients.get("transformer", {}).get("wte")
        if table:
            seed = int.from_bytes(os.urandom(4), "little")  # mx.compile keeps one for each function that it makes
            noise = mx.random.normal(table["weight"].shape, key=mx.random.key(seed))
            table["weight"] = table["weight"] * (1 + ROUNDING * noise)
        return value, gradients

    return noisy


nn.value_and_grad = value_and_grad
