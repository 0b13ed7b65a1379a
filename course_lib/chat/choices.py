"""The likeliest of some letters after each of many prompts, a batch at a time.

Written by hand; chapter 14 uses it.
"""

from collections.abc import Callable

import mlx.core as mx

from course_lib.evaluate.records import ScoredSequence
from course_lib.evaluate.scoring import scored_logits
from course_lib.generate.engine import Engine
from course_lib.host.errors import CourseError


def likeliest_letters(
    engine: Engine, letters_of: Callable[[int], tuple[str, ...]], prompts: dict[int, list[int]], batch_size: int
) -> dict[int, str]:
    """The likeliest letter for the reply's first place, by question number; one pass a batch.

    Raises CourseError for a letter that is not one token, and for logits that are no numbers.
    """
    said, numbers = {}, sorted(prompts, key=lambda n: len(prompts[n]))  # alike: little padding
    for start in range(0, len(numbers), batch_size):
        some = numbers[start : start + batch_size]
        batch = [ScoredSequence([*prompts[n], engine.end], len(prompts[n])) for n in some]  # any token at that place
        logits = scored_logits(engine.model, batch, 0)  # (B, V)
        if not mx.isfinite(logits).all():
            raise CourseError("the model's logits are not numbers (NaN); take an older checkpoint")
        for n, row in zip(some, logits.tolist(), strict=True):
            scores = {letter: row[_one_token(engine, letter)] for letter in letters_of(n)}
            said[n] = max(scores, key=scores.__getitem__)
    return said


def _one_token(engine: Engine, letter: str) -> int:
    ids = engine.tokenizer.encode(letter)
    if len(ids) != 1:
        problem = f"the choice {letter!r} is {len(ids)} tokens, expected one"
        raise CourseError(f"{problem}; name the choices A, B, C, …")
    return ids[0]
