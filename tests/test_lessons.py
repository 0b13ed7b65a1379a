"""Lessons: right answers, the same ones every time, and tests that have nothing in common with the practice."""

import builtins
import random
import re
import string
import zlib
from collections import Counter
from fractions import Fraction
from functools import cache

import pytest

from course_lib.chat.calculator import use_calculator
from course_lib.chat.lessons import KINDS, MIX, blind_questions, documented, expanded, lesson, practice, words
from course_lib.chat.messages import check_messages
from course_lib.chat.templates import expand, is_test, templates
from course_lib.host.errors import CourseError

MANY = 1200
SIDES = (("user", "question"), ("assistant", "answer"))
FIELDS = {
    **{("calculator", operation): {"a", "b"} for operation in "+-*/"},
    **{"mental": {"a", "b", "op"}, "spelling": {"word"}, "counting": {"word", "letter"}},
    "python": {"name", "call"},
}


@cache
def drawn(kind, split):
    return [lesson(kind, split, number) for number in range(MANY)]


def asked(messages):
    return messages[0]["content"]


def answered(messages):
    """The last text of the answer."""
    content = messages[1]["content"]
    return content if isinstance(content, str) else content[-1]["text"]


def expression(messages):
    """The expression, its output and the answer of a lesson by the calculator."""
    content = messages[1]["content"]
    assert [part["type"] for part in content] == ["python", "python_output", "text"]
    return tuple(part["text"] for part in content)


def plain(question):
    """A question without what only dresses it."""
    question = question.lower()
    for opening in sorted(filter(None, templates()["openings"]), key=len, reverse=True):
        question = question.removeprefix(opening)
    return re.sub(r"[,.]? ?please\.?$|[ ?!.]+$", "", question)


def decided(kind, messages):
    """What decides on which side a lesson is, read back from its texts."""
    if kind in ("calculator", "counting"):
        return expression(messages)[0]
    if kind == "mental":
        return re.search(r"\d+ [-+*] \d+", asked(messages))[0]
    return answered(messages) if kind == "spelling" else plain(asked(messages))


# ---- two sides


@pytest.mark.parametrize("kind", KINDS)
def test_practice_and_tests_have_no_question_and_nothing_that_decides_in_common(kind):
    for read in (asked, lambda messages: plain(asked(messages)), lambda messages: decided(kind, messages)):
        train, test = ({read(messages) for messages in drawn(kind, split)} for split in ("train", "test"))
        assert len(train) > 150 and len(test) > 20 and not train & test
    if kind in ("calculator", "mental", "spelling", "counting"):
        letters = {"mental": " ", "spelling": " "}.get(kind, "\0")
        for split in ("train", "test"):
            for messages in drawn(kind, split):
                decides = decided(kind, messages).replace(letters, "")
                if kind == "counting":
                    word, letter = re.fullmatch(r'" ([a-z]+)"\.count\("([a-z])"\)', decides).groups()
                    decides = f"{letter} in {word}"
                assert (zlib.crc32(decides.encode()) % 10 == 0) == (split == "test")


def test_one_question_in_ten_is_for_tests():
    held_out = sum(is_test(f"{a}+{b}") for a in range(100) for b in range(100))
    assert held_out == pytest.approx(1000, abs=100)
    assert sum(map(is_test, words())) == pytest.approx(len(words()) / 10, rel=0.25)


def test_a_sum_that_is_kept_for_tests_is_not_practised_in_the_head_either():
    tests = {re.sub(" ", "", decided(kind, m)) for kind in ("mental", "calculator") for m in drawn(kind, "test")}
    train = {re.sub(" ", "", decided(kind, m)) for kind in ("mental", "calculator") for m in drawn(kind, "train")}
    assert tests and not tests & train


def test_lessons_are_the_same_ones_every_time_and_in_any_order():
    for kind in KINDS:
        random.seed(5)
        for number in (7, 0, 1199, 7):
            assert lesson(kind, "train", number) == drawn(kind, "train")[number]
        assert len({str(messages) for messages in drawn(kind, "train")}) > MANY * 0.8
    before = drawn("calculator", "test")[3]
    before_content = before[1]["content"]
    lesson("calculator", "test", 3)[1]["content"].clear()  # someone's own copy
    assert lesson("calculator", "test", 3)[1]["content"] == before_content


