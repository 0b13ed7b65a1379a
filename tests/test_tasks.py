"""Tasks: what a reply says, when it is right, and that no question is on both sides; asked in batches as alone."""

import io
import re

import huggingface_hub.constants as hub_constants
import mlx.core as mx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hub import Hub

from course_lib.chat.calculator import use_calculator
from course_lib.chat.conversation import render_conversation, render_for_completion
from course_lib.chat.lessons import KINDS, blind_questions, lesson
from course_lib.chat.questions import commonest_share
from course_lib.chat.tasks import (
    DOWNLOADED_TASKS,
    ChatTask,
    answers,
    get_task,
    lesson_tasks,
    reply_text,
    same_marked_number,
    same_number,
    same_text,
    spoken,
)
from course_lib.data.tokenizer import Tokenizer
from course_lib.generate.engine import Engine
from course_lib.host import download
from course_lib.host.errors import CourseError
from course_lib.model.gpt import GPT, GPTConfig

TOKENIZER = Tokenizer.train(["What is 1 + 2? It is 3."] * 3, 270)

# What is said


def ids_of(text: str) -> list[int]:
    """Ids of a text in which special tokens are written out."""
    ids = []
    for piece in re.split(r"(<\|\w+\|>)", text):
        ids += [TOKENIZER.special(piece)] if piece.startswith("<|") else TOKENIZER.encode(piece)
    return ids


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ("It is 3.", "It is 3."),
        ("<|python_start|>1+2<|python_end|><|output_start|>3<|output_end|>It is 3.", "It is 3."),
        ("So: <|python_start|>1+2<|python_end|><|output_start|>3<|output_end|>3", "So: 3"),
        ("a<|python_start|>1<|python_end|>b<|python_start|>2<|python_end|><|output_start|>2<|output_end|>c", "abc"),
        ("a<|python_start|>1+", "a"),
        ("a<|python_start|>1<|python_end|><|output_start|>1", "a"),
        ("a<|output_end|>b", "ab"),
        ("", ""),
    ],
)
def test_what_a_reply_says_is_its_text_without_calls_and_their_output(reply, said):
    assert reply_text(TOKENIZER, ids_of(reply)) == said


def test_a_lesson_says_the_same_as_message_and_as_ids():
    for kind in KINDS:
        for number in range(20):
            messages = lesson(kind, "test", number)
            prompt = render_for_completion(TOKENIZER, messages)
            ids = render_conversation(TOKENIZER, messages)[0][len(prompt) : -1]
            assert reply_text(TOKENIZER, ids) == spoken(messages[-1]["content"]) != ""


# The rules


@pytest.mark.parametrize(
    ("reference", "reply", "right"),
    [
        ("3", "3", True),
        ("3", "It is 3.", True),
        ("3", "3.0", True),
        ("2.0", "2", True),
        ("1000", "1,000", True),
        ("-5", "-5", True),
        ("-5", "5", False),
        ("5", "8-5", True),
        ("5", "8 - 5", True),
        ("3", "3, or 4", False),
        ("3", "4, or 3", True),
        ("3", "33", False),
        ("3", "", False),
        ("3", "three", False),
        ("3", "x3", False),
        ("0.5", "0.50", True),
        ("3", "$3", True),
        ("12", "1 2", False),
        ("3", "３", False),
        ("no number", "3", False),
    ],
)
def test_the_last_number_counts(reference, reply, right):
    assert same_number(reference, reply) is right


@pytest.mark.parametrize(
    ("reference", "reply", "right"),
    [
        ("My name is Wren.", "my name is  Wren", True),
        ("My name is Wren.", "My name is Wren!\n", True),
        ("My name is Wren.", "My name is Wren. I am", False),
        ("c a t", "c a t", True),
        ("c a t", "ca t", False),
        ("A", "a", True),
        ("A", "", False),
        ("", "", False),
        ("...", "!", False),
    ],
)
def test_the_text_counts(reference, reply, right):
    assert same_text(reference, reply) is right


@pytest.mark.parametrize(
    ("reply", "right"),
    [
        ("so\n#### 1,234", True),
        ("#### 1234.0", True),
        ("####1234", True),
        ("#### $1234", True),
        ("1234", False),
        ("#### 1235\n#### 1234", True),
        ("#### 1234 or 5", True),
        ("#### no", False),
        ("### 1234", False),
    ],
)
def test_the_marked_number_counts(reply, right):
    assert same_marked_number("6*2=12\n#### 1234", reply) is right


# Tasks


@pytest.mark.parametrize("name", lesson_tasks())
def test_the_reference_is_right_and_other_replies_are_wrong(name):
    task = get_task(name)
    assert len(task) >= 10 and task.kind == "generative" and 0 <= task.baseline < 1
    for number in range(min(len(task), 60)):
        messages = task[number]
        reference = spoken(messages[-1]["content"])
        assert messages[-1]["role"] == "assistant" and task.evaluate(messages, reference)
        assert not task.evaluate(messages, "") and not task.evaluate(messages, "I cannot say that.")
    with pytest.raises(IndexError, match=f"{name} has no question {len(task)}"):
        task[len(task)]


