"""Checks for the exercises of notebook 04."""

import random

import mlx.core as mx


def mask_of(answer) -> str:
    """Exercise 4.1."""
    mask = answer([1, 3, 0], 4)
    assert isinstance(mask, mx.array), f"return an mx.array, not {type(mask).__name__}"
    assert mask.shape == (3, 4), f"3 names and T=4 make a mask of shape (3, 4), not {mask.shape}"
    expected = [[1, 0, 0, 0], [1, 1, 1, 0], [0, 0, 0, 0]]
    assert mask.astype(mx.float32).tolist() == expected, f"for lengths 1, 3, 0 the mask is {expected}"
    return "Its sum is the number of real predictions, by which the loss is divided."


def buckets(answer) -> str:
    """Exercise 4.2."""
    generator = random.Random(0)
    names = ["".join(generator.choices("abcde", k=generator.randint(2, 12))) for _ in range(203)]
    given = list(names)
    batches = answer(names, 10)
    assert names == given, "leave the list that you are given as it is; sort a copy"
    assert sorted(name for batch in batches for name in batch) == sorted(names), (
        "every name must be in exactly one batch"
    )
    assert all(len(batch) <= 10 for batch in batches), "a batch may hold at most batch_size names"
    assert len(batches) == 21, f"203 names in batches of 10 are 21 batches, not {len(batches)}"
    padding = sum(max(map(len, batch)) * len(batch) - sum(map(len, batch)) for batch in batches)
    assert padding <= 60, f"{padding} letters of padding are left; names of similar length together need fewer"
    return "Now look at the first batch and the last: what would training in this order do?"


def loss_by_position(answer) -> str:
    """Exercise 4.3."""
    losses = mx.array([[1.0, 2.0, 9.0], [3.0, 9.0, 9.0]])
    mask = mx.array([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    means = answer(losses, mask)
    assert means.shape == (3,), f"return one mean a position, shape (3,), not {means.shape}"
    assert abs(means[0].item() - 2) < 1e-6, (
        f"position 0 has losses 1 and 3, so its mean is 2, not {means[0].item():.3g}"
    )
    assert abs(means[1].item() - 2) < 1e-6, (
        f"position 1 has one real prediction, its mean is 2, not {means[1].item():.3g}"
    )
    assert means[2].item() == 0, "position 2 has no real prediction: give 0, and do not divide by zero"
    return "Now use it on all held-out names, as above: which letter is the hardest to guess?"