def test_some_lessons_that_a_model_may_have_been_trained_on():
    """Other texts here mean that a model is tested on what an older one has practised."""
    known = {
        ("calculator", "train", 0): ("You have 5 boxes with 844 eggs each. how many are there?", "4220"),
        ("calculator", "test", 7): ("I have 65 cards and lose 5334. how many remain.", "-5269"),
        ("mental", "train", 0): ("One question: without the calculator, how much is 19 + 10?", "29"),
        ("spelling", "train", 0): ("Give me everything with spaces.", "e v e r y t h i n g"),
        ("counting", "test", 7): ("hey, count every p in the word pops?", "2"),
    }
    for key, texts in known.items():
        assert (asked(lesson(*key)), answered(lesson(*key))) == texts


@pytest.mark.parametrize("wrong", [("sums", "train"), ("mental", "val"), ("mental", "")])
def test_another_kind_or_side_is_refused(wrong):
    with pytest.raises(CourseError, match="there is no .* side of the lessons .*expected train or test of identity"):
        lesson(*wrong, 0)


# ---- right answers


@pytest.mark.parametrize("split", ["train", "test"])
def test_every_sum_is_right_and_is_what_the_calculator_will_say(split):
    seen = Counter()
    for messages in drawn("calculator", split):
        text, output, answer = expression(messages)
        a, operation, b = re.fullmatch(r"(\d+)([-+*/])(\d+)", text).groups()
        x, y = Fraction(a), Fraction(b)
        right = {"+": x + y, "-": x - y, "*": x * y, "/": x / y if y else None}[operation]
        assert Fraction(output) == right and output == answer
        assert ("." in output) == (operation == "/"), "a quotient is a float, the rest are not"
        if operation == "/":
            assert re.fullmatch(r"\d+\.\d\d?", output) and output == str(float(output))
        assert use_calculator(text) == output
        numbers = re.findall(r"\d+", asked(messages))
        assert sorted(numbers) == sorted([a, b]), "the question has these numbers and no others"
        seen[operation] += 1
    assert all(seen[operation] == pytest.approx(MANY / 4, rel=0.2) for operation in "+-*/")


def test_operands_of_every_size_occur():
    sizes = {operation: (Counter(), Counter()) for operation in "+-*/"}
    for messages in drawn("calculator", "train") + drawn("calculator", "test"):
        a, operation, b = re.fullmatch(r"(\d+)([-+*/])(\d+)", expression(messages)[0]).groups()
        sizes[operation][0][len(a)] += 1
        sizes[operation][1][len(b)] += 1
    for operation, most in (("+", (4, 4)), ("-", (4, 4)), ("*", (3, 3)), ("/", (3, 2))):
        for counts, largest in zip(sizes[operation], most, strict=True):
            assert set(counts) == set(range(1, largest + 1)), operation
            assert min(counts.values()) > 0.03 * sum(counts.values()), operation
    signs = {m[1]["content"][1]["text"][0] == "-" for m in drawn("calculator", "train")}
    assert signs == {True, False}, "differences below zero occur"


@pytest.mark.parametrize("split", ["train", "test"])
def test_every_small_sum_is_right_and_in_words_without_the_calculator(split):
    seen = set()
    for messages in drawn("mental", split):
        a, operation, b = re.search(r"(\d+) ([-+*]) (\d+)", asked(messages)).groups()
        assert {"+": int(a) + int(b), "-": int(a) - int(b), "*": int(a) * int(b)}[operation] == int(answered(messages))
        assert int(a) <= 20 and int(b) <= 20 and isinstance(messages[1]["content"], str)
        seen.add(operation)
    assert seen == set("+-*")


@pytest.mark.parametrize("split", ["train", "test"])
def test_every_word_is_spelled_right(split):
    for messages in drawn("spelling", split):
        letters = answered(messages).split(" ")
        assert all(re.fullmatch("[a-z]", letter) for letter in letters)
        assert "".join(letters) in re.findall("[a-z]+", asked(messages).lower()) and "".join(letters) in words()


@pytest.mark.parametrize("split", ["train", "test"])
def test_every_letter_is_counted_right(split):
    results = Counter()
    for messages in drawn("counting", split):
        text, output, answer = expression(messages)
        word, letter = re.fullmatch(r'" ([a-z]+)"\.count\("([a-z])"\)', text).groups()
        assert output == answer == str(sum(each == letter for each in word)) == use_calculator(text)
        in_question = re.findall("[a-z]+", asked(messages).lower())
        assert word in in_question and ({letter, letter + "s"} & set(in_question))
        results[int(output)] += 1
    assert {0, 1, 2} <= set(results) and 0.05 < results[0] / MANY < 0.3


