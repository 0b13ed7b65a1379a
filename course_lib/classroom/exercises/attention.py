"""Checks for the exercises of notebook 07."""

import math
from collections.abc import Callable

import mlx.core as mx

from course_lib.model.attention import inverse_frequencies, rotate


def repeat_heads(answer: Callable) -> None:
    """Exercise 7.1."""
    numbered = mx.broadcast_to(mx.arange(2.0)[None, :, None, None], (1, 2, 1, 1))  # kv heads 0 and 1
    found = answer(numbered, 6)
    assert isinstance(found, mx.array), f"return an mx.array, not {type(found).__name__}"
    assert found.shape == (1, 6, 1, 1), f"2 kv heads for 6 query heads make (1, 6, 1, 1), not {found.shape}"
    order = [int(head) for head in found.flatten().tolist()]
    assert order != [0, 1, 0, 1, 0, 1], "the row is tiled: 0 1 0 1 0 1; query head 1 must read kv head 1 // 3 = 0"
    assert order == [0, 0, 0, 1, 1, 1], f"six query heads read the kv heads 0 0 0 1 1 1, yours read {order}"
    for n_kv_head, n_head in ((1, 4), (4, 4), (3, 6)):
        k = mx.random.normal((2, n_kv_head, 5, 8), key=mx.random.key(n_kv_head))
        found = answer(k, n_head)
        assert found.shape == (2, n_head, 5, 8), (
            f"{n_kv_head} kv heads for {n_head} query heads make (2, {n_head}, 5, 8), not {found.shape}"
        )
        for h in range(n_head):
            partner = h // (n_head // n_kv_head)
            assert mx.array_equal(found[:, h], k[:, partner]), (
                f"with {n_head} query heads and {n_kv_head} kv heads, head {h} must read kv head {partner}, unchanged"
            )


def window_mask(answer: Callable) -> None:
    """Exercise 7.2."""
    mask = answer(4, 4, 2)
    assert isinstance(mask, mx.array), f"return an mx.array, not {type(mask).__name__}"
    assert mask.shape == (4, 4), f"4 queries on 4 keys make a mask of shape (4, 4), not {mask.shape}"
    assert mask.dtype == mx.bool_, f"the mask holds True and False, yours is of type {mask.dtype}"
    for T, S, window in ((4, 4, 2), (4, 4, 1), (3, 5, 2), (1, 5, 3), (5, 5, 99), (2, 9, 4)):
        mask = answer(T, S, window).tolist()
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
    assert abs(x - 1) < 1e-3 and abs(y) < 1e-3, f"up, turned a quarter clockwise, is (1, 0), not ({x:.2f}, {y:.2f})"
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
