"""Checks for the exercises of notebook 19."""

import mlx.core as mx

from course_lib.model.gpt import GPTConfig
from course_lib.model.sizes import count_parameters, flops_per_token


def softcap(answer) -> None:
    """Exercise 19.1."""
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
    assert mx.allclose(without_z, truth, atol=1e-4), "right, but it reads u; the output alone is enough"


def accuracy(answer) -> None:
    """Exercise 19.2."""
    x = mx.random.normal((40, 8), key=mx.random.key(0))
    weight = mx.random.normal((50, 8), key=mx.random.key(1))
    best = mx.argmax(x @ weight.T, axis=-1).tolist()
    targets = [best[n] if n % 4 else (best[n] + 1) % 50 for n in range(40)]  # 30 of 40 are right
    for rows in (40, 16, 7, 1, 100):
        found = answer(x, weight, mx.array(targets), rows)
        assert found is not None, "nothing came back: the function needs a return"
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


def mfu(answer) -> None:
    """Exercise 19.3."""
    for depth, steps, tokens, hours, tflops in ((12, 7080, 524_288, 3.0, 989.0), (4, 100, 4096, 0.5, 0.4)):
        config = GPTConfig.from_depth(depth)
        flops, count = flops_per_token(config), count_parameters(config)
        truth = steps * tokens * flops / (hours * 3600 * tflops * 1e12)
        found = answer(config, steps, tokens, hours, tflops)
        assert found is not None, "nothing came back: the function needs a return"
        what = f"d{depth}, {steps} steps of {tokens} tokens in {hours} hours at {tflops:g} TFLOP/s: {truth:.4g}"

        def is_(other, found=found):
            return abs(found / other - 1) < 1e-6

        assert not is_(100 * truth), f"{what}, not {found:.4g}: a number between 0 and 1, no percent"
        assert not is_(3600 * truth), f"{what}, not {found:.4g}: an hour has 3,600 seconds"
        assert not is_(truth / steps), f"{what}, not {found:.4g}: that is one step, not {steps}"
        assert not is_(1 / truth), f"{what}, not {found:.4g}: what was needed goes above the line"
        assert not is_(3 * truth), f"{what}, not {found:.4g}: flops_per_token holds the way back already"
        assert not is_(truth * 6 * count / flops), (
            f"{what}, not {found:.4g}: 6 operations for each parameter counts wte and leaves out the scores"
        )
        assert is_(truth), f"{what}, not {found:.4g}"
