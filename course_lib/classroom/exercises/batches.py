"""Checks for the exercises of notebook 04."""

import dis
import random
from types import CodeType

import mlx.core as mx


def mask_of(answer) -> str:
    """Exercise 4.1."""
    mask = answer([1, 3, 0], 4)
    assert isinstance(mask, mx.array), f"return an mx.array, not {type(mask).__name__}"
    assert mask.shape != (4, 3), "the names are the rows: stand the lengths in a column and lay the positions in a row"
    assert mask.shape != (3, 3), "that is as wide as the longest name; there are T positions, mx.arange(T)"
    assert mask.shape == (3, 4), f"3 names and T=4 make a mask of shape (3, 4), not {mask.shape}"
    rows, expected = mask.astype(mx.float32).tolist(), [[1, 0, 0, 0], [1, 1, 1, 0], [0, 0, 0, 0]]
    assert rows != [[1 - real for real in row] for row in expected], "that marks the padding; 1 is for what is real"
    assert rows != [[1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]], (
        "each row has one 1 too many: a name of length 1 has position 0 only"
    )
    assert rows != [[0, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]], (
        "each row has one 1 too few: positions count from 0, so a name of length 1 has position 0"
    )
    assert rows != [row[::-1] for row in expected], "the padding is in front; a name begins at position 0"
    assert rows == expected, (
        f"for lengths 1, 3, 0 the mask is {expected}, yours is {rows}; position t is real where t < length"
    )
    assert not _loops(answer.__code__), "the mask is right; now without a Python loop, by comparing two arrays"
    return "Its sum is the number of real predictions, by which the loss is divided."


def _loops(code: CodeType) -> bool:
    """Whether a function jumps back, itself or in a comprehension."""
    jumps = any(step.opname.startswith(("FOR_ITER", "JUMP_BACKWARD")) for step in dis.get_instructions(code))
    return jumps or any(_loops(inner) for inner in code.co_consts if isinstance(inner, CodeType))


def buckets(answer) -> str:
    """Exercise 4.2."""
    generator = random.Random(0)
    names = ["".join(generator.choices("abcde", k=generator.randint(2, 12))) for _ in range(203)]
    given = list(names)
    batches = answer(names, 10)
    assert names == given, "leave the list that you are given as it is; sort a copy"
    assert batches is not None, "it returns nothing: is there a `return`?"
    kept = sorted(name for batch in batches for name in batch)
    assert kept != sorted(set(names)), "names that occur twice must come twice; a set drops them"
    assert len(kept) >= 203, f"{203 - len(kept)} names are missing: does the last batch get what is left over?"
    assert kept == sorted(names), "every name must be in exactly one batch"
    assert all(len(batch) <= 10 for batch in batches), "a batch may hold at most batch_size names"
    assert len(batches) == 21, f"203 names in batches of 10 are 21 batches, not {len(batches)}"
    padding = sum(max(map(len, batch)) * len(batch) - sum(map(len, batch)) for batch in batches)
    assert padding <= 60, f"{padding} letters of padding are left; names of similar length together need fewer"
    return "Now look at the first batch and the last: what would training in this order do?"


def loss_by_letter(answer) -> str:
    """Exercise 4.3."""
    losses = mx.array([[1.0, 2.0, 9.0], [3.0, 9.0, 9.0]])
    targets = mx.array([[0, 2, 3], [0, 3, 3]])
    mask = mx.array([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    means = answer(losses, targets, mask, 4)
    assert isinstance(means, mx.array), f"return an mx.array, not {type(means).__name__}"
    assert means.shape == (4,), f"return one mean for each of the 4 ids, shape (4,), not {means.shape}"
    first, _, third, padded = means.tolist()
    assert first != 4, "that is the sum of the losses; divide by how often the id was the target"
    assert abs(first - 2) < 1e-6, f"id 0 is the target twice, with losses 1 and 3: its mean is 2, not {first:.3g}"
    assert abs(third - 2) < 1e-6, f"id 2 is the target once, with loss 2: its mean is 2, not {third:.3g}"
    assert padded != 9, "id 3 is a target in the padding only: multiply by the mask, or it counts what nobody asked"
    assert means[1:].tolist() == [0, 2, 0], "ids 1 and 3 are never a real target: give 0, and do not divide by zero"
    return "Now use it on all held-out names: which letter is the hardest to guess, and is it a rare one?"
