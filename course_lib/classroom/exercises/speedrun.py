"""Checks for the exercises of notebook 18."""

import math
import tempfile
from collections.abc import Callable
from pathlib import Path

from course_lib.model.gpt import GPTConfig
from course_lib.model.sizes import count_parameters, flops_per_token


def _chance(gained: int, lost: int) -> float:
    """How likely fair coins fall as unevenly as that, or more."""
    coins = gained + lost
    return min(1.0, 2 * sum(math.comb(coins, n) for n in range(min(gained, lost) + 1)) / 2**coins)


def _each(gained: int, lost: int, both: int, neither: int) -> tuple[str, str]:
    """The lines of two models with so many questions of each kind, in mixed order."""
    pairs = ["01"] * gained + ["10"] * lost + ["11"] * both + ["00"] * neither
    order = sorted(range(len(pairs)), key=lambda n: (n * 37) % 101)
    return "".join(pairs[n][0] for n in order), "".join(pairs[n][1] for n in order)


def _likely_chances(gained: int, lost: int, both: int, neither: int) -> dict[str, float]:
    """What likely mistakes give, by what to say about them."""
    coins = gained + lost
    tail = sum(math.comb(coins, n) for n in range(min(gained, lost) + 1)) / 2**coins
    upper = sum(math.comb(coins, n) for n in range(max(gained, lost) + 1, coins + 1)) / 2**coins
    total = coins + both + neither
    of_all = sum(math.comb(total, n) for n in range(min(gained, lost) + 1)) / 2**total
    z = abs(gained - lost) / math.sqrt(max(1, coins))
    return {
        "that counts one side only: as uneven the other way round counts, too": tail,
        "as uneven *or more*: the split itself belongs to it": 2 * upper,
        "that is the chance of exactly this split; more uneven ones count, too": math.comb(coins, gained) / 2**coins,
        "that is the chance of exactly this split or its mirror image; more uneven ones count, too": (
            2 * math.comb(coins, gained) / 2**coins
        ),
        "questions on which both models agree are no coins: leave them out": min(1.0, 2 * of_all),
        "that is by the normal curve; count the coins exactly, with math.comb": math.erfc(z / math.sqrt(2)),
        "that is the chance that luck does *not* do it": 1 - min(1.0, 2 * tail),
    }


def by_luck(answer: Callable) -> str:
    """Exercise 18.1: gained, lost, and the chance that fair coins are as uneven."""
    for gained, lost, both, neither in ((5, 1, 3, 2), (1, 5, 3, 2), (12, 3, 60, 25), (4, 4, 80, 12), (9, 0, 1, 90)):
        first, second = _each(gained, lost, both, neither)
        found = answer(first, second)
        case = f"where the second model gains {gained} and loses {lost}"
        assert found is not None, "nothing came back: the function needs a return"
        assert isinstance(found, tuple | list) and len(found) == 3, f"return (gained, lost, chance), not {found!r}"
        assert tuple(found[:2]) != (lost, gained) or gained == lost, (
            f"{case}, you have it the other way round: a gain is '0' in `first` and '1' in `second`"
        )
        assert tuple(found[:2]) == (gained, lost), f"{case}, you count {found[0]!r} and {found[1]!r}"
        right, chance = _chance(gained, lost), found[2]
        assert isinstance(chance, float | int) and math.isfinite(chance), f"{case}, the chance is {chance!r}, no number"
        assert chance <= 1 + 1e-9 or gained != lost, (
            f"{case}, the chance is {chance:.3f}: twice the tail counts the middle twice, so take at most 1"
        )
        for said, wrong in _likely_chances(gained, lost, both, neither).items():
            close = math.isclose(chance, wrong, rel_tol=1e-6, abs_tol=1e-12)
            assert math.isclose(chance, right, rel_tol=1e-6) or not close, said
        assert math.isclose(chance, right, rel_tol=1e-6), f"{case}, the chance is {right:.4f}, not {chance:.4f}"
    alike = answer("0110", "0110")
    assert tuple(alike) == (0, 0, 1), "two models that agree on all questions: gained 0, lost 0, and a chance of 1"
    try:
        answer("0110", "01101")
    except ValueError:
        return "Ask it for each task of the card. How many are below 0.05, and how many would be by luck?"
    raise AssertionError(
        "4 questions and 5 are not the same questions: let `zip(first, second, strict=True)` raise its ValueError"
    )


