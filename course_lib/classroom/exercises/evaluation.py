"""Checks for the exercises of notebook 11."""

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np

OPTIONS = (  # (losses, sizes) of items: lists of nats and of bytes for each option
    ([[1.0, 1.0], [4.0]], [[2, 2], [4]]),
    ([[3.0], [2.0, 2.0, 2.0]], [[2], [3, 3, 3]]),
    ([[3.0, 1.0], [1.9, 1.9]], [[1, 9], [4, 4]]),
    ([[2.5, 2.5], [0.2, 0.2, 6.0]], [[5, 5], [1, 1, 6]]),
    ([[1.0, 1.0, 1.0, 1.0], [2.0, 2.2]], [[1, 1, 1, 1], [4, 5]]),
    ([[2.0], [1.0, 1.0], [2.0]], [[4], [2, 2], [3]]),
    ([[4.0], [0.5], [3.0, 1.0]], [[9], [1], [6, 4]]),
)


def _least(scores: Iterable[float]) -> int:
    scores = list(scores)
    return scores.index(min(scores))


RIGHT_CHOICE = "fewest nats a byte"
CHOICES: dict[str, Callable] = {
    RIGHT_CHOICE: lambda losses, sizes: _least(sum(a) / sum(b) for a, b in zip(losses, sizes, strict=True)),
    "that is the mean of the tokens' own ratios, in which a token of one byte weighs as much as one of nine: sum the "
    "nats, sum the bytes, and divide once": lambda losses, sizes: _least(
        sum(x / y for x, y in zip(a, b, strict=True)) / len(a) for a, b in zip(losses, sizes, strict=True)
    ),
    "that adds up the tokens' own ratios: sum the nats, sum the bytes, and divide once": lambda losses, sizes: _least(
        sum(x / y for x, y in zip(a, b, strict=True)) for a, b in zip(losses, sizes, strict=True)
    ),
    "that is the mean over tokens, which depends on the tokenizer: divide by bytes": lambda losses, sizes: _least(
        sum(a) / len(a) for a in losses
    ),
    "that is the smallest sum, which favours short options: divide by bytes": lambda losses, sizes: _least(
        sum(a) for a in losses
    ),
    "that is the option with the MOST nats a byte: is the ratio upside down, or a max in place of a min?": (
        lambda losses, sizes: _least(-sum(a) / sum(b) for a, b in zip(losses, sizes, strict=True))
    ),
    "that is one too many: count the options from 0": lambda losses, sizes: CHOICES[RIGHT_CHOICE](losses, sizes) + 1,
    "of two that are level take the first, not the last": lambda losses, sizes: max(
        range(len(losses)), key=lambda n: (-sum(losses[n]) / sum(sizes[n]), n)
    ),
}


def choose(answer: Callable) -> str:
    """Exercise 11.1: the option with the fewest nats a byte."""
    found = [answer([list(a) for a in losses], [list(b) for b in sizes]) for losses, sizes in OPTIONS]
    assert None not in found, "nothing came back: the function needs a return"
    assert all(isinstance(each, int | np.integer) for each in found), (
        f"return the number of the option, counted from 0, not {found[0]!r}"
    )
    expected = [CHOICES[RIGHT_CHOICE](*each) for each in OPTIONS]
    for said, rule in CHOICES.items():
        assert said == RIGHT_CHOICE or found != [rule(*each) for each in OPTIONS], said
    for (losses, sizes), option, right in zip(OPTIONS, found, expected, strict=True):
        rates = ", ".join(f"{sum(a) / sum(b):.2f}" for a, b in zip(losses, sizes, strict=True))
        assert option == right, (
            f"losses {losses} and bytes {sizes} are {rates} nats a byte: option {right}, not {option}"
        )
    return "CORE takes the mean over tokens. Can that choose another option for the same text?"


