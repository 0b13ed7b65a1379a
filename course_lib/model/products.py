"""Products with a weight on a CPU: a routine for one row, and the order in memory for several.

Written by hand; chapter 12 uses it.

A token of one text needs each weight once, so it can be made no faster than the weights come from memory. MLX knows
one routine, sgemm, which is made for many rows: it first copies the weight into an order of its own. For one row NumPy
calls sgemv, which reads each number where it lies. A GPU has routines of both kinds, and there nothing is done.
"""

import functools
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten, tree_unflatten

from course_lib import backend

# Numbers of a weight from which on `project` leaves MLX for one row. It must then wait for what MLX has begun, some 20
# µs. At half the size, whole tokens of models of depth 4 to 12 gained nothing or lost.
LARGE = 1 << 20
# Numbers of a weight from which on its order in memory is chosen. With smaller ones OpenBLAS takes kernels for small
# products, whose last bits the order changes, and so it would change what a model learns after it has written a sample.
ORDERED = 1 << 18
ROWS = 8  # with which the order is chosen

_inference: ContextVar[bool] = ContextVar("inference", default=False)


@contextmanager
def inference_mode() -> Iterator[None]:
    """Inside, `project` may compute at once and without MLX: no gradient, no mx.compile. PyTorch has it, too."""
    before = _inference.set(backend.device_kind() == "cpu")
    try:
        yield
    finally:
        _inference.reset(before)


def project(x: mx.array, weight: mx.array) -> mx.array:
    """x Wᵀ in the type of x: (…, in), (out, in) -> (…, out)."""
    one_row = x.size == x.shape[-1] and weight.size >= LARGE
    if not (one_row and _inference.get() and x.dtype == weight.dtype == mx.float32):
        return x @ weight.astype(x.dtype).T
    product = np.array(weight, copy=False) @ np.array(x, copy=False).reshape(-1)  # both are views
    return mx.array(product).reshape(*x.shape[:-1], -1)


def lay_out(model: nn.Module) -> None:
    """Put each weight in memory in the order with which this machine multiplies several rows faster; numbers stay.

    Tables, of which single rows are read, and small weights stay as they are.
    """
    if backend.device_kind() != "cpu":
        return
    for name, weight in tree_flatten(model.parameters()):
        is_table = "wte" in name or "value_embeds" in name
        if is_table or weight.ndim != 2 or weight.size < ORDERED or weight.dtype != mx.float32:
            continue
        by_columns = columns_are_faster(weight.shape)
        if by_columns != memoryview(weight).f_contiguous:
            model.update(tree_unflatten([(name, in_order(weight, by_columns))]))


def in_order(weight: mx.array, by_columns: bool) -> mx.array:
    """The same matrix, which lies in memory column after column or, as MLX makes it, row after row."""
    ordered = mx.contiguous(weight.T).T if by_columns else mx.contiguous(weight)
    mx.eval(ordered)
    return ordered


@functools.cache
def columns_are_faster(shape: tuple[int, int]) -> bool:
    """Whether ROWS rows times a weight (out, in) take less time when it lies column after column: measured here.

    At most 64 MB of the weight are tried. A gain below 2 % is none.
    """
    outputs, inputs = shape
    weight = mx.ones((min(outputs, (1 << 24) // inputs + 1), inputs))
    weights = {by_columns: in_order(weight, by_columns) for by_columns in (False, True)}
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(3):
        for by_columns, each in weights.items():
            seconds[by_columns].append(product_seconds(each))
    return statistics.median(seconds[True]) < 0.98 * statistics.median(seconds[False])


def product_seconds(weight: mx.array) -> float:
    """Processor time of one product with ROWS rows; other programs on the machine disturb it less than a clock's."""
    x = mx.ones((ROWS, weight.shape[1]))
    mx.eval(x)
    started = time.process_time()
    mx.eval(x @ weight.T)
    return time.process_time() - started