def minutes_needed(answer: Callable) -> str:
    """Exercise 18.2: the plan turned round."""

    def parts(depth: int, **size: int) -> tuple[int, int]:
        config = GPTConfig.from_depth(depth, **size)
        return count_parameters(config), flops_per_token(config)

    narrow = {"vocab_size": 2048, "sequence_len": 256, "aspect_ratio": 32, "head_dim": 64}
    four = parts(4, **narrow)
    for depth, ratio, speed, share in ((4, 1, 1000, 0.56), (6, 2, 1000, 0.7), (8, 20, 9000, 0.6)):
        parameters, work = parts(depth, **narrow)
        of_wide, work_wide = parts(depth)
        slower = work / four[1]
        right = ratio * parameters * slower / speed / share / 60
        found = answer(depth, ratio, speed, share)
        assert found is not None, "nothing came back: the function needs a return"
        assert isinstance(found, float | int), f"return a number, not {found!r}"
        likely = {
            f"that is the time of training alone; training is {share:.0%} of the whole": right * share,
            f"a share of {share:.0%} makes the whole longer than the training: divide by it": right * share**2,
            "that is in seconds; minutes are asked for": 60 * right,
            "`speed` is that of depth 4: another depth takes longer for a token, by its FLOPs": right / slower,
            "a deeper model needs *more* FLOPs a token, so it does fewer tokens a second": right / slower**2,
            "tokens are `ratio` for each parameter, not parameters divided by it": right / ratio**2,
            "take `GPTConfig.from_depth(depth, **SIZE)`: the models of a speedrun are narrow": (
                ratio * of_wide * work_wide / parts(4)[1] / speed / share / 60
            ),
        }
        for said, wrong in likely.items():
            close = math.isclose(found, wrong, rel_tol=1e-6)
            assert math.isclose(found, right, rel_tol=1e-6) or not close, said
        assert math.isclose(found, right, rel_tol=1e-6), (
            f"depth {depth} at {speed} tokens a second, for {ratio} tokens a parameter: {right:.2f} minutes, "
            f"not {found:.2f}"
        )
    return "With one token a parameter, how many hours does a depth of 12 take at the speed measured above?"


class _Killed(BaseException):
    """What a kill is to the code that it hits: nothing catches it."""


def once(answer: Callable) -> str:
    """Exercise 18.3: a stage that is done once."""
    with tempfile.TemporaryDirectory() as name:
        folder, calls = Path(name), []

        def work() -> str:
            calls.append("work")
            return "42 tokens"

        def killed() -> str:
            calls.append("killed")
            raise _Killed

        def anew() -> str:
            calls.append("anew")
            return "43 tokens"

        try:
            answer(folder, "training", killed)
            raise AssertionError("a stage that was killed must not go on as if nothing had happened")
        except _Killed:
            pass
        assert calls == ["killed"], f"call work() once; it was called {len(calls)} times"
        found = answer(folder, "training", work)
        assert calls != ["killed"], (
            "it was killed before its end, so it is not done, but the second call did not work: write the marker last"
        )
        assert calls == ["killed", "work"], f"call work() once in a call; it was called {len(calls) - 1} times"
        assert found is not None, "nothing came back: return what work() returned"
        assert found == "42 tokens", f"return what work() returned, '42 tokens', not {found!r}"
        again = answer(folder, "training", anew)
        assert calls == ["killed", "work"], "it is done: a later call must not work again"
        assert again == "42 tokens", f"when it is done, return what it returned then, '42 tokens', not {again!r}"
        try:
            answer(folder, "evaluation", killed)
        except _Killed:
            pass
        assert calls[-1] == "killed" and len(calls) == 3, "another stage is not done because this one is: use its name"
        _written_at_once(answer)
    return "What if the machine, and not the program, dies while the marker is written?"


def _written_at_once(answer: Callable) -> None:
    """A kill in the middle of writing the marker leaves nothing that counts as done."""
    with tempfile.TemporaryDirectory() as name:
        folder, calls = Path(name), []
        _interrupted(lambda: answer(folder, "training", lambda: "x" * 1000))
        found = answer(folder, "training", lambda: calls.append("again") or "y")
        assert calls and found == "y", (
            "it was killed while the marker was written, half of it was there, and the next call took the stage for "
            "done: write the marker under another name, then `rename` it"
        )


def _interrupted(call: Callable) -> None:
    """Make the call, in which the first file that is written is only half written when the process dies."""
    write_text, write_bytes = Path.write_text, Path.write_bytes

    def half(path: Path, data, *args, **kwargs):
        (write_text if isinstance(data, str) else write_bytes)(path, data[: len(data) // 2])
        raise _Killed

    Path.write_text = Path.write_bytes = half
    try:
        call()
        raise AssertionError("write the marker with `Path.write_text`, so that this check can kill it in between")
    except _Killed:
        pass
    finally:
        Path.write_text, Path.write_bytes = write_text, write_bytes
