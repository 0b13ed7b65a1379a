"""What a device promises: on a CPU a sum is added up in the same order each time, on a GPU it need not be."""

import numpy as np
import pytest

from course_lib import backend

EXACT = backend.device_kind() == "cpu"


def differing(one: dict, other: dict) -> list[str]:
    """Names of the arrays that differ: on a CPU in any bit; on a GPU in more than some numbers, by a thousandth.

    There AdamW's first steps may amplify any difference, since they look at little but the signs.
    """
    assert one.keys() == other.keys()
    return [name for name in one if not _same(np.array(one[name]), np.array(other[name]))]


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if EXACT or a.dtype.kind != "f":
        return a.tobytes() == b.tobytes()
    return bool(np.quantile(np.abs(a - b), 0.9) <= 1e-3 * np.abs(b).max())


def assert_same_numbers(one, other, rel: float = 2e-2) -> None:
    """Exactly the same on a CPU; on a GPU up to `rel`: numbers, lists or dicts of them; there text may differ."""
    if EXACT:
        assert one == other
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for name in one:
            assert_same_numbers(one[name], other[name], rel)
    elif isinstance(one, list):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_same_numbers(a, b, rel)
    elif isinstance(one, float):
        assert one == pytest.approx(other, rel=rel)
    elif not isinstance(one, str):
        assert one == other
