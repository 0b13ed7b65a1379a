"""Checks for the exercises of notebook 08."""

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
        count, flops = count_parameters(config), flops_per_token(config)
        truth = 20 * count * flops / (gflops * 1e9) / 86_400
        found = answer(depth, gflops)
        assert found is not None, "nothing came back: the function needs a return"
        what = f"d{depth} at {gflops:,.0f} GFLOP/s takes {truth:.4g} days"

        def is_(other, found=found):
            return abs(found / other - 1) < 1e-6

        assert not is_(86_400 * truth), f"{what}; {found:.4g} is the number of seconds"
        assert not is_(24 * truth), f"{what}; {found:.4g} is the number of hours"
        assert not is_(truth / 20), f"{what}; you trained on one token for each parameter, not 20"
        assert not is_(truth * 1e9), f"{what}; a GFLOP is 1e9 operations"
        six = truth / flops * 6 * count
        assert not is_(six), (
            f"{what}, not {found:.4g}: 6 operations for every parameter counts wte, which multiplies nothing, "
            "and leaves out the scores; take flops_per_token"
        )
        attention = 12 * config.n_layer * config.n_embd * config.sequence_len
        assert not is_(truth / flops * (flops - attention)), f"{what}, not {found:.4g}: the scores are missing"
        assert not is_(truth / flops * (6 * count + attention)), (
            f"{what}, not {found:.4g}: wte is looked up and multiplies nothing, so it costs no operations"
        )
        assert is_(truth), f"{what}, not {found:.4g}"


def shares(answer) -> None:
    """Exercise 8.3."""
    cases = (
        (GPTConfig.from_depth(12), 2048),
        (GPTConfig.from_depth(12, n_kv_head=2), 8192),
        (GPTConfig.from_depth(4, vocab_size=512), 256),
    )
    names = ["attention matrices", "scores", "MLP", "head"]
    for config, T in cases:
        found = answer(config, T)
        assert found is not None, "nothing came back: the function needs a return"
        assert isinstance(found, dict) and sorted(found) == sorted(names), f"expected a dict with the keys {names}"
        d, L, V = config.n_embd, config.n_layer, config.vocab_size
        in_attention = L * (2 * d * d + 2 * config.n_kv_head * config.head_dim * d)
        right = dict(zip(names, (in_attention, L * 2 * T * d, L * 8 * d * d, V * d), strict=True))
        here = f"d{L}, n_kv_head={config.n_kv_head}, T={T}"
        assert abs(sum(found.values()) - 1) < 1e-3, f"{here}: the shares add up to {sum(found.values()):.4g}, not 1"

        def is_(found=found, right=right, **other):
            parts = right | other
            return all(abs(found[name] - parts[name] / sum(parts.values())) < 1e-6 for name in names)

        assert not is_(head=2 * V * d), f"{here}: wte is looked up and costs nothing; only lm_head multiplies"
        assert not is_(scores=L * T * d), (
            f"{here}: the scores are two products, queries with keys and weights with values, for all T positions"
        )
        assert not is_(scores=L * 2 * config.sequence_len * d) or T == config.sequence_len, (
            f"{here}: the scores cost as much as with T={config.sequence_len}; use the T that was given"
        )
        assert not is_(**{"attention matrices": 4 * L * d * d}) or config.n_kv_head == config.n_head, (
            f"{here}: c_k and c_v are smaller with fewer heads of keys and values"
        )
        assert not is_(**{name: right[name] / L for name in names[:3]}), f"{here}: each of the {L} blocks costs that"
        for name in names:
            share = right[name] / sum(right.values())
            assert abs(found[name] - share) < 1e-6, f"{here}: the share of {name} is {share:.4f}, not {found[name]:.4f}"
