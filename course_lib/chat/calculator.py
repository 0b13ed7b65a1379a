"""A calculator for the model: sums, and counting in a text, read by a parser and never run.

Source: nanochat (October 2025), whose language this is.

Exported from notebooks/14_tools_and_tasks.ipynb; edit it there.
"""

import ast
import math
import operator
from collections.abc import Callable

from course_lib.chat.expressions import MAX_DEPTH, cleaned

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


def use_calculator(expression: str) -> str | None:
    """The value of an expression as Python would print it, or None if it is not in the language.

    The language: numbers (with commas between digits, which are dropped), + - * / // ( ) and
    'text'.count('part'). A quotient is a float ("10/5" gives "2.0"), all else of whole numbers an
    int. None for everything else, for a division by zero, for a float that is not finite, for more
    than 1,000 characters or MAX_DEPTH levels. Nothing is ever run, and nothing is raised.
    """
    try:
        text = cleaned(expression)
        return None if text is None else str(value_of(ast.parse(text, mode="eval").body))
    except (ArithmeticError, RecursionError, MemoryError, SyntaxError, ValueError):
        return None
