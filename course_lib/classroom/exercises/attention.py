"""Checks for the exercises of notebook 07."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import mlx.core as mx

from course_lib.model.attention import inverse_frequencies, rotate


def grouped_attend(answer: Callable) -> str:
    """Exercise 7.1."""
    for n_head, n_kv_head, T, S in ((6, 2, 4, 4), (6, 3, 1, 5), (4, 1, 3, 5), (4, 4, 5, 5), (6, 2, 3, 5)):
        case = f"with {n_head} query heads, {n_kv_head} kv heads, T={T}, S={S}"
        q, k, v = (
            mx.random.normal((2, heads, length, 8), key=mx.random.key(seed))
            for seed, heads, length in ((0, n_head, T), (1, n_kv_head, S), (2, n_kv_head, S))
        )
        mask = mx.arange(S) <= mx.arange(S - T, S)[:, None]
        with _copying_refused():
            found = answer(q, k, v, mask)
        assert found is not None, "it returned None; did you forget the return?"
        assert isinstance(found, mx.array), f"return an mx.array, not {type(found).__name__}"
        assert found.shape == q.shape, f"{case} the result has the shape of q, {q.shape}, not {found.shape}"
        group = n_head // n_kv_head
        partners = [h // group for h in range(n_head)]
        if mx.allclose(found, _attention(q, k, v, mask, partners), atol=1e-2):
            continue
        tiled = [h % n_kv_head for h in range(n_head)]
        for words, other in (
            (
                f"head 1 reads kv head {tiled[1]}, not 1 // {group} = {partners[1]}: group is the inner axis",
                (tiled, mask),
            ),
            ("every head reads kv head 0", ([0] * n_head, mask)),
            ("the mask is left out", (partners, mask | True)),
            ("the mask is aligned at the start", (partners, mx.tri(T, S) == 1)),
        ):
            assert not mx.allclose(found, _attention(q, k, v, other[1], other[0]), atol=1e-2), f"{case}: {words}"
        unscaled = _attention(math.sqrt(8) * q, k, v, mask, partners)
        assert not mx.allclose(found, unscaled, atol=1e-2), "the scores are not divided by the root of D"
        raise AssertionError(
            f"{case} the numbers differ from those of `attend` with repeated heads; cut q's heads into "
            "(n_kv_head, group), in this order, and join them in the same order"
        )
    return "MLX's own attention for GPUs does the same: it reads one kv head for a whole group."


def _attention(q: mx.array, k: mx.array, v: mx.array, mask: mx.array, partners: list[int]) -> mx.array:
    """Attention in which query head h reads kv head partners[h]."""
    k, v = k[:, mx.array(partners)], v[:, mx.array(partners)]
    scores = mx.where(mask, q @ mx.swapaxes(k, -1, -2) / math.sqrt(q.shape[-1]), -mx.inf)
    return mx.softmax(scores, axis=-1) @ v


@contextmanager
def _copying_refused() -> Iterator[None]:
    """Inside, mx.repeat and mx.tile raise."""
    usual = {name: getattr(mx, name) for name in ("repeat", "tile")}

    def refuse(name: str) -> Callable:
        def refused(*_, **__):
            raise AssertionError(f"mx.{name} makes copies; give k and v an axis of length 1 instead")

        return refused

    try:
        for name in usual:
            setattr(mx, name, refuse(name))
        yield
    finally:
        for name, function in usual.items():
            setattr(mx, name, function)


def window_mask(answer: Callable) -> None:
    """Exercise 7.2."""
    mask = answer(4, 4, 2)
    assert isinstance(mask, mx.array), f"return an mx.array, not {type(mask).__name__}"
    assert mask.shape == (4, 4), f"4 queries on 4 keys make a mask of shape (4, 4), not {mask.shape}"
    assert mask.dtype == mx.bool_, f"the mask holds True and False, yours is of type {mask.dtype}"
    for T, S, window in ((4, 4, 2), (4, 4, 1), (3, 5, 2), (1, 5, 3), (5, 5, 99), (2, 9, 4)):
        mask = answer(T, S, window)
        assert mask.shape == (T, S), f"{T} queries on {S} keys make a mask of shape ({T}, {S}), not {mask.shape}"
        mask = mask.tolist()
        for t in range(T):
            position = S - T + t
            case = f"T={T}, S={S}, window={window}: the query at position {position}"
            seen = [s for s in range(S) if mask[t][s]]
            assert position in seen, f"{case} must see itself; the mask is aligned at the end"
            assert max(seen) == position, f"{case} sees position {max(seen)}, which comes later"
            right = list(range(max(0, position - window + 1), position + 1))
            assert seen == right, f"{case} may see {right}, itself included, yours sees {seen}"


def entropy(answer: Callable) -> None:
    """Exercise 7.3."""
    found = answer(mx.array([[0.25, 0.25, 0.25, 0.25], [0.5, 0.5, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]]))
    assert found.shape == (3,), f"one number for each row: (3, 4) gives (3,), not {found.shape}"
    even, half, sure = found.tolist()
    assert not any(map(math.isnan, (even, half, sure))), "nan: a weight of 0 must add 0, but 0 · ln 0 is nan"
    bits = abs(even - 2) < 1e-4 and abs(half - 1) < 1e-4
    assert not bits, "four even weights came out as 2: these are bits; ln is mx.log, not mx.log2"
    assert abs(even + math.log(4)) > 1e-4, "the sign: ln of a weight below 1 is negative, entropy is not"
    assert abs(even - math.log(4) / 4) > 1e-4, "four even weights came out as ln 4 / 4: take the sum, not the mean"
    assert abs(even - math.log(4)) < 1e-4, f"four even weights have entropy ln 4 = {math.log(4):.4f}, not {even:.4f}"
    assert abs(half - math.log(2)) < 1e-4, f"two even weights have entropy ln 2 = {math.log(2):.4f}, not {half:.4f}"
    assert abs(sure) < 1e-4, f"all weight on one key has entropy 0, not {sure:.4f}"
    weights = mx.softmax(mx.random.normal((2, 3, 5, 7), key=mx.random.key(0)), axis=-1)
    found = answer(weights)
    assert found.shape == (2, 3, 5), f"sum over the last axis only: (2, 3, 5, 7) gives (2, 3, 5), not {found.shape}"
    assert mx.allclose(found, -(weights * mx.log(weights)).sum(axis=-1), atol=1e-4), "random weights came out wrong"


def _neighbours_of_mlx(x: mx.array, w: mx.array, offset: int = 0) -> mx.array:
    return mx.fast.rope(x, x.shape[-1], traditional=True, base=None, scale=1.0, offset=offset, freqs=-w)


def rotate_neighbours(answer: Callable) -> None:
    """Exercise 7.4, first part."""
    quarter = mx.array([2 / math.pi])
    turned = answer(mx.array([[[[0.0, 1.0]]]]), quarter, 1)
    assert turned.shape == (1, 1, 1, 2), f"the shape stays: (1, 1, 1, 2), not {turned.shape}"
    x, y = turned.flatten().tolist()
    assert abs(x + 1) > 1e-3 or abs(y) > 1e-3, "(0, 1) went left: clockwise is x1·cos + x2·sin, x2·cos - x1·sin"
    assert abs(x - 1) < 1e-3 and abs(y) < 1e-3, (
        f"w = 2/π and position 1 make a quarter turn, from (0, 1) to (1, 0), not to ({x:.2f}, {y:.2f}); "
        "the angle is the position divided by w"
    )
    w = inverse_frequencies(8)
    x = mx.random.normal((2, 3, 5, 8), key=mx.random.key(0))
    for offset in (0, 7):
        right = _neighbours_of_mlx(x, w, offset)
        found = answer(x, w, offset)
        assert found.shape == x.shape, f"the shape stays: {x.shape}, not {found.shape}"
        assert not mx.allclose(found, rotate(x, w, offset), atol=1e-3), (
            "these are the pairs of halves; neighbours are (x0, x1), (x2, x3), ..."
        )
        assert mx.allclose(found, right, atol=1e-3), f"with offset={offset} it differs from mx.fast.rope's neighbours"


def to_halves(answer: Callable) -> None:
    """Exercise 7.4, second part."""
    w = inverse_frequencies(8)
    texts = mx.random.normal((1, 6, 12), key=mx.random.key(1))  # (B, T, C)
    trained = [mx.random.normal((16, 12), key=mx.random.key(seed)) / 4 for seed in (2, 3)]  # two heads of 8

    def scores(weights: list[mx.array], turn: Callable) -> mx.array:
        heads = ((texts @ weight.T).reshape(1, 6, 2, 8).transpose(0, 2, 1, 3) for weight in weights)
        q, k = (turn(a, w, 0) for a in heads)
        return q @ mx.swapaxes(k, -1, -2)

    permuted = [answer(weight, 8) for weight in trained]
    assert permuted[0].shape == (16, 12), f"rows change their places, the shape stays (16, 12), not {permuted[0].shape}"
    rows = [sorted(weight.tolist()) for weight in (trained[0], permuted[0])]
    assert rows[0] == rows[1], "the same rows as before, in another order, each whole"
    kept = [sorted(weight[:8].tolist()) for weight in (trained[0], permuted[0])]
    assert kept[0] == kept[1], "rows must stay in their head: permute within each head of head_dim rows"
    assert mx.allclose(scores(permuted, rotate), scores(trained, _neighbours_of_mlx), atol=2e-2), (
        "with the new order `rotate` gives other scores: row 2i of a head goes to i, row 2i + 1 to i + head_dim / 2"
    )