def test_words_are_words_each_once():
    assert len(words()) > 2000 and len(set(words())) == len(words())
    assert all(re.fullmatch("[a-z]{3,11}", word) for word in words())


def test_who_it_is_and_what_it_cannot_know_has_one_answer_for_each_question():
    answers = {}
    entries = [*templates()["identity"], templates()["unknown"]]
    for entry in entries:
        for ending in ("question", "request"):
            for phrase in expanded(tuple(entry.get(ending, ()))):
                assert answers.setdefault(phrase.lower(), entry["answer"]) == entry["answer"], phrase
    assert len({entry["answer"] for entry in entries}) == len(entries)
    said = {answered(messages) for messages in drawn("identity", "train")}
    assert said == {entry["answer"] for entry in entries[:-1]}, "all of them occur"
    assert {answered(messages) for messages in drawn("unknown", "train")} == {entries[-1]["answer"]}


def test_what_a_built_in_function_does_is_what_python_says():
    names = set()
    for messages in drawn("python", "train"):
        found = [name for name in re.findall(r"[a-z_]+", asked(messages)) if name in documented()]
        right = [name for name in found if answered(messages) == documented()[name]]
        assert right, asked(messages)
        names.add(right[0])
    assert len(names) > 25
    for name, sentence in documented().items():
        doc = " ".join(getattr(builtins, name).__doc__.split())
        assert doc.startswith(sentence[:-1]) and sentence.endswith(".") and not sentence.endswith(".."), name
        assert 10 < len(sentence) <= 81


def test_no_answer_is_a_form_of_call_or_says_no_more_than_the_name():
    assert not {"anext", "property", "enumerate"} & set(documented())
    for name, sentence in documented().items():
        assert not re.match(r"(async )?\w+\(", sentence), name
        others = set(re.findall("[a-z]+", sentence.lower())) - {name, "return", "a", "an", "the", "object", "create"}
        assert len(others) > 1 and "attribute" not in others or len(others) > 3, (name, sentence)


def test_what_a_notebook_adds_to_the_builtins_changes_no_lesson(monkeypatch):
    def display():
        """Display a Python object in all frontends."""

    before, lessons_before = dict(documented()), [lesson("python", "train", number) for number in range(40)]
    documented.cache_clear()
    try:
        monkeypatch.setattr(builtins, "display", display, raising=False)
        assert documented() == before
        assert [lesson("python", "train", number) for number in range(40)] == lessons_before
    finally:
        documented.cache_clear()


# ---- how they are put


def test_templates_expand_to_all_their_alternatives_each_once():
    assert expand("(a|b|) c(d| e)") == ["a cd", "a c e", "b cd", "b c e", "cd", "c e"]
    assert expand("plain (only one)") == ["plain (only one)"]
    assert expanded(("(a|b)", "(b|c)")) == ["a", "b", "c"]


def phrases():
    """(what it may fill in, phrase) of every template."""
    every = templates()
    for entry in every["identity"]:
        yield from (("identity", phrase) for key in ("question", "request") for phrase in _of(entry, key))
    yield from (("unknown", phrase) for key in ("question", "request") for phrase in _of(every["unknown"], key))
    for operation, given in every["calculator"].items():
        yield from ((("calculator", operation), phrase) for phrase in expanded(tuple(given)))
    for kind in ("mental", "spelling", "counting", "python"):
        yield from ((kind, phrase) for phrase in expanded(tuple(every[kind])))


def _of(entry, key):
    return expanded(tuple(entry.get(key, ())))


def test_no_template_leaves_a_brace_a_bracket_or_a_bar():
    count = Counter()
    for kind, phrase in phrases():
        assert not set(phrase) & set("()[]|<>"), phrase
        fields = {name for _, name, _, _ in string.Formatter().parse(phrase) if name is not None}
        if kind == "python":
            assert len(fields) == 1 and fields <= FIELDS[kind], phrase
        elif kind == "unknown":
            assert fields <= {"place", "other", "work", "thing"}
        else:
            assert fields == FIELDS.get(kind, set()), phrase
        assert phrase == " ".join(phrase.split()) and phrase.isascii()
        count[kind] += 1
    assert count["identity"] > 2000 and all(count[kind] >= 16 for kind in count)