@pytest.mark.parametrize("name", lesson_tasks())
def test_guessing_is_the_commonest_answer_given_to_every_question(name):
    """Asked of the task itself: no one reply to all its questions is right more often."""
    task = get_task(name)
    replies = {spoken(task[n][-1]["content"]) for n in range(len(task))}
    most = max(sum(task.evaluate(task[n], reply) for n in range(len(task))) for reply in replies) / len(task)
    assert task.baseline == (most if most < 1 else 0)


def test_guessing_has_no_share_where_all_answers_are_the_same():
    assert commonest_share(["no"] * 9, same_text) == get_task("unknown").baseline == 0
    assert commonest_share(["1", "2", "It is 1.", "1"], same_number) == 0.75
    assert get_task("counting").baseline == 0.705, "141 of these 200 answers are 1"
    assert get_task("counting", "train").baseline > 0.5


def test_a_judged_number_may_be_said_in_other_words_and_a_text_may_not():
    messages = get_task("calculator")[0]
    value = spoken(messages[-1]["content"])
    assert get_task("calculator").evaluate(messages, f"That makes {value}.")
    messages = get_task("identity")[0]
    assert not get_task("identity").evaluate(messages, "Well: " + messages[-1]["content"])


def test_the_calculator_gives_what_the_lessons_say():
    for kind in ("calculator", "counting"):
        for split in ("train", "test"):
            for number in range(300):
                call, output, _ = lesson(kind, split, number)[-1]["content"]
                assert use_calculator(call["text"]) == output["text"], (kind, split, number)


@pytest.mark.parametrize("kind", KINDS)
def test_no_question_is_on_both_sides(kind):
    train, test = get_task(kind, "train"), get_task(kind)
    questions = [{task[n][0]["content"].casefold().strip(" .!?") for n in range(len(task))} for task in (train, test)]
    assert not questions[0] & questions[1]
    assert all(get_task(kind)[n] == test[n] for n in (0, 7)), "the same number is always the same question"


def test_blind_questions_are_asked_all_and_only_in_tests():
    names = [name for name in lesson_tasks() if name.startswith("blind-")]
    tasks = [get_task(name) for name in names]
    asked = [task[n][0]["content"] for task in tasks for n in range(len(task))]
    assert sorted(asked) == sorted(each["question"] for each in blind_questions())
    with pytest.raises(CourseError, match="blind-identity has no split 'train', expected test"):
        get_task("blind-identity", "train")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("sums",), "no task is called 'sums', expected one of identity, calculator"),
        (("blind-sums",), "no task is called 'blind-sums'"),
        (("identity", "validation"), "identity has no split 'validation', expected train or test"),
        (("gsm8k", "socratic"), "gsm8k has no split 'socratic'"),
    ],
)
def test_what_there_is_not(arguments, said, home):
    with pytest.raises(CourseError, match=said) as caught:
        get_task(*arguments)
    assert "\n" not in str(caught.value)


# Downloaded tasks

GSM8K = [{"question": f"{n} and 1?", "answer": f"It is <<{n}+1={n + 1}>>{n + 1}\n#### {n + 1}"} for n in range(30)]
MMLU = [
    {"question": f"Which is {n}?", "subject": "numbers", "choices": [str(n + k) for k in range(4)], "answer": 0}
    for n in range(30)
]
ARC = [
    {"question": "Which?", "choices": {"text": ["x", "y", "z"], "label": ["1", "2", "3"]}, "answerKey": "2"},
    {"question": "Who?", "choices": {"text": ["x", "y"], "label": ["A", "B"]}, "answerKey": "A"},
]


def parquet(records):
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(records), buffer)
    return buffer.getvalue()


