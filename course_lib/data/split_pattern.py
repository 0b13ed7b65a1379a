"""Whether a split pattern that comes with somebody's tokenizer loses no text.

Written by hand; chapter 05 uses it.
"""

import regex

from course_lib.host.errors import CourseError

# Every character of the alphabets below U+3000, and runs of what stands in texts: words, numbers, line ends, emoji.
SAMPLE = (
    "".join(map(chr, range(0x3000)))
    + "I'll say:  it's 2,026 o'clock\r\n\r\n \t\u3000日本語 한국어 e\u0301 👩‍🚀…\n\na"
    + " " * 9
)


def check_split_pattern(pattern: str) -> None:
    """Raises CourseError for a pattern that leaves something out, finds empty pieces or takes too long.

    What no piece holds would vanish, and an empty piece makes tiktoken fail.
    """
    try:
        pieces = [found.group() for found in regex.finditer(pattern, SAMPLE, timeout=2)]
        right = all(pieces) and "".join(pieces) == SAMPLE
    except (regex.error, TimeoutError):
        right = False
    if not right:
        raise CourseError(
            f"the tokenizer's pattern {pattern!r:.80} does not cut every text into pieces that make it up; take "
            "another tokenizer"
        )