def _pairs(seed: int, alike: float) -> tuple[list[int], list[int], list[int]]:
    """Hits of two models on 60 items in clusters of 1, 2, 3 or 6, in mixed order."""
    chance = np.random.default_rng(seed)
    clusters = np.repeat(np.arange(20), chance.permutation([1, 2, 3, 6] * 5))
    order = chance.permutation(len(clusters))
    hard = chance.random(20)[clusters]
    first = chance.random(len(clusters)) < hard
    better = np.where(chance.random(20)[clusters] < alike, True, first)
    second = np.where(chance.random(len(clusters)) < 0.8, better, ~first)
    return first[order].astype(int).tolist(), second[order].astype(int).tolist(), clusters[order].tolist()


def _errors(first: Sequence[int], second: Sequence[int], clusters: Sequence[int]) -> dict[str, float]:
    """The right error under "", and what likely mistakes give, by what to say about them."""
    a, b, labels = np.array(first), np.array(second), np.array(clusters)
    d = b - a
    n, groups = len(d), [d[labels == each] for each in dict.fromkeys(clusters)]
    away = np.array([(group - d.mean()).sum() for group in groups])
    sums, means = np.array([group.sum() for group in groups]), np.array([group.mean() for group in groups])
    return {
        "": math.sqrt((away**2).sum()) / n,
        "that is as if the models had answered other items each: take the difference on every item first": math.sqrt(
            (a.var() + b.var()) / n
        ),
        "that is the paired error of independent items: add up the distances inside each cluster before you "
        "square": d.std() / math.sqrt(n),
        "that divides by n − 1: here the variance is the mean of the squares": d.std(ddof=1) / math.sqrt(n),
        "subtract the mean difference from each item before you add them up": math.sqrt((sums**2).sum()) / n,
        "divide by the number of items, not of clusters": math.sqrt((away**2).sum()) / len(groups),
        "that is the spread of the clusters' means, in which a cluster of one item weighs as much as one of six": (
            means.std() / math.sqrt(len(groups))
        ),
        "that is its square: the root is missing": (away**2).sum() / n**2,
        "the root comes last: of the sum of all squares, not of each": np.abs(away).sum() / n,
    }


