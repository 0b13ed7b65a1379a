"""Checks for the exercises of notebook 08."""

import mlx.core as mx

from course_lib.model.gpt import GPTConfig
from course_lib.model.sizes import count_parameters, flops_per_token


def parameters(answer) -> None:
    """Exercise 8.1."""
    for depth, n_kv_head in ((1, 1), (4, 2), (4, 1), (12, 6), (12, 2), (20, 5)):
        truth = count_parameters(GPTConfig.from_depth(depth, n_kv_head=n_kv_head))
        found = answer(depth, n_kv_head)
        assert found is not None, "nothing came back: the function needs a return"
        table = 65_536 * GPTConfig.from_depth(depth).n_embd
        assert found not in (truth - table, truth - 2 * table), (
            f"d{depth}: both wte and lm_head count, with {table:,} numbers each"
        )
        full = count_parameters(GPTConfig.from_depth(depth))
        assert found != full or truth == full, (
            f"d{depth} with n_kv_head={n_kv_head}: {found:,} is the number with all heads; c_k and c_v are smaller"
        )
        assert found == truth, f"d{depth} with n_kv_head={n_kv_head} has {truth:,} parameters, not {found:,}"


def days(answer) -> None:
    """Exercise 8.2."""
    for depth, gflops in ((12, 1000.0), (4, 200.0), (20, 400_000.0)):
        config = GPTConfig.from_depth(depth)
        tokens = 20 * count_parameters(config)
        truth = tokens * flops_per_token(config) / (gflops * 1e9) / 86_400
        found = answer(depth, gflops)
        assert found is not None, "nothing came back: the function needs a return"
        what = f"d{depth} at {gflops:,.0f} GFLOP/s takes {truth:.4g} days"
        assert abs(found - 86_400 * truth) > 1e-6 * truth, f"{what}; {found:.4g} is the number of seconds"
        assert abs(found - truth / 20) > 1e-6 * truth, f"{what}; you trained on one token for each parameter, not 20"
        assert abs(found / truth - 1) < 1e-6, f"{what}, not {found:.4g}"


def softcap(answer) -> None:
    """Exercise 8.3."""
    capped = mx.custom_function(lambda z: 15 * mx.tanh(z / 15))
    capped.vjp(answer)
    z = mx.array([-100.0, -15.0, -1.0, 0.0, 0.5, 3.0, 20.0])
    output, slope = capped(z), mx.arange(1.0, 8.0)  # what comes in from above differs from place to place
    unit = 1 - mx.square(mx.tanh(z / 15))
    found = answer(z, slope, output)
    assert found is not None, "nothing came back: the function needs a return"
    assert not mx.allclose(found, unit, atol=1e-4), "the slope that comes in is missing: multiply by it"
    truth = mx.grad(lambda z: (slope * 15 * mx.tanh(z / 15)).sum())(z)
    assert mx.allclose(found, truth, atol=1e-4), (
        f"the gradient at {z.tolist()} is {truth.tolist()}, not {found.tolist()}"
    )
    gradient = mx.grad(lambda z: (slope * capped(z)).sum())(z)
    assert mx.allclose(gradient, truth, atol=1e-4), "right when called, but not as the vjp of a custom function"
    without_z = answer(mx.full(z.shape, mx.nan), slope, output)
    assert mx.allclose(without_z, truth, atol=1e-4), "right, but it reads z; the output alone is enough"


def accuracy(answer) -> None:
    """Exercise 8.4."""
    x = mx.random.normal((40, 8), key=mx.random.key(0))
    weight = mx.random.normal((50, 8), key=mx.random.key(1))
    best = mx.argmax(x @ weight.T, axis=-1).tolist()
    targets = [best[n] if n % 4 else (best[n] + 1) % 50 for n in range(40)]  # 30 of 40 are right
    for rows in (40, 16, 7, 1, 100):
        found = answer(x, weight, mx.array(targets), rows)
        assert abs(found - 0.75) < 1e-6, f"30 of 40 guesses are right, 0.75, not {found} (rows={rows})"
    some = [target if n < 10 else -1 for n, target in enumerate(targets)]
    share = sum(target == guess for target, guess in zip(some, best, strict=True)) / 10
    found = answer(x, weight, mx.array(some), 16)
    assert abs(found - share) < 1e-6, f"targets of -1 do not count: {share:.2f} here, not {found}"
    found = answer(x, weight, mx.full((40,), -1), 16)
    assert found == 0, f"when no target counts the answer is 0.0, not {found}"

    x, weight = mx.random.normal((2048, 8)), mx.random.normal((4096, 8))
    targets = mx.zeros((2048,), mx.int32)
    mx.eval(x, weight, targets)
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    answer(x, weight, targets, 64)
    chunk, peak = 64 * 4096 * 4, mx.get_peak_memory() - before
    assert peak < 3.5 * chunk, (
        f"64 rows of logits are {chunk / 1e6:.0f} MB, but the peak was {peak / 1e6:.0f} MB: "
        "take no more than `rows` rows at a time, and mx.eval what you make of them before the next"
    )
