"""Checks for the exercises of notebook 12."""

import math
import random
from collections.abc import Callable

import mlx.core as mx

RETURN = "nothing came back: the function needs a return"


def roomy_layer(answer: type) -> str:
    """Exercise 12.1: a cache that writes into its room."""
    layer = answer(2, 3, 8, 4)
    assert layer.offset == 0, f"an empty cache has offset 0, not {layer.offset}"
    for name in ("keys", "values"):
        shape = getattr(layer, name).shape
        assert shape == (2, 3, 8, 4), f"{name} must have room from the start: (2, 3, 8, 4), not {shape}"
    seen = []
    for step, T in enumerate((3, 1, 4)):
        k, v = mx.random.normal((2, 2, 3, T, 4), key=mx.random.key(step))
        seen.append((k, v))
        found = layer.update_and_fetch(k, v)
        held = sum(k.shape[2] for k, _ in seen)
        what = f"after {step + 1} update{'s' if step else ''}, {held} positions"
        assert found is not None, RETURN
        room = layer.keys.shape[2], layer.values.shape[2]
        assert room == (8, 8), f"{what}: the room is {room} and not 8; write into the array, join nothing"
        assert layer.offset == held, f"{what}: the offset is {held}, not {layer.offset}"
        for name, one, parts in zip(("keys", "values"), found, zip(*seen, strict=True), strict=True):
            wanted = mx.concatenate(parts, axis=2)
            assert one.shape != layer.keys.shape or held == 8, f"{what}: the empty room comes back too; leave it out"
            assert one.shape[2] != T or held == T, f"{what}: only the new {name} come back; give back all of them"
            assert one.shape == wanted.shape, f"{what}: the {name} have shape {one.shape}, expected {wanted.shape}"
            assert mx.array_equal(one[:, :, -T:], wanted[:, :, -T:]), f"{what}: the newest {name} are not at the end"
            assert mx.array_equal(one, wanted), f"{what}: the old {name} have changed; write after them"
    _assert_in_place(answer)
    return "What should a ninth position do? The package makes new arrays with 256 more"


def _assert_in_place(answer: type) -> None:
    """A token must not copy the whole array."""
    layer, one = answer(1, 1, 1 << 16, 64), mx.ones((1, 1, 1, 64))
    mx.eval(one, layer.keys, layer.values)
    for _ in range(2):  # the first may still make the zeros
        before = mx.get_active_memory()
        mx.reset_peak_memory()
        mx.eval(layer.update_and_fetch(one, one))
        mx.eval(layer.keys, layer.values)
        more = mx.get_peak_memory() - before
    assert more < layer.keys.nbytes / 2, "a single token makes a copy of the whole array; write into it in place"


def _rows() -> mx.array:
    """Rows of different logits: sure, unsure, shifted; no two of a row are equal."""
    generator = random.Random(1)
    rows = []
    for scale, shift in ((3.0, 0.0), (0.3, -20.0), (1.0, 20.0), (6.0, 1.0)):
        numbers = [shift + scale * (n / 6 - 2.05) for n in range(24)]
        generator.shuffle(numbers)
        rows.append(numbers)
    return mx.array(rows)


def _compare(found: mx.array, logits: mx.array, before: list, keep: list[int], what: str, why: str) -> None:
    """What must hold of any rule that cuts off: `keep` of each row stay, the largest, where they were."""
    assert found is not None, RETURN
    assert logits.tolist() == before, "the array that was given has changed; make a new one"
    assert isinstance(found, mx.array) and found.shape == logits.shape, (
        f"return logits of the same shape, {logits.shape}: what is cut off stays in its place, as -inf"
    )
    assert not (found == 0).any(), "what is cut off must be -mx.inf: a logit of 0 still has a probability"
    counts = (found > -mx.inf).sum(axis=-1).tolist()
    if counts != keep:
        total = f"; in all rows together that are {sum(counts)}" if sum(counts) in (keep[0], max(keep)) else ""
        raise AssertionError(f"{what}: {counts} of the rows' logits stay, expected {keep}{total}. {why}")
    for row, (old, new, count) in enumerate(zip(before, found.tolist(), keep, strict=True)):
        largest = set(sorted(old)[-count:])
        assert all(a == b or math.isinf(b) for a, b in zip(old, new, strict=True)), (
            f"{what}: in row {row} logits have other values or other places; what stays must stay as it was"
        )
        assert {b for b in new if not math.isinf(b)} == largest, f"{what}: row {row} does not keep its largest"