@pytest.mark.parametrize("kind", KINDS)
def test_every_lesson_is_a_question_and_an_answer_in_ascii(kind):
    for split in ("train", "test"):
        for messages in drawn(kind, split):
            check_messages(messages)
            assert [message["role"] for message in messages] == ["user", "assistant"]
            assert asked(messages).isascii() and answered(messages).isascii() and answered(messages)
            assert "\n" not in asked(messages) and asked(messages) == asked(messages).strip()
            assert not set(asked(messages)) & set("{}[]|") and "  " not in asked(messages)
    shapes = {asked(messages)[0].isupper() for messages in drawn(kind, "train")}
    assert shapes == {True, False}
    assert {asked(messages)[-1] in "?.!" for messages in drawn(kind, "train")} == {True, False}


def test_the_questions_by_another_hand_are_whole_and_their_answers_right():
    questions = blind_questions()
    assert len(questions) >= 100 and len({each["question"] for each in questions}) == len(questions)
    for each in questions:
        assert set(each) == {"kind", "question", "answer"} and each["kind"] in KINDS
        check_messages(
            [{"role": "user", "content": each["question"]}, {"role": "assistant", "content": each["answer"]}]
        )
        assert each["question"].isascii() and each["question"].strip() and each["answer"]
        found = re.findall("[a-z]+", each["question"].lower())
        if each["kind"] == "spelling":
            assert "".join(each["answer"].split(" ")) in found
        if each["kind"] == "counting":
            letters = [text for text in found if len(text) == 1]  # "r's" gives r and s
            assert any(
                str(word.count(letter)) == each["answer"] for word in found for letter in letters if len(word) > 3
            ), each
        if each["kind"] == "calculator":
            a, b = map(int, re.findall(r"\d+", each["question"]))
            assert each["answer"] in {str(x) for x in (a + b, a - b, b - a, a * b, a / b)}, each
        if each["kind"] in ("identity", "unknown"):
            known = [*templates()["identity"], templates()["unknown"]]
            assert each["answer"] in {entry["answer"] for entry in known}
    assert {"identity", "calculator", "spelling", "counting"} <= {each["kind"] for each in questions}


# ---- conversations of them


def kind_of(question, answer):
    if isinstance(answer, list):
        return "counting" if "count" in answer[0]["text"] else "calculator"
    if answer in documented().values():
        return "python"
    if re.fullmatch(r"-?\d+", answer):
        return "mental"
    if re.fullmatch(r"[a-z]( [a-z])+", answer):
        return "spelling"
    return "unknown" if answer == templates()["unknown"]["answer"] else "identity"


def test_practice_mixes_the_kinds_as_it_says_and_has_two_turns_in_three_of_ten():
    assert sum(MIX.values()) == pytest.approx(1) and set(MIX) == set(KINDS)
    count = 4000
    talks, kinds = [practice(number) for number in range(count)], Counter()
    for messages in talks:
        check_messages(messages)
        assert [message["role"] for message in messages] == ["user", "assistant"] * (len(messages) // 2)
        kinds.update(kind_of(q["content"], a["content"]) for q, a in zip(messages[::2], messages[1::2], strict=True))
    lengths = Counter(map(len, talks))
    assert set(lengths) == {2, 4} and lengths[4] / count == pytest.approx(0.3, abs=0.025)
    for kind, share in MIX.items():
        assert kinds[kind] / kinds.total() == pytest.approx(share, abs=0.02), kind
    assert practice(17) == talks[17]


def test_the_same_lesson_does_not_come_again_and_again():
    questions = [message["content"] for number in range(1000) for message in practice(number, {"calculator": 1})[::2]]
    assert len(set(questions)) > 0.99 * len(questions)


def test_another_mix_is_kept_to_and_each_side_to_its_own():
    sides = {}
    for split in ("train", "test"):
        talks = [practice(number, {"calculator": 1, "spelling": 3}, split) for number in range(600)]
        turns = [turn for messages in talks for turn in zip(messages[::2], messages[1::2], strict=True)]
        kinds = Counter(kind_of(q["content"], a["content"]) for q, a in turns)
        assert set(kinds) == {"calculator", "spelling"} and kinds["spelling"] / kinds.total() == pytest.approx(
            0.75, abs=0.06
        )
        sides[split] = {decided(kind_of(q["content"], a["content"]), [q, a]) for q, a in turns}
    assert not sides["train"] & sides["test"]
    assert practice(5) == practice(5, MIX, "train") != practice(5, split="test")
