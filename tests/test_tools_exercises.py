"""The checks of the exercises of chapter 14: right answers pass, and the message for a wrong one teaches."""

import ast
import math

import pytest

from course_lib.chat.calculator import OPERATORS, value_of
from course_lib.classroom.exercises import tools_and_tasks as exercises

# ---- 14.1: how many questions?


def needed(p, q, factor=4.0, rounding=math.ceil, both=True):
    if p == q:
        return None
    return rounding(factor * (p * (1 - p) + both * q * (1 - q)) / (p - q) ** 2)


def carefully(p, q):
    return None if p == q else max(1, math.ceil(4 * (p * (1 - p) + q * (1 - q)) / (p - q) ** 2 - 1e-9))


def by_search(p, q):
    """Counts up, and meets 0 and 1 with one question."""
    n = 1
    while p != q and abs(p - q) < 2 * math.sqrt((p * (1 - p) + q * (1 - q)) / n):
        n += 1
    return None if p == q else n


def errors_added(p, q):
    return None if p == q else math.ceil(4 * (math.sqrt(p * (1 - p)) + math.sqrt(q * (1 - q))) ** 2 / (p - q) ** 2)


def not_squared(p, q):
    return None if p == q else math.ceil(4 * (p * (1 - p) + q * (1 - q)) / abs(p - q))


def one_way(p, q):
    return None if p >= q else needed(p, q)


def without_a_guard(p, q):
    return math.ceil(4 * (p * (1 - p) + q * (1 - q)) / (p - q) ** 2)


def with_infinity(p, q):
    return math.inf if p == q else needed(p, q)


# ---- 14.2: find the leak


def bare(question, keep="+-*/", fold=str.casefold):
    return "".join(each for each in fold(question) if each.isalnum() or each in keep)


def leaks(train, test, strip=bare, collect=set):
    known = collect(map(strip, train))
    return [question for question in test if strip(question) in known]


def part_of(train, test):
    return [question for question in test if any(bare(each) in bare(question) for each in train)]


def emptying(train, test):
    found = leaks(train, test)
    train.clear()
    return found


# ---- 14.3: a larger language


def value_with_max(node, names=("max", "min"), keywords=False, inner=None, text=False, starred=False):
    """Right by default; each setting is a mistake."""
    go = inner or (lambda each: value_with_max(each, names, keywords, None, text, starred))
    match node:
        case ast.UnaryOp(op=op, operand=operand) if type(op) in OPERATORS:
            return OPERATORS[type(op)](go(operand))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            return OPERATORS[type(op)](go(left), go(right))
        case ast.Call(func=ast.Name(id=name), args=args, keywords=given):
            if (not given or keywords) and args and (names is None or name in names):
                if starred and isinstance(args[0], ast.Starred):
                    return max(map(int, args[0].value.value))
                values = [go(each) for each in args]
                return {"min": min}.get(name, max)(values)
        case ast.Constant(value=str() as value) if text:
            return value
    return value_of(node)


def at_the_top_only(node):
    return value_with_max(node, inner=value_of)


def by_eval(node):
    return eval(compile(ast.Expression(node), "", "eval"))


def own_eval(node):
    """Runs what the model wrote, with a max and a min that take one value, too."""
    own = {"max": lambda *values: max(values), "min": lambda *values: min(values)}
    return eval(compile(ast.Expression(node), "", "eval"), own)


def nothing_back(node):
    value_with_max(node)


def max_for_min(node):
    match node:
        case ast.Call(func=ast.Name(id="max" | "min"), args=[_, *_] as args, keywords=[]):
            return max(map(max_for_min, args))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            return OPERATORS[type(op)](max_for_min(left), max_for_min(right))
    return value_of(node)


@pytest.mark.parametrize(
    ("test", "answer"),
    [
        (exercises.questions_needed, needed),
        (exercises.questions_needed, carefully),
        (exercises.questions_needed, by_search),
        (exercises.leaks, leaks),
        (exercises.leaks, lambda train, test: leaks(train, test, strip=lambda each: bare(each, fold=str.lower))),
        (exercises.value_with_max, value_with_max),
    ],
)
def test_right_answers_pass(test, answer):
    assert test(answer)


@pytest.mark.parametrize(
    ("test", "answer", "said"),
    [
        (exercises.questions_needed, lambda p, q: None, "nothing came back"),
        (exercises.questions_needed, lambda p, q: needed(p, q, rounding=float), "a whole number of questions"),
        (exercises.questions_needed, lambda p, q: needed(p, q, factor=1), "two standard errors, not one"),
        (exercises.questions_needed, lambda p, q: needed(p, q, factor=2), "4 SE², not 2 SE²"),
        (exercises.questions_needed, lambda p, q: needed(p, q, both=False), "each of the two scores"),
        (exercises.questions_needed, errors_added, "not the errors themselves"),
        (exercises.questions_needed, not_squared, "enters as its square"),
        (exercises.questions_needed, lambda p, q: needed(p, q, rounding=lambda x: int(x) - 1), "round up, not down"),
        (exercises.questions_needed, lambda p, q: needed(p, q, rounding=int), "it takes"),
        (exercises.questions_needed, without_a_guard, "divide by 0"),
        (exercises.questions_needed, with_infinity, "return None"),
        (exercises.questions_needed, one_way, "which of the two is the better one"),
        (exercises.leaks, lambda train, test: None, "nothing came back"),
        (exercises.leaks, lambda train, test: set(leaks(train, test)), "not a set"),
        (exercises.leaks, lambda train, test: leaks(train, test, lambda q: bare(q, keep="")), "signs of sums count"),
        (exercises.leaks, lambda train, test: leaks(train, test, lambda q: bare(q, fold=str)), "capitals"),
        (exercises.leaks, lambda train, test: leaks(train, test, str.casefold), "marks do not count"),
        (exercises.leaks, part_of, "the whole of it must be equal"),
        (exercises.leaks, lambda train, test: sorted(leaks(train, test)), "in the order of test"),
        (exercises.leaks, lambda train, test: list(map(bare, leaks(train, test))), "do not count"),
        (exercises.leaks, lambda train, test: list(dict.fromkeys(map(bare, leaks(train, test)))), "do not count"),
        (exercises.leaks, emptying, "leave the lists"),
        (exercises.leaks, lambda train, test: leaks(train, test, collect=list), "in a set, not in a list"),
        (exercises.value_with_max, nothing_back, "nothing came back"),
        (exercises.value_with_max, value_of, "you raise ValueError"),
        (exercises.value_with_max, at_the_top_only, "and not with value_of"),
        (exercises.value_with_max, by_eval, "want one list of values"),
        (exercises.value_with_max, own_eval, "only max and min may be called"),
        (exercises.value_with_max, max_for_min, "is 8, not"),
        (exercises.value_with_max, lambda node: value_with_max(node, names=None), "only max and min may be called"),
        (exercises.value_with_max, lambda node: value_with_max(node, keywords=True), "no keywords"),
        (exercises.value_with_max, lambda node: value_with_max(node, starred=True), "no * before"),
        (exercises.value_with_max, lambda node: value_with_max(node, text=True), "a text alone"),
    ],
)
def test_wrong_answers_are_told_why(test, answer, said):
    with pytest.raises(AssertionError) as caught:
        test(answer)
    assert said in str(caught.value)
