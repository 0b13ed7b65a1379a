"""Checks for the exercises of notebook 12."""

import random

import mlx.core as mx

from course_lib import backend
from course_lib.model.gpt import GPTConfig


def users(answer) -> None:
    """Exercise 12.1."""
    config = GPTConfig(1024, 1000, n_layer=2, n_head=4, n_kv_head=2, n_embd=64)
    size = backend.compute_dtype().size
    weights = (2 * (3 * 64 * 64 + 8 * 64 * 64) + 2 * 1000 * 64) * size  # two heads of four: half of c_k and c_v
    row = 2 * 2 * 2 * 512 * 16 * size  # keys and values, blocks, heads, 300 positions in steps of 256, numbers
    found = answer(config, weights + 10 * row, 300)
    assert found is not None, "return a number of texts"
    assert found != 10 * row // (2 * 2 * 2 * 300 * 16 * size), (
        "a cache for 300 positions has room for 512: it grows in steps of 256"
    )
    assert found != (weights + 10 * row) // row, "the weights take their part of the memory first"
    assert found == 10, f"after the weights there is room for 10 texts, not {found}"
    found = answer(config, weights + 10 * row - 1, 300)
    assert found == 9, f"one byte less, and a tenth text does not fit; you say {found}"
    found = answer(config, weights // 2, 300)
    assert found == 0, f"not even the weights fit: 0 texts, not {found}"
    many = answer(GPTConfig.from_depth(4, n_kv_head=1), 10**10, 2048)
    few = answer(GPTConfig.from_depth(4), 10**10, 2048)
    assert many > few, "with one head of keys and values more texts must fit than with two"


def penalise(answer) -> None:
    """Exercise 12.2."""
    logits = mx.array([2.0, -2.0, 1.0, -1.0])
    found = answer(logits, [0, 1], 2.0)
    assert logits.tolist() == [2, -2, 1, -1], "the array that was given has changed; make a new one"
    assert isinstance(found, mx.array) and found.shape == (4,), "return an array of logits (V,)"
    assert found[0].item() == 1, f"the positive logit 2 becomes 1, not {found[0].item():.3g}"
    assert found[1].item() == -4, (
        f"the negative logit -2 becomes -4, not {found[1].item():.3g}: divided, it would be likelier than before"
    )
    assert found[2:].tolist() == [1, -1], "tokens that are not in the text keep their logits"
    found = answer(logits, [0, 0, 0], 2.0)[0].item()
    assert found == 1, f"a token that occurs three times is penalised once: 1, not {found:.3g}"
    assert answer(logits, [], 2.0).tolist() == [2, -2, 1, -1], "an empty text changes nothing"


def steps_needed(answer) -> None:
    """Exercise 12.3."""
    found = answer([3, 1, 2], 1)
    assert found == 6, f"one row writes one text after the other: 3 + 1 + 2 steps, not {found}"
    assert answer([3, 1, 2], 3) == 3, f"with a row for each the longest decides: 3, not {answer([3, 1, 2], 3)}"
    assert answer([3, 1, 2], 5) == 3, "rows that stay empty change nothing"
    found = answer([4, 1, 1, 1, 1], 2)
    assert found == 4, f"while one row writes 4 the other writes 1, 1, 1 and 1: 4 steps, not {found}"
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


def verify(answer) -> None:
    """Exercise 12.4."""
    model_says = [5, 2, 7, 4]
    logits = mx.eye(10)[mx.array(model_says)]  # (4, 10), the likeliest of each row
    cases = {
        (5, 2, 7): ([5, 2, 7, 4], "every guess is right: all three, and one id more, free of charge"),
        (5, 2, 9): ([5, 2, 7], "the third guess is wrong: the model's own id takes its place"),
        (1, 2, 7): (
            [5],
            "the first guess is wrong: what comes after it was read after a wrong text",
        ),
        (5, 0, 7): ([5, 2], "the second is wrong: that the third would be right does not count"),
    }
    for draft, (expected, why) in cases.items():
        found = answer(logits, list(draft))
        assert list(found) == expected, (
            f"{why}; for {list(draft)} and a model that says {model_says} that is {expected}, not {found}"
        )
    assert list(answer(logits[:1], [])) == [5], "with no guesses it is plain decoding: one id"
