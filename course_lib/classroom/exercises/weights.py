"""Checks for the exercises of notebook 22."""

import io
import pickle
from collections import OrderedDict

import mlx.core as mx
import numpy as np

KNOWN = {"torch._utils _rebuild_tensor_v2", "torch FloatStorage", "collections OrderedDict"}
RAN: list[str] = []  # what a pickle that was run, not only read, leaves behind


def _trap(word: str) -> str:
    """What a hostile pickle would call."""
    RAN.append(word)
    return word


class _Hostile:
    def __reduce__(self):
        return _trap, ("it ran",)


class _Asks(pickle.Pickler):
    """A pickler that writes what is a text as an id for the reader to look up, as torch does with its numbers."""

    def persistent_id(self, obj: object) -> object:
        return "numbers" if obj == "numbers" else None


def _sound() -> bytes:
    file = io.BytesIO()
    _Asks(file, protocol=2).dump({"weight": ("numbers", 0, (2, 3), OrderedDict())})
    return file.getvalue()


def first_refused(answer) -> str:
    """Exercise 22.1."""
    sound, late = _sound(), pickle.dumps((1, 2, _Hostile(), 3), protocol=2)
    named = f"c{_trap.__module__}\n_trap\n".encode()
    cases = {
        "a sound pickle": (sound, None),
        "a name that is not known": (pickle.dumps(_Hostile(), protocol=2), "GLOBAL"),
        "a name that is not known, after some numbers": (late, "GLOBAL"),
        "a name that is built on the stack": (pickle.dumps(_Hostile(), protocol=4), "STACK_GLOBAL"),
        "a name and a call in one instruction": (b"(i" + named[1:] + b".", "INST"),
        "a call by OBJ of a name that is not known": (b"(" + named + b"o.", "GLOBAL"),
        "a name out of a table of numbers": (b"\x80\x02\x82\x01.", "EXT1"),
        "an instruction that gives an object its state, after sound ones": (sound[:-1] + b"}b.", "BUILD"),
    }
    for what, (content, truth) in cases.items():
        RAN.clear()
        found = answer(content, KNOWN)
        assert not RAN, f"{what}: the pickle was run; read its instructions with pickletools.genops only"
        if truth is None:
            assert found is None, (
                f"{what}: nothing is to be refused, yet the answer is {found!r}; return None at its end"
            )
        else:
            assert found is not None, f"{what}: let through; its instruction {truth} is to be refused"
            assert found == truth, f"{what}: {truth} is the first to be refused, not {found!r}"
    return "A list of what is allowed had no need to know any of these tricks."


def four_bits(answer) -> None:
    """Exercise 22.2."""
    rng = np.random.default_rng(0)
    groups = {
        "the furthest from 0 is positive": np.append(rng.normal(size=63), 9),
        "the furthest from 0 is negative": np.append(rng.normal(size=63), -9),
        "numbers on both sides of 0": rng.normal(size=64),
        "a number beyond the last level": np.append(rng.uniform(-0.9, 0.9, 62), (-1, 0.9868)),  # it lies at 15.9
        "positive numbers only": 1 + rng.random(64),
        "negative numbers only": -1 - rng.random(64),
        "large numbers": 1e4 * rng.normal(size=64),
    }
    for what, group in groups.items():
        group = group.astype(np.float32)
        kept = group.copy()
        found = answer(group)
        assert np.array_equal(group, kept), f"{what}: the group that you were given has changed; work on a copy"
        assert found is not None, "nothing came back: return words, scale, bias"
        words, scale, bias = found
        theirs = [np.array(each).reshape(-1) for each in mx.quantize(mx.array(group[None]), 64, 4)]
        truth, its_scale, its_bias = theirs[0], theirs[1][0], theirs[2][0]
        low, high = group.min(), group.max()
        assert not (
            np.isclose(scale, (high - low) / 15) and np.isclose(bias, low) and not np.isclose(bias, its_bias)
        ), f"{what}: that is the plain way, from the smallest on; the level that is kept is the number furthest from 0"
        assert np.isclose(abs(scale), abs(its_scale), rtol=1e-6), (
            f"{what}: the scale is {its_scale:.7g}, not {scale:.7g}; from 0 to the edge is a whole number of steps"
        )
        assert np.isclose(scale, its_scale, rtol=1e-6), f"{what}: the scale has the wrong sign: from the edge inwards"
        assert np.isclose(bias, its_bias, rtol=1e-6), f"{what}: the bias is the edge, {its_bias:.7g}, not {bias:.7g}"
        words = np.asarray(words)
        assert words.shape == (8,), f"64 numbers of 4 bits fill 8 words of 32 bits, not an array {words.shape}"
        backwards = (truth[:, None] >> np.arange(0, 32, 4, dtype=np.uint32) & 15)[:, ::-1]
        backwards = (backwards << np.arange(0, 32, 4, dtype=np.uint32)).sum(axis=1, dtype=np.uint32)
        assert not np.array_equal(words, backwards), f"{what}: the first number belongs into the lowest four bits"
        assert np.array_equal(words.astype(np.uint64), truth), (
            f"{what}: {int((words.astype(np.uint64) != truth).sum())} of 8 words differ from MLX's; "
            "round with np.rint, then cut to 0 … 15"
        )


def take(answer) -> None:
    """Exercise 22.3."""
    cases = [
        ([5, 6, 7], [5, 6, 7, 8], [5, 6, 7, 8], "a draft that is right to its end gains the model's own next id"),
        ([5, 6, 7], [5, 9, 7, 8], [5, 9], "after the first wrong one nothing counts: it was read after a wrong id"),
        ([5, 6, 7], [4, 6, 7, 8], [4], "a draft that is wrong at once still gives the model's own id"),
        ([], [3], [3], "an empty draft gives the model's own id"),
        ([5, 5], [5, 5, 5], [5, 5, 5], "the same id several times"),
        ([1, 2], [2, 3, 4], [2], "best[n] is the model's id at the place of draft[n], not after it"),
        ([5, 6, 7], [5, 6, 9, 8], [5, 6, 9], "wrong at its last place"),
    ]
    for draft, best, truth, why in cases:
        given = list(draft), list(best)
        found = answer(draft, best)
        assert (draft, best) == given, "the lists that you were given have changed; make a new one"
        assert found is not None, "nothing came back: the function needs a return"
        assert list(found) == truth, f"draft {draft}, best {best}: {truth}, not {list(found)}; {why}"