def difference(answer: Callable) -> str:
    """Exercise 11.2: a paired difference with its clustered error."""
    cases = [([1, 0, 1, 0, 0, 1], [1, 1, 1, 0, 1, 1], [0, 1, 2, 3, 4, 5]), *(_pairs(seed, 0.5) for seed in (1, 2, 3))]
    cases.append((cases[-1][1], cases[-1][0], cases[-1][2]))  # the second model is the worse one
    for first, second, clusters in cases:
        found = answer(list(first), list(second), list(clusters))
        assert found is not None, "nothing came back: the function needs a return"
        assert isinstance(found, tuple | list) and len(found) == 2, f"return two numbers, not {found!r}"
        mean, error = found
        gain = (sum(second) - sum(first)) / len(first)
        assert not math.isclose(mean, -gain, abs_tol=1e-9) or gain == 0, (
            "second minus first, not the other way round, and below 0 where the second is worse"
        )
        assert math.isclose(mean, gain, abs_tol=1e-9), (
            f"on {len(first)} items, {sum(first)} and {sum(second)} right: the difference is {gain:.4f}, not {mean:.4f}"
        )
        errors = _errors(first, second, clusters)
        right = errors.pop("")
        for said, wrong in errors.items():
            assert math.isclose(error, right) or not math.isclose(error, wrong, rel_tol=1e-6), said
        what = (
            "the differences are 0, 1, 0, 0, 1, 0, so the error is √(0.2222 / 6) ="
            if len(first) < 10
            else ("where clusters have several items, not always side by side, the error is")
        )
        assert math.isclose(error, right, rel_tol=1e-6), f"{what} {right:.4f}, not {error:.4f}"
    same = [1, 0] * 20
    assert answer(same, list(same), list(range(40)))[1] == 0, "two models that answer alike differ by 0 ± 0"
    opposite = answer([0, 0] * 20, [1, 0] * 20, [n // 2 for n in range(40)])
    assert math.isclose(opposite[1], 0, abs_tol=1e-9), "pairs that each gain one item of two: their spread is 0"
    return "How many items would you need to see a difference of one percent?"


def _documents(seed: int) -> tuple[list[float], list[int]]:
    """(nats, bytes) of 150 documents: most are short and easy, the long ones hard and unlike each other."""
    chance = np.random.default_rng(seed)
    sizes = np.where(chance.random(150) < 0.85, chance.integers(50, 300, 150), chance.integers(4000, 9000, 150))
    per_byte = np.where(sizes < 1000, chance.uniform(0.55, 0.65, 150), chance.uniform(0.8, 2.0, 150))
    return (sizes * per_byte).tolist(), sizes.tolist()


def _likely_bootstraps(nats: list[float], sizes: list[int]) -> dict[str, float]:
    """The right standard error under "", and what likely mistakes give, by what to say about them."""
    chance, N, S = np.random.default_rng(99), np.array(nats), np.array(sizes)
    drawn, others = chance.integers(0, len(N), (2, 1500, len(N)))
    ratios = N[drawn].sum(axis=1) / S[drawn].sum(axis=1) / math.log(2)
    right, half = ratios.std(), drawn[:, : len(N) // 2]
    return {
        "": right,
        "that is in nats a byte: divide by ln 2": right * math.log(2),
        "that multiplies by ln 2: divide": right * math.log(2) ** 2,
        "that is the mean of the documents' own ratios: sum nats and bytes of each round, then divide": (
            (N / S)[drawn].mean(axis=1).std() / math.log(2)
        ),
        "a document's nats and bytes belong together: draw the documents once, and use the same for both": (
            (N[drawn].sum(axis=1) / S[others].sum(axis=1)).std() / math.log(2)
        ),
        "that is the variance: take the root": right**2,
        "the standard deviation of the rounds is the standard error already; divide by no further root": right
        / math.sqrt(len(N)),
        "the standard deviation of the rounds is the standard error already; more rounds do not make it smaller": right
        / math.sqrt(1000),
        "draw as many documents as there are, not fewer": (
            (N[half].sum(axis=1) / S[half].sum(axis=1)).std() / math.log(2)
        ),
        "only the nats vary here: divide the nats of a round by the bytes of the same round": (
            N[drawn].sum(axis=1).std() / S.sum() / math.log(2)
        ),
    }


def bootstrap(answer: Callable) -> str:
    """Exercise 11.3: the standard error of bits per byte, by drawing documents again."""
    alike = answer([2.0] * 20, [1] * 20, seed=0)
    assert alike is not None, "nothing came back: the function needs a return"
    assert alike < 1e-9, "twenty documents that are alike give the same number each time: the error is 0"
    for seed in (3, 4):
        nats, sizes = _documents(seed)
        found = answer(list(nats), list(sizes), seed=1)
        assert abs(found - answer(list(nats), list(sizes), seed=1)) < 1e-12, "the same seed must give the same number"
        assert found != answer(list(nats), list(sizes), seed=2), (
            "another seed gives exactly the same number: is `seed` used, and are documents drawn with repetition?"
        )
        likely = _likely_bootstraps(nats, sizes)
        right = likely.pop("")
        for said, wrong in likely.items():
            near = abs(found / wrong - 1) < 0.1 and abs(found / right - 1) > 0.1
            assert not near, said
        all_found = [answer(list(nats), list(sizes), seed=n) for n in range(6)]
        off = max(abs(each / right - 1) for each in all_found)
        assert off < 0.12, (
            f"for these 150 documents it is about {right:.4f} bits per byte; six seeds gave {min(all_found):.4f} … "
            f"{max(all_found):.4f}: draw whole documents, with repetition, in 1,000 rounds"
        )
    return "Why whole documents, and not tokens? A document is a cluster."
