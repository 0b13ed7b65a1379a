"""A calculator for the model: sums, and counting in a text, read by a parser and never run.

Source: nanochat, whose language this is.

Exported from notebooks/14_tools_and_tasks.ipynb; edit it there.
"""

import ast
import itertools
import math
import operator
import re
from collections.abc import Callable

MAX_CHARS = 1000  # of an expression; without powers the result has about as many digits at most

MAX_DEPTH = 100  # of nested parentheses, and of the parsed tree

OPERATORS: dict[type, Callable[..., int | float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
}


def value_of(node: ast.expr, depth: int = 0) -> int | float:
    """The value of a tree. Raises ValueError for a node that is not in the language.

    It does only what it has a case for. depth: how many nodes stand above this one.
    """
    if depth > MAX_DEPTH:
        raise ValueError("too deep")
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            pass
        case ast.UnaryOp(op=op, operand=operand) if type(op) in OPERATORS:
            value = OPERATORS[type(op)](value_of(operand, depth + 1))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            value = OPERATORS[type(op)](value_of(left, depth + 1), value_of(right, depth + 1))
        case ast.Call(
            func=ast.Attribute(value=ast.Constant(value=str() as text), attr="count"),
            args=[ast.Constant(value=str() as part)],
            keywords=[],
        ):
            value = text.count(part)
        case _:
            raise ValueError("not in the language")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("not finite")
    return value


STRING = r"""'[^'\\\x00-\x1f]*'|"[^"\\\x00-\x1f]*\""""

SHAPE = re.compile(rf"(?:[\d+\-*/(). ,]|\.count(?=\s*\()|{STRING})+", re.ASCII)


def _brackets(expression: str) -> int:
    """Maximum nesting depth of parentheses; those inside strings do not count."""
    found = re.findall(r"[()]", re.sub(STRING, "", expression))
    steps = (1 if bracket == "(" else -1 for bracket in found)
    return max(itertools.accumulate(steps, initial=0))


def _without_commas(expression: str) -> str:
    """1,000 becomes 1000; a comma in a text stays."""
    return re.sub(rf"({STRING})|(?<=\d),(?=\d)", lambda found: found[1] or "", expression)


def use_calculator(expression: str) -> str | None:
    """The value of an expression as Python would print it, or None if it is not in the language.

    The language: numbers (with commas between digits, which are dropped), + - * / // ( ) and
    'text'.count('part'). A quotient is a float ("10/5" gives "2.0"), all else of whole numbers an
    int. None for everything else, for a division by zero, for a float that is not finite, for more
    than MAX_CHARS characters or MAX_DEPTH levels. Nothing is ever run, and nothing is raised.
    """
    if not isinstance(expression, str) or len(expression) > MAX_CHARS:
        return None
    try:
        if not SHAPE.fullmatch(expression) or _brackets(expression) > MAX_DEPTH:
            return None
        tree = ast.parse(_without_commas(expression.strip()), mode="eval")
        return str(value_of(tree.body))
    except (ArithmeticError, RecursionError, MemoryError, SyntaxError, ValueError):
        return None