@pytest.fixture
def hub(monkeypatch, home):
    files = {
        "main/test-00000-of-00001.parquet": parquet(GSM8K),
        "main/train-00000-of-00001.parquet": parquet(GSM8K[:5]),
        "all/test-00000-of-00001.parquet": parquet(MMLU),
        "ARC-Easy/test-00000-of-00001.parquet": parquet(ARC),
    }
    with Hub(files) as hub:
        monkeypatch.setattr(hub_constants, "ENDPOINT", hub.url)
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(hub_constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(download, "WAITS", (0.01,) * 5)
        yield hub


def test_gsm8k_asks_every_problem_in_a_mixed_order_and_reads_the_mark(hub):
    task, again = get_task("gsm8k"), get_task("gsm8k")
    asked = [task[n][0]["content"] for n in range(len(task))]
    assert sorted(asked) == sorted(row["question"] for row in GSM8K) and asked != [row["question"] for row in GSM8K]
    assert asked == [again[n][0]["content"] for n in range(len(again))]
    number = int(asked[0].split()[0])
    assert task.evaluate(task[0], f"so #### {number + 1}") and not task.evaluate(task[0], f"{number + 1}")
    assert len(get_task("gsm8k", "train")) == 5


def test_multiple_choice_has_its_letters(hub):
    task = get_task("mmlu")
    assert task.kind == "categorical" and task.baseline == 0.25 and len(task) == 30
    assert task.letters_of(3) == ("A", "B", "C", "D")
    assert task.evaluate(task[3], "A") and not task.evaluate(task[3], "B")
    arc = get_task("arc-easy")
    letters = {arc[n][0]["content"].split("\n")[0]: arc.letters_of(n) for n in range(2)}
    assert sorted(letters.values()) == [("1", "2", "3"), ("A", "B")]
    which = next(n for n in range(2) if arc.letters_of(n)[0] == "1")
    assert arc.evaluate(arc[which], "2") and not arc.evaluate(arc[which], "1")
    with pytest.raises(CourseError, match="could not fetch ARC-Challenge"):
        get_task("arc-challenge")
    assert {"gsm8k", "mmlu", "arc-easy", "arc-challenge"} == set(DOWNLOADED_TASKS)


# Asking


def random_model(sequence_len=128, seed=3) -> GPT:
    model = GPT(GPTConfig(sequence_len, TOKENIZER.vocab_size, 2, 2, 2, 32))
    mx.random.seed(seed)
    for block in model.transformer.h:
        block.attn.c_proj.weight = mx.random.normal(block.attn.c_proj.weight.shape)
    model.lm_head.weight = mx.random.normal(model.lm_head.weight.shape)
    return model


def choice_task(count=11) -> ChatTask:
    def conversation(number):
        question = f"{number * 7919 % 997}? " * (1 + number * 5 % 7) + "abcdefghijk"[number]
        return [{"role": "user", "content": question}, {"role": "assistant", "content": "AB"[number % 2]}]

    return ChatTask("choice", "categorical", 0.25, count, conversation, same_text, lambda number: tuple("ABCD"))


def test_generative_answers_are_those_of_each_question_alone():
    engine, task = Engine(random_model(), TOKENIZER, use_calculator), get_task("calculator")
    found = list(answers(engine, task, list(range(9)), batch_size=2, max_tokens=12))
    assert [answer.number for answer in found] == list(range(9))
    for answer in found:
        messages = task[answer.number]
        (alone,) = engine.generate_batch([render_for_completion(TOKENIZER, messages)], 12, temperature=0)
        assert answer.reply == reply_text(TOKENIZER, alone.ids) and answer.fits
        assert answer.right == task.evaluate(messages, answer.reply)
    assert len({answer.reply for answer in found}) > 3, "questions are really read"
    assert list(answers(engine, task, [4, 2], max_tokens=12)) == [found[4], found[2]]


def test_sampled_answers_follow_the_seed():
    engine, task = Engine(random_model(), TOKENIZER), get_task("identity")
    settings = {"max_tokens": 6, "temperature": 1.0}
    one, same, other = (list(answers(engine, task, [0, 1, 2], **settings, seed=seed)) for seed in (1, 1, 2))
    assert one == same != other


@pytest.mark.parametrize("batch_size", [1, 4, 32])
def test_a_choice_is_the_likeliest_letter_behind_the_prompt(batch_size):
    model, task = random_model(), choice_task()
    found = list(answers(Engine(model, TOKENIZER), task, list(range(11)), batch_size=batch_size))
    chosen = []
    for answer in found:
        logits = model(mx.array([render_for_completion(TOKENIZER, task[answer.number])]))[0, -1]
        scores = {letter: logits[TOKENIZER.encode(letter)[0]].item() for letter in "ABCD"}
        chosen.append(max(scores, key=scores.get))
        assert answer.right == (chosen[-1] == "AB"[answer.number % 2])
    assert [answer.reply for answer in found] == chosen and len(set(chosen)) > 1


def test_a_prompt_that_does_not_fit_is_wrong_and_said_and_the_others_are_asked():
    def conversation(number):
        content = "word " * (40 if number == 1 else 1)
        return [{"role": "user", "content": content}, {"role": "assistant", "content": "A"}]

    engine = Engine(random_model(sequence_len=64), TOKENIZER)
    for kind in ("generative", "categorical"):
        task = ChatTask("long", kind, 0.0, 3, conversation, lambda reference, reply: True, lambda number: ("A", "B"))
        found = list(answers(engine, task, [0, 1, 2]))
        assert [answer.fits for answer in found] == [True, False, True]
        assert [answer.right for answer in found] == [True, False, True], "never right, whatever the rule says"


def test_choices_that_are_several_tokens_and_damaged_models_are_refused():
    task = ChatTask("choice", "categorical", 0.5, 1, choice_task().conversation, same_text, lambda number: ("A", "10"))
    with pytest.raises(CourseError, match="the choice '10' is 2 tokens, expected one"):
        list(answers(Engine(random_model(), TOKENIZER), task, [0]))
    broken = random_model()
    broken.lm_head.weight = mx.full(broken.lm_head.weight.shape, mx.nan)
    for damaged in (choice_task(), get_task("identity")):
        with pytest.raises(CourseError, match="not numbers \\(NaN\\)"):
            list(answers(Engine(broken, TOKENIZER), damaged, [0]))
