"""Numbers out of MLX arrays, with the types that they have: MLX's hints say complex for each of them."""

from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    import mlx.core as mx


def as_float(array: "mx.array") -> float:
    """The number in an array of one element: its `item()`."""
    return cast(float, array.item())


def as_floats(array: "mx.array") -> list[float]:
    """The numbers in an array of one dimension: its `tolist()`."""
    return cast(list[float], array.tolist())
