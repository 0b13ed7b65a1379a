"""Claims: a sentence on numbers, said by a cell that looks at them."""

from course_lib.classroom.cells import quick_run


def claim(sentence: str, holds) -> None:
    """Print `✓ sentence` when it holds, else raise AssertionError; a quick run judges nothing, and says so.

    holds: True or False, whichever library it comes from. Raises TypeError for anything else, such as a difference
    that was compared with nothing.
    """
    if holds not in (True, False):
        raise TypeError(f"claim({sentence!r}) was given {holds!r}, expected True or False; compare it with something")
    if quick_run():
        print(f"· {sentence} (quick run: not judged)")
    elif holds:
        print(f"✓ {sentence}")
    else:
        raise AssertionError(f"✗ {sentence}: the numbers of this run say otherwise")