def top_k(answer: Callable) -> str:
    """Exercise 12.2: the k largest of each row."""
    logits = _rows()
    before = logits.tolist()
    for k in (4, 1, 7, 24):
        why = "Is the limit the k-th largest of each row? mx.topk gives its k in any order"
        _compare(answer(logits, k), logits, before, [k] * 4, f"k={k}", why)
    return "What happens when two logits at the edge are equal?"


def top_p(answer: Callable) -> str:
    """Exercise 12.3: the likeliest that have p together."""
    four = mx.log(mx.array([[0.15, 0.5, 0.1, 0.25]]))
    found = answer(four, 0.6)
    assert found is not None, RETURN
    kept = (found > -mx.inf).sum().item() if found.shape == four.shape else 2
    assert kept != 1, (
        "of 50, 25, 15 and 10 % only the first stays at p=0.6: alone it has 0.5, so the one that gets there stays, too"
    )
    assert kept != 3, "of 50, 25, 15 and 10 % three stay at p=0.6: the first two have 0.75 already"
    assert (answer(four, 0.3) > -mx.inf).any(), (
        "at p=0.3 nothing is left: the likeliest stays even when it has more than p"
    )
    logits = _rows()
    before = logits.tolist()
    for p in (0.6, 0.3, 0.95):
        keep = []
        for row in before:
            weights = sorted((math.exp(z - max(row)) for z in row), reverse=True)
            sums = [sum(weights[:n]) / sum(weights) for n in range(len(weights))]  # of those before
            keep.append(sum(each < p for each in sums))
        why = "Add up probabilities, not logits, from the likeliest on, in each row by itself"
        _compare(answer(logits, p), logits, before, keep, f"p={p}", why)
    return "How many tokens would top-p of 1 keep, and why is that not always all of them in floating point?"


def steps_needed(answer: Callable) -> None:
    """Exercise 12.4."""
    found = answer([3, 1, 2], 1)
    assert found is not None, RETURN
    assert found == 6, f"one row writes one text after the other: 3 + 1 + 2 steps, not {found}"
    assert answer([3, 1, 2], 3) == 3, f"with a row for each the longest decides: 3, not {answer([3, 1, 2], 3)}"
    assert answer([3, 1, 2], 5) == 3, "rows that stay empty change nothing"
    found = answer([3, 1, 1, 3], 2)
    assert found != 6, (
        "[3, 1, 1, 3] in 2 rows: groups that wait for their longest need 6; a free row takes the next at once"
    )
    assert found != 4, "[3, 1, 1, 3] in 2 rows would need 4 in the best order; they wait in this order"
    assert found == 5, (
        f"while one row writes the first 3 the other writes 1, 1 and begins the last: 5 steps, not {found}"
    )
    found = answer([1, 1, 1, 4], 2)
    assert found == 5, f"[1, 1, 1, 4] in 2 rows: the 4 waits until a row is free, in this order; 5 steps, not {found}"
    assert answer([], 3) == 0, "no texts need no steps"
    generator = random.Random(0)
    for _ in range(20):
        lengths = [generator.randint(1, 20) for _ in range(generator.randint(1, 30))]
        given, rows = list(lengths), generator.randint(1, 6)
        found = answer(lengths, rows)
        assert lengths == given, "leave the list that you are given as it is; work on a copy"
        ends = [0] * rows  # when each row is free
        for length in lengths:
            ends[ends.index(min(ends))] += length
        assert found == max(ends), f"{lengths} in {rows} rows: {max(ends)} steps, not {found}"
