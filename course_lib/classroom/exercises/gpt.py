"""Checks for the exercises of notebook 08."""

import mlx.core as mx

from course_lib.gpt import GPTConfig, count_parameters, flops_per_token


def parameters(answer) -> None:
    """Exercise 8.1."""
    for depth, n_kv_head in ((1, 1), (4, 2), (4, 1), (12, 6), (12, 2), (20, 5)):
        truth = count_parameters(GPTConfig.from_depth(depth, n_kv_head=n_kv_head))
        found = answer(depth, n_kv_head)
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
        what = f"d{depth} at {gflops:,.0f} GFLOP/s takes {truth:.4g} days"
        assert abs(found - 86_400 * truth) > 1e-6 * truth, f"{what}; {found:.4g} is the number of seconds"
        assert abs(found - truth / 20) > 1e-6 * truth, f"{what}; you trained on one token for each parameter, not 20"
        assert abs(found / truth - 1) < 1e-6, f"{what}, not {found:.4g}"


def softcap(answer) -> None:
    """Exercise 8.3."""
    z = mx.array([-100.0, -15.0, -1.0, 0.0, 0.5, 3.0, 20.0])
    found = answer(z)
    assert mx.allclose(found, 15 * mx.tanh(z / 15), atol=1e-4), "the values must be 15 · tanh(z / 15)"
    weights = mx.arange(1.0, 8.0)  # what comes in from above differs from place to place
    truth = mx.grad(lambda z: (weights * 15 * mx.tanh(z / 15)).sum())(z)
    gradient = mx.grad(lambda z: (weights * answer(z)).sum())(z)
    unit = 1 - mx.square(mx.tanh(z / 15))
    assert not mx.allclose(gradient, unit, atol=1e-4), "the slope that comes in is missing: multiply by it"
    assert mx.allclose(gradient, truth, atol=1e-4), (
        f"the gradient at {z.tolist()} is {truth.tolist()}, not {gradient.tolist()}"
    )
    assert isinstance(answer, mx.custom_function), (
        "right in value and gradient, but MLX found the gradient; make it an mx.custom_function with a vjp of your own"
    )


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
    assert peak < 8 * chunk, (
        f"64 rows of logits are {chunk / 1e6:.0f} MB, but the peak was {peak / 1e6:.0f} MB; "
        "mx.eval each chunk before the next"
    )
