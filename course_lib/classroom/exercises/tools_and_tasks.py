"""Checks for the exercises of notebook 14."""

import ast
import math
import random
import time
from collections.abc import Callable

COUNTS: dict[Callable, str] = {  # what a wrong formula gives for p and q, before rounding, and what to say of it
    lambda p, q: (p * (1 - p) + q * (1 - q)) / (p - q) ** 2: "two standard errors, not one: 2 SE squared is 4 SE²",
    lambda p, q: 2 * (p * (1 - p) + q * (1 - q)) / (p - q) ** 2: "2 SE squared is 4 SE², not 2 SE²",
    lambda p, q: 4 * p * (1 - p) / (p - q) ** 2: "each of the two scores has a standard error; their squares add up",
    lambda p, q: 4 * q * (1 - q) / (p - q) ** 2: "each of the two scores has a standard error; their squares add up",
    lambda p, q: 4 * (math.sqrt(p * (1 - p)) + math.sqrt(q * (1 - q))) ** 2 / (p - q) ** 2: (
        "the squares of the two standard errors add up, not the errors themselves"
    ),
    lambda p, q: 4 * (p * (1 - p) + q * (1 - q)) / abs(p - q): "solve for n: the difference enters as its square",
}


def questions_needed(answer) -> str:
    """Exercise 14.1."""
    found = answer(0.5, 0.6)
    assert found is not None, "nothing came back for 0.5 and 0.6: return a number of questions"
    assert isinstance(found, int), f"a whole number of questions, not {found!r}: round up with math.ceil"
    for formula, said in COUNTS.items():
        assert abs(found - formula(0.5, 0.6)) > 1.01, f"{said} (196 questions for 0.5 and 0.6, not {found})"
    assert found != 195, "195 questions are too few for 0.5 and 0.6: round up, not down"
    _right_count(answer, 0.5, 0.6)
    try:
        level = answer(0.5, 0.5)
    except ZeroDivisionError:
        raise AssertionError("p and q may be equal, and then you divide by 0: return None before") from None
    assert level is None, "equal scores cannot be told apart by any number of questions: return None"
    _right_count(answer, 0.6, 0.5, "; which of the two is the better one does not matter")
    assert answer(0.0, 1.0) in (0, 1), "0 and 1 have no standard error: one question is enough"
    generator = random.Random(0)
    for _ in range(50):
        p, q = (generator.randint(1, 99) / 100 for _ in range(2))
        if p != q:
            _right_count(answer, p, q)
    return f"0.5 and 0.55 need {answer(0.5, 0.55)}: half the difference, four times the questions"


def _right_count(answer: Callable, p: float, q: float, more: str = "") -> None:
    """Where the formula gives a whole number but for its rounding, that number and the next one are right."""
    found, exact = answer(p, q), 4 * (p * (1 - p) + q * (1 - q)) / (p - q) ** 2
    allowed = {max(1, math.ceil(exact - 1e-9)), max(1, math.ceil(exact + 1e-9))}
    assert found in allowed, f"for {p} and {q} it takes {min(allowed)} questions, not {found}{more}"


def leaks(answer) -> str:
    """Exercise 14.2."""
    train = ["What is 1+2?", "Spell  banana.", "WHO are you", "1-2"]
    test = ["what is 1 + 2", "Spell bananas.", "spell banana!", "Who are you?", "1*2", "1-2 ="]
    given = list(train), list(test)
    found = answer(train, test)
    assert (train, test) == given, "leave the lists that you are given as they are"
    assert found is not None, "nothing came back: return a list of questions"
    assert isinstance(found, list), f"return a list of questions, not a {type(found).__name__}"
    assert "1*2" not in found, "1*2 is not 1-2: signs of sums count"
    assert "Spell bananas." not in found, "another word is another question: the whole of it must be equal"
    assert "Who are you?" in found, "capitals and marks do not count: 'Who are you?' is in train, as 'WHO are you'"
    assert "spell banana!" in found, "spaces and marks do not count: 'spell banana!' is in train"
    expected = [test[0], test[2], test[3], test[5]]
    assert sorted(found) != sorted(expected) or found == expected, f"in the order of test; you return {found}"
    assert found == expected, f"the test questions as they were typed; you return {found}"
    assert answer([], test) == [] and answer(train, []) == [], "nothing leaks out of nothing"
    assert answer(train, ["1-2", "1 - 2"]) == ["1-2", "1 - 2"], (
        "a question that is asked twice in test stands there twice"
    )

    def seconds(size: int) -> float:
        many, started = [f"question {n}" for n in range(size)], time.perf_counter()
        assert len(answer(many, many[::2])) == size / 2, "each question of which half is asked again leaks"
        return time.perf_counter() - started

    few = min(seconds(2000) for _ in range(5))  # a busy machine only makes it longer
    slow = all(seconds(20_000) > max(0.3, 30 * few) for _ in range(3))
    assert not slow, (
        "ten times the questions take far more than ten times as long: look them up in a set, not in a list"
    )
    return "The solutions try it on the lessons, split by number"


VALUES = {
    "1+2": 3,
    "max(1, 2)": 2,
    "min(3)": 3,
    "max(1+1, 'aa'.count('a')*2)": 4,
    "2*max(3, min(4, 5))": 8,
    "-max(1, 2, 3)/2": -1.5,
    "(1+max(2, 3))*'banana'.count('a')": 12,
}
REFUSED = {
    "abs(-1)": "only max and min may be called",
    "open(1)": "only max and min may be called",
    "max(1, open(2))": "its arguments must be in the language, too",
    "max()": "it needs an argument",
    "max(*'12')": "no * before an argument",
    "max(1, key=1)": "no keywords",
    "max": "a name that is not called has no value",
    "x": "a name has no value",
    "max(1, 2)(3)": "what is called must be a name",
    "max('a', 'b')": "a text alone is not in the language",
    "[max(1, 2)]": "a list is not in the language",
    "2**3": "a power is not in the language",
}


def value_with_max(answer) -> str:
    """Exercise 14.3."""
    for expression, value in VALUES.items():
        try:
            found = answer(ast.parse(expression, mode="eval").body)
        except ValueError as error:
            deeper = "; inside an operation or a call, go on with value_with_max and not with value_of"
            raise AssertionError(f"{expression} is {value}, and you raise ValueError: {error}{deeper}") from error
        except TypeError as error:
            one_list = "; Python's own max and min want one list of values, or at least two values"
            raise AssertionError(f"{expression} is {value}, and you raise TypeError: {error}{one_list}") from error
        assert found is not None, "nothing came back: return the value of the tree"
        assert found == value, f"{expression} is {value}, not {found}"
    for expression, why in REFUSED.items():
        try:
            found = answer(ast.parse(expression, mode="eval").body)
        except ValueError:
            continue
        except Exception as error:
            said = f"you raise {type(error).__name__}, expected ValueError"
            raise AssertionError(f"{expression}: {why}; {said}") from error
        raise AssertionError(f"{expression}: {why}; raise ValueError, you return {found!r}")
    return "The calculator of the package would need one more change: the shape that a text must have"
