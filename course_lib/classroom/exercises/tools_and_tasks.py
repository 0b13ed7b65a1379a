"""Checks for the exercises of notebook 14."""

import ast
import math
import random
import time


def questions_needed(answer) -> None:
    """Exercise 14.1."""
    assert answer(0.5, 0.5) is None, "equal scores cannot be told apart by any number of questions: return None"
    found = answer(0.5, 0.6)
    assert found is not None, "return a number of questions"
    assert found != 25, "each of the two scores has a standard error; their squares add up"
    assert found not in (49, 50), "two standard errors, not one"
    assert found == 196, f"for 0.5 and 0.6 it takes 196 questions, not {found}"
    assert answer(0.6, 0.5) == 196, "which of the two is the better one does not matter"
    assert answer(0.0, 1.0) in (0, 1), "0 and 1 have no standard error: one question is enough"
    generator = random.Random(0)
    for _ in range(50):
        p, q = (generator.randint(1, 99) / 100 for _ in range(2))
        if p == q:
            continue
        found = answer(p, q)
        assert isinstance(found, int), f"a whole number of questions, not {found!r}"

        def enough(n, p=p, q=q):
            return abs(p - q) >= 2 * math.sqrt((p * (1 - p) + q * (1 - q)) / n) - 1e-12

        assert enough(found), f"{found} questions are too few for {p} and {q}"
        assert found == 1 or not enough(found - 1), f"fewer than {found} questions are enough for {p} and {q}"


def pass_at_k(answer) -> None:
    """Exercise 14.2."""
    found = answer(10, 3, 1)
    assert found is not None, "return a share from 0 to 1"
    assert math.isclose(found, 0.3), f"with one pick it is the share of right replies, 0.3, not {found:.3g}"
    assert answer(10, 0, 5) == 0, "with no right reply no pick has one"
    found = answer(4, 2, 2)
    assert not math.isclose(found, 0.75), "a reply is picked once at most: 1 - (1 - c/n)**k picks with replacement"
    assert math.isclose(found, 5 / 6), (
        f"of the 6 pairs of 4 replies, 5 have one of the 2 right ones; you say {found:.3g}"
    )
    assert answer(10, 10, 1) == 1 and answer(10, 8, 3) == 1, "with fewer wrong replies than picks one is always right"
    assert math.isclose(answer(200, 10, 100), 1 - math.comb(190, 100) / math.comb(200, 100)), "pass_at_k(200, 10, 100)"


def leaks(answer) -> None:
    """Exercise 14.3."""
    train = ["What is 1+2?", "Spell  banana.", "WHO are you", "1-2"]
    test = ["what is 1 + 2", "Spell bananas.", "spell banana!", "Who are you?", "1*2", "1-2 ="]
    given = list(train), list(test)
    found = answer(train, test)
    assert (train, test) == given, "leave the lists that you are given as they are"
    assert isinstance(found, list), "return a list of questions"
    assert "1*2" not in found, "1*2 is not 1-2: signs of sums count"
    assert "spell banana!" in found, "capitals, spaces and marks do not count: 'spell banana!' is in train"
    assert "Spell bananas." not in found, "another word is another question"
    assert found == [test[0], test[2], test[3], test[5]], f"as they were typed, and in their order; you return {found}"
    assert answer([], test) == [] and answer(train, []) == [], "nothing leaks out of nothing"
    many, started = [f"question {n}" for n in range(20_000)], time.perf_counter()
    assert len(answer(many, many[::2])) == 10_000, "each question of which half is asked again leaks"
    assert time.perf_counter() - started < 5, "too slow: look a question up in a set, not in a list"


VALUES = {
    "max(1, 2)": 2,
    "min(3)": 3,
    "2*max(3, min(4, 5))": 8,
    "-max(1, 2, 3)/2": -1.5,
    "(1+max(2, 3))*'banana'.count('a')": 12,
    "max(1+1, 'aa'.count('a')*2)": 4,
    "1+2": 3,
}
REFUSED = (
    "abs(-1)",
    "max()",
    "max(*'12')",
    "max(1, key=1)",
    "max",
    "max(1, 2)(3)",
    "x",
    "max('a', 'b')",
    "[max(1, 2)]",
)


def value_with_max(answer) -> None:
    """Exercise 14.4."""
    for expression, value in VALUES.items():
        found = answer(ast.parse(expression, mode="eval").body)
        assert found is not None, "return the value of the tree"
        assert found == value, f"{expression} is {value}, not {found}"
    for expression in (*REFUSED, "2**3", "open(1)", "max(1, open(2))"):
        try:
            found = answer(ast.parse(expression, mode="eval").body)
        except ValueError:
            continue
        raise AssertionError(f"{expression} is not in the language: raise ValueError; you return {found!r}")
