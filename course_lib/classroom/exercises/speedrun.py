"""Checks for the exercises of notebook 17."""

import math

from course_lib.model.gpt import GPTConfig
from course_lib.model.sizes import count_parameters, flops_per_token


def z_score(answer) -> None:
    """Exercise 18.1."""
    first, second = {"accuracy": 0.9, "standard_error": 0.03}, {"accuracy": 0.8, "standard_error": 0.04}
    found = answer(first, second)
    assert found is not None, "nothing came back: the function needs a return"
    assert not math.isclose(found, 0.1 / 0.07), "standard errors do not add up; their squares do"
    assert math.isclose(found, 2.0), f"a difference of 0.1 with the standard errors 0.03 and 0.04 is 2, not {found:.3g}"
    assert math.isclose(answer(second, first), -2.0), "the other way round it is -2: keep the sign"
    sure = {"accuracy": 1.0, "standard_error": 0.0}
    none = {"accuracy": 0.0, "standard_error": 0.0}
    assert answer(sure, none) == math.inf and answer(none, sure) == -math.inf, "two errors of 0: infinity with the sign"
    assert answer(sure, sure) == 0, "no difference is 0, also when both errors are 0"


def minutes_needed(answer) -> None:
    """Exercise 18.2."""

    def parts(depth: int) -> tuple[int, int]:
        config = GPTConfig.from_depth(depth, vocab_size=2048, sequence_len=256, aspect_ratio=32, head_dim=64)
        return count_parameters(config), flops_per_token(config)

    found = answer(4, 1, 1000)
    assert found is not None, "nothing came back: the function needs a return"
    own = parts(4)[0] / 1000 / 60
    assert not math.isclose(found, own), "that is the time of training alone; it is 68 % of the whole"
    assert not math.isclose(found, 60 * own / 0.68), "that is in seconds; minutes are asked for"
    assert math.isclose(found, own / 0.68, rel_tol=1e-6), f"depth 4 at its own speed takes {own / 0.68:.1f} minutes"
    parameters, work = parts(6)
    truth = 2 * parameters * work / parts(4)[1] / 1000 / 60 / 0.68
    found = answer(6, 2, 1000)
    assert math.isclose(found, truth, rel_tol=1e-6), f"depth 6 at 2 tokens a parameter: {truth:.1f}, not {found:.1f}"
