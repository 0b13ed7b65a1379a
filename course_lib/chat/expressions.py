"""What a text must look like before the calculator parses it: characters, length, parentheses.

Written by hand; chapter 14 uses it.
"""

import itertools
import re

MAX_CHARS = 1000  # of an expression; without powers the result has about as many digits at most
MAX_DEPTH = 100  # of nested parentheses, and of the parsed tree
STRING = r"""'[^'\\\x00-\x1f]*'|"[^"\\\x00-\x1f]*\""""
SHAPE = re.compile(rf"(?:[\d+\-*/(). ,]|\.count(?=\s*\()|{STRING})+", re.ASCII)


def cleaned(expression: str) -> str | None:
    """The expression without spaces around it and commas between digits; None when the calculator must not see it.

    That is any other character than digits, + - * / ( ) . and spaces, where it is not .count( or a text in quotes; or
    more than MAX_CHARS of them, or more than MAX_DEPTH nested parentheses, which can make a parser slow.
    """
    if not isinstance(expression, str) or len(expression) > MAX_CHARS or not SHAPE.fullmatch(expression):
        return None
    return without_commas(expression.strip()) if _brackets(expression) <= MAX_DEPTH else None


def without_commas(expression: str) -> str:
    """1,000 becomes 1000; a comma in a text stays."""
    return re.sub(rf"({STRING})|(?<=\d),(?=\d)", lambda found: found[1] or "", expression)


def _brackets(expression: str) -> int:
    """Maximum nesting depth of parentheses; those inside strings do not count."""
    found = re.findall(r"[()]", re.sub(STRING, "", expression))
    return max(itertools.accumulate((1 if each == "(" else -1 for each in found), initial=0))
