"""Checks for the exercises of notebook 11."""

import math
import random


def choose(answer) -> None:
    """Exercise 11.1."""
    assert answer([[1.0, 1.0], [4.0]], [[2, 2], [4]]) == 0, (
        "2 nats for 4 bytes are 0.5 a byte, 4 for 4 are 1: the first option has the fewest"
    )
    assert answer([[3.0], [2.0, 2.0, 2.0]], [[2], [3, 3, 3]]) == 1, (
        "3 nats for 2 bytes are 1.5 a byte, 6 for 9 are 0.67: the second has the fewest, though its sum is larger"
    )
    assert answer([[0.1, 9.0], [2.0, 2.0]], [[1, 9], [2, 2]]) == 0, (
        "9.1 nats for 10 bytes are 0.91 a byte, 4 for 4 are 1: sum each list first, and divide the sums"
    )
    assert answer([[2.0], [1.0, 1.0], [2.0]], [[4], [2, 2], [3]]) == 0, "options 0 and 1 are level: return the first"


def difference(answer) -> None:
    """Exercise 11.2."""
    mean, error = answer([1, 0, 1, 0], [1, 1, 1, 0])
    assert abs(mean - 0.25) < 1e-9, f"0.75 − 0.5 is 0.25, not {mean:.3g}: second minus first"
    expected = math.sqrt(0.25 - 0.25**2) / 2
    assert abs(error - expected) < 1e-9, (
        f"the differences are 0, 1, 0, 0: their variance is 0.1875, the error √0.1875 / √4 = {expected:.4f}, "
        f"not {error:.4f}"
    )
    same = [random.Random(0).randrange(2) for _ in range(50)]
    mean, error = answer(same, list(same))
    assert mean == 0 and error == 0, "two models that answer alike differ by 0 ± 0, whatever their accuracy"
    mean, error = answer([1, 0] * 50, [0, 1] * 50)
    assert mean == 0 and abs(error - 0.1) < 1e-9, (
        f"100 differences of −1 and 1: mean 0, standard deviation 1, error 0.1, not {error:.4f}"
    )


def bootstrap(answer) -> None:
    """Exercise 11.3."""
    assert answer([2.0] * 20, [1] * 20, seed=0) < 1e-9, "twenty documents that are alike give the same number each time"
    chance = random.Random(3)
    sizes = [chance.randint(50, 5000) for _ in range(200)]
    nats = [size * chance.uniform(0.8, 1.6) for size in sizes]
    ratio = sum(nats) / sum(sizes)
    spread = math.sqrt(sum((n - ratio * s) ** 2 for n, s in zip(nats, sizes, strict=True)))
    expected = spread / sum(sizes) / math.log(2)
    found = answer(nats, sizes, seed=1)
    assert abs(found - answer(nats, sizes, seed=1)) < 1e-12, "the same seed must give the same number"
    assert not abs(found - expected * math.log(2)) < 0.1 * expected, "that is in nats a byte: divide by ln 2"
    assert abs(found - expected) < 0.15 * expected, (
        f"for these 200 documents it is about {expected:.4f} bits per byte, not {found:.4f}: draw whole documents, "
        "with repetition, and divide the sums of each round"
    )
