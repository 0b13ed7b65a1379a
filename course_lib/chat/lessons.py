"""Lessons: short conversations made from templates, to practise on and to test with, seven kinds of them.

The parts to train on and to test with have no question in common.

Written by hand; chapter 13 uses it and builds what templates need (`templates`).
"""

import builtins
import inspect
import json
import random
import re
from functools import cache

from course_lib.chat.templates import dressed, expand, is_test, templates
from course_lib.host.errors import CourseError
from course_lib.host.paths import data_dir


@cache
def words() -> list[str]:
    """The words to spell and to count letters in: lower case, 3 to 11 letters."""
    return (data_dir() / "lessons" / "words.txt").read_text(encoding="utf-8").split()


def with_tool(expression: str, result: str) -> list[dict]:
    """An assistant's content that calls the calculator and then says its result."""
    parts = ("python", expression), ("python_output", result), ("text", result)
    return [{"type": kind, "text": text} for kind, text in parts]


@cache
def expanded(several: tuple[str, ...]) -> list[str]:
    """The phrases of several templates, each once."""
    return list(dict.fromkeys(phrase for template in several for phrase in expand(template)))


Drawn = tuple[str, str, str | list[dict]]  # what decides whether it is a test, question, answer


def phrase_of(rng: random.Random, entry: dict) -> tuple[str, str]:
    """A phrase of an entry, and how such phrases end: "question" or "request"."""
    phrases = {ending: expanded(tuple(entry.get(ending, ()))) for ending in ("question", "request")}
    ending = rng.choices(list(phrases), [len(each) for each in phrases.values()])[0]
    return rng.choice(phrases[ending]), ending


def identity(rng: random.Random) -> Drawn:
    """Who it is and what it can do."""
    entry = rng.choice(templates()["identity"])
    phrase, ending = phrase_of(rng, entry)
    return phrase, dressed(rng, phrase, ending, shouted=0.04), entry["answer"]


def unknown(rng: random.Random) -> Drawn:
    """What it cannot know."""
    entry = templates()["unknown"]
    phrase, ending = phrase_of(rng, entry)
    place, other = rng.sample(entry["place"], 2)
    work, thing = rng.choice(entry["work"]), rng.choice(entry["thing"])
    question = phrase.format(place=place, other=other, work=work, thing=thing)
    return question, dressed(rng, question, ending, shouted=0.04), entry["answer"]


def operands(rng: random.Random, operation: str) -> tuple[int, int]:
    """Two numbers of 1 to 4 digits; products and quotients stay small."""
    most = 4 if operation in "+-" else 3
    a, b = (rng.randrange(10 ** rng.randint(1, most)) for _ in range(2))
    if operation == "/":
        b = max(1, b % 100)
        a = a if (100 * a) % b == 0 else a * b % 1000 // b * b  # at most two decimals
    return a, b


def calculator(rng: random.Random) -> Drawn:
    """A sum, a difference, a product or a quotient, by the calculator."""
    operation = rng.choice("+-*/")
    a, b = operands(rng, operation)
    result = {"+": a + b, "-": a - b, "*": a * b, "/": a / b if b else 0}[operation]
    phrase = rng.choice(expanded(tuple(templates()["calculator"][operation])))
    expression = f"{a}{operation}{b}"
    question = dressed(rng, phrase.format(a=a, b=b), shouted=0.04)
    return expression, question, with_tool(expression, str(result))


def mental(rng: random.Random) -> Drawn:
    """A small sum without the calculator."""
    operation = rng.choice("+-*")
    a, b = rng.randrange(21), rng.randrange(21)
    result = {"+": a + b, "-": a - b, "*": a * b}[operation]
    phrase = rng.choice(expanded(tuple(templates()["mental"])))
    return f"{a}{operation}{b}", dressed(rng, phrase.format(a=a, b=b, op=operation)), str(result)


def spelling(rng: random.Random) -> Drawn:
    """A word, letter by letter."""
    word = rng.choice(words())
    phrase = rng.choice(expanded(tuple(templates()["spelling"])))
    return word, dressed(rng, phrase.format(word=word)), " ".join(word)


def counting(rng: random.Random) -> Drawn:
    """How often a letter is in a word, by the calculator."""
    word = rng.choice(words())
    letter = rng.choice(word if rng.random() < 0.85 else "abcdefghijklmnopqrstuvwxyz")
    phrase = rng.choice(expanded(tuple(templates()["counting"])))
    result = str(word.count(letter))
    question = dressed(rng, phrase.format(word=word, letter=letter))
    if letter == "i":  # it is no "I" here
        question = question.replace("I", "i")
    return f"{letter} in {word}", question, with_tool(f'" {word}".count("{letter}")', result)


SIGNATURE = re.compile(r"(async )?\w+\(")  # where the documentation begins with a form of call


def _says_no_more(name: str, sentence: str) -> bool:
    """Whether a sentence says no more than the name: "Property attribute.", "Return an enumerate object."."""
    return name in sentence.lower() and len(sentence.split()) <= 4


@cache
def documented() -> dict[str, str]:
    """The first sentence of the documentation of Python's built-in functions, where it is short."""
    found = {}
    for name, value in sorted(vars(builtins).items()):
        if not callable(value) or getattr(value, "__module__", "") not in ("builtins", "_io"):
            continue
        paragraph = (inspect.getdoc(value) or "").split("\n\n")[0].replace("\n", " ")
        sentence = paragraph.split(". ")[0].rstrip(".") + "."
        plain = name.isalpha() and name.islower() and 10 < len(sentence) <= 80
        if plain and not SIGNATURE.match(sentence) and not _says_no_more(name, sentence):
            found[name] = sentence
    return found


def python(rng: random.Random) -> Drawn:
    """What a built-in function of Python does."""
    name = rng.choice(list(documented()))
    phrase = rng.choice(expanded(tuple(templates()["python"]))).format(name=name, call=f"{name}()")
    return phrase, dressed(rng, phrase), documented()[name]


KINDS = {kind.__name__: kind for kind in (identity, calculator, mental, spelling, counting, python, unknown)}


def lesson(kind: str, split: str, number: int) -> list[dict]:
    """The messages of lesson `number` of a kind: a question and its answer, always the same ones.

    kind: a key of KINDS; split: "train" or "test", which have no question in common. There is no
    last number. Raises CourseError for another kind or split.
    """
    if kind not in KINDS or split not in ("train", "test"):
        raise CourseError(
            f"there is no {split!r} side of the lessons {kind!r}; expected train or test of {', '.join(KINDS)}"
        )
    rng = random.Random(f"{kind},{split},{number}")
    while True:
        decides, question, answer = KINDS[kind](rng)
        if is_test(decides) == (split == "test"):
            return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def blind_questions() -> list[dict]:
    """{"kind", "question", "answer"}: by someone who had not seen the templates."""
    lines = (data_dir() / "lessons" / "blind.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


MIX = dict(zip(KINDS, (0.26, 0.33, 0.02, 0.17, 0.12, 0.04, 0.06), strict=True))  # their shares


def practice(number: int, mix: dict[str, float] = MIX, split: str = "train") -> list[dict]:
    """Conversation `number` to train on: one lesson of the mix, in three of ten a second one."""
    rng = random.Random(f"practice,{split},{number}")
    kinds = rng.choices(list(mix), list(mix.values()), k=2 if rng.random() < 0.3 else 1)
    return [message for n, kind in enumerate(kinds) for message in lesson(kind, split, 2 * number + n)]
