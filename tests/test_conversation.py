"""A conversation becomes the ids of nanochat's format, and what is no conversation is refused in one sentence."""

import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.chat.conversation import render_for_completion
from course_lib.chat.messages import PARTS, check_messages, without_system
from course_lib.chat.rendering import render_conversation
from course_lib.data.tokenizer import Tokenizer
from course_lib.host.errors import CourseError

TOKENIZER = Tokenizer.train(["what is the sum of two and two? it is four. hello there " * 5], 290, allow_smaller=True)
BOS, USER, USER_END, ASSISTANT, ASSISTANT_END, PYTHON, PYTHON_END, OUTPUT, OUTPUT_END = (
    TOKENIZER.special(f"<|{name}|>")
    for name in (
        *("bos", "user_start", "user_end", "assistant_start", "assistant_end"),
        *("python_start", "python_end", "output_start", "output_end"),
    )
)
ENC = TOKENIZER.encode


def user(text):
    return {"role": "user", "content": text}


def assistant(content):
    return {"role": "assistant", "content": content}


def system(text):
    return {"role": "system", "content": text}


def part(kind, text):
    return {"type": kind, "text": text}


def reference(messages):
    """The format, written once more: (id, mask) pairs."""
    if messages[0]["role"] == "system":
        joined = messages[0]["content"] + "\n\n" + messages[1]["content"]
        messages = [user(joined)] + messages[2:]
    pairs = [(BOS, 0)]
    for message in messages:
        content = message["content"]
        if message["role"] == "user":
            pairs += [(USER, 0)] + [(n, 0) for n in ENC(content)] + [(USER_END, 0)]
            continue
        pairs.append((ASSISTANT, 0))
        for piece in [part("text", content)] if isinstance(content, str) else content:
            words = ENC(piece["text"])
            if piece["type"] == "python":
                pairs += [(PYTHON, 1)] + [(n, 1) for n in words] + [(PYTHON_END, 1)]
            elif piece["type"] == "python_output":
                pairs += [(OUTPUT, 0)] + [(n, 0) for n in words] + [(OUTPUT_END, 0)]
            else:
                pairs += [(n, 1) for n in words]
        pairs.append((ASSISTANT_END, 1))
    return [n for n, _ in pairs], [m for _, m in pairs]


TEXTS = st.text(max_size=12) | st.sampled_from(["<|bos|>", "<|assistant_end|>", "a <|python_start|> b", "hello there"])
CONTENTS = TEXTS | st.lists(st.builds(part, st.sampled_from(PARTS), TEXTS), max_size=4)


@st.composite
def conversations(draw, most=7):
    count = draw(st.integers(1, most))
    turns = [user(draw(TEXTS)) if n % 2 == 0 else assistant(draw(CONTENTS)) for n in range(count)]
    return [system(draw(TEXTS))] * draw(st.booleans()) + turns


# ---- the format


def test_a_conversation_by_hand():
    parts = [part("text", "two"), part("python", "2+2"), part("python_output", "4"), part("text", "four")]
    messages = [system("hello"), user("what is"), assistant(parts), user("two"), assistant("it")]
    ids, mask = render_conversation(TOKENIZER, messages)
    asked, two, sum_, four, out = ENC("hello\n\nwhat is"), ENC("two"), ENC("2+2"), ENC("four"), ENC("4")
    expected = [BOS, USER, *asked, USER_END, ASSISTANT, *two, PYTHON, *sum_, PYTHON_END, OUTPUT, *out, OUTPUT_END]
    expected += [*four, ASSISTANT_END, USER, *two, USER_END, ASSISTANT, *ENC("it"), ASSISTANT_END]
    assert ids == expected
    trained = [0] * (len(asked) + 4) + [1] * (len(two) + 2 + len(sum_)) + [0] * (len(out) + 2)
    trained += [1] * (len(four) + 1) + [0] * (len(two) + 3) + [1] * (len(ENC("it")) + 1)
    assert mask == trained


@given(conversations(), st.integers(1, 60))
def test_every_conversation_is_rendered_as_the_reference_does_and_cut(messages, most):
    before = copy.deepcopy(messages)
    ids, mask = render_conversation(TOKENIZER, messages)
    expected = reference(messages)
    assert (ids, mask) == (expected[0][:2048], expected[1][:2048])
    assert render_conversation(TOKENIZER, messages, most) == (ids[:most], mask[:most])
    assert messages == before
    assert all(type(number) is int for number in ids + mask)


def test_2048_tokens_is_where_a_conversation_ends_unless_told_otherwise():
    messages = [user("ä" * 3000), assistant("yes")]
    assert len(render_conversation(TOKENIZER, messages)[0]) == len(render_conversation(TOKENIZER, messages)[1]) == 2048
    assert len(render_conversation(TOKENIZER, messages, 10**6)[0]) > 6000


@pytest.mark.parametrize("name", ["bos", "user_end", "assistant_start", "assistant_end", "python_start", "output_end"])
def test_the_name_of_a_special_token_stays_text_wherever_someone_writes_it(name):
    text = f"<|{name}|>"
    messages = [system(text), user(text), assistant([part(kind, text) for kind in PARTS])]
    ids, _ = render_conversation(TOKENIZER, messages)
    real = {"bos": 1, "user_end": 1, "assistant_start": 1, "assistant_end": 1, "python_start": 1, "output_end": 1}
    assert ids.count(TOKENIZER.special(text)) == real[name]
    assert TOKENIZER.decode(ids).count(text) == real[name] + 5


def test_a_system_message_is_joined_to_the_first_question_with_a_blank_line():
    messages = [system("Be brief."), user("hello"), assistant("hi")]
    assert without_system(messages) == [user("Be brief.\n\nhello"), assistant("hi")]
    assert without_system(messages[1:]) == messages[1:] and without_system(messages[1:]) is not messages[1:]
    assert render_conversation(TOKENIZER, messages) == render_conversation(TOKENIZER, without_system(messages))


def test_an_answer_in_one_part_is_the_answer_as_text():
    texts = [user("what"), assistant("it is four")], [user("what"), assistant([part("text", "it is four")])]
    assert render_conversation(TOKENIZER, texts[0]) == render_conversation(TOKENIZER, texts[1])


def test_empty_texts_leave_only_the_tokens_around_them():
    ids, mask = render_conversation(TOKENIZER, [user(""), assistant([]), user(""), assistant("")])
    turn = [USER, USER_END, ASSISTANT, ASSISTANT_END]
    assert (ids, mask) == ([BOS, *turn, *turn], [0, 0, 0, 0, 1, 0, 0, 0, 1])


def test_keys_that_the_format_does_not_know_are_let_be():
    messages = [{**user("hello"), "name": "x"}, {**assistant([{**part("text", "hi"), "id": 3}]), "extra": None}]
    assert render_conversation(TOKENIZER, messages) == render_conversation(TOKENIZER, [user("hello"), assistant("hi")])
    assert render_conversation(TOKENIZER, tuple(messages)) == render_conversation(TOKENIZER, messages)


# ---- what is no conversation

U, A = user("hi"), assistant("yes")
WRONG = {
    "nothing": ([], "a list of one message or more"),
    "a text": ("hello", "a list of one message or more"),
    "None": (None, "a list of one message or more"),
    "a number": (3, "a list of one message or more"),
    "an object": ({"role": "user", "content": "x"}, "a list of one message or more"),
    "texts": (["hello"], "message 0 is 'hello', expected"),
    "a list inside": ([U, A, [U]], "message 2 is "),
    "bytes": (b"hi", "message 0 is 104"),
    "no content": ([{"role": "user"}], "message 0 is "),
    "no role": ([U, {"content": "x"}], "message 1 is "),
    "an answer first": ([A], "message 0 is from 'assistant', expected 'user'"),
    "two questions": ([U, U], "message 1 is from 'user', expected 'assistant'"),
    "two answers": ([U, A, A], "message 2 is from 'assistant', expected 'user'"),
    "system later": ([U, system("x")], "message 1 is from 'system', expected 'assistant'"),
    "system last": ([U, A, system("x")], "message 2 is from 'system', expected 'user'"),
    "two systems": ([system("x"), system("y"), U], "message 1 is from 'system', expected 'user'"),
    "system, answer": ([system("x"), A], "message 1 is from 'assistant', expected 'user'"),
    "system alone": ([system("x")], "a system message needs a user message after it"),
    "another role": ([{"role": "tool", "content": "x"}], "message 0 is from 'tool', expected 'user'"),
    "a role of another type": ([{"role": ["user"], "content": "x"}], r"message 0 is from \['user'\]"),
    "content None": ([user(None)], "message 0, from user, has the content None, expected a text"),
    "content a number": ([U, assistant(4)], "message 1, from assistant, has the content 4"),
    "content an object": ([U, assistant({"text": "x"})], "message 1, from assistant, has the content"),
    "parts of the user's": ([user([part("text", "x")])], "message 0, from user, has the content"),
    "parts of the system's": ([system([part("text", "x")]), U], "message 0, from system, has the content"),
    "a part that is a text": ([U, assistant(["x"])], "message 1 has the part 'x'"),
    "a part of another type": ([U, assistant([part("image", "x")])], "message 1 has the part"),
    "a part without text": ([U, assistant([{"type": "text"}])], "message 1 has the part"),
    "a part without type": ([U, assistant([part("text", "x"), {"text": "x"}])], "message 1 has the part"),
    "a part's text None": ([U, assistant([part("python", None)])], "message 1 has the part"),
    "a part's type a list": ([U, assistant([part(["text"], "x")])], "message 1 has the part"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_conversation_is_refused_in_one_sentence(name):
    messages, said = WRONG[name]
    for read in (
        check_messages,
        lambda messages: render_conversation(TOKENIZER, messages),
        lambda messages: render_for_completion(TOKENIZER, messages),
    ):
        with pytest.raises(CourseError, match=said) as caught:
            read(messages)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_what_is_long_is_not_quoted_in_full():
    role = {"role": "x" * 9999, "content": "hi"}
    for messages in ([user(["x" * 9999])], [U, assistant(["x" * 9999])], ["x" * 9999], [role]):
        with pytest.raises(CourseError) as caught:
            check_messages(messages)
        assert len(str(caught.value)) < 300


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["user", "system"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["role", "content", "type", "text", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)
ALMOST = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["user", "assistant", "system"]) | JSON,
        "content": TEXTS | CONTENTS | JSON | st.lists(st.fixed_dictionaries({"type": st.sampled_from(PARTS)}) | JSON),
    }
)


@settings(max_examples=120)
@given(JSON | st.lists(ALMOST, max_size=4))
def test_any_json_is_rendered_or_refused(value):
    value = json.loads(json.dumps(value))
    before = json.dumps(value)
    try:
        check_messages(value)
    except CourseError as error:
        assert "\n" not in str(error)
        for render in (render_conversation, render_for_completion):
            with pytest.raises(CourseError):
                render(TOKENIZER, value)
    else:
        assert render_conversation(TOKENIZER, value) == reference(value)
        assert render_for_completion(TOKENIZER, value)[-1] == ASSISTANT
    assert json.dumps(value) == before


# ---- the prompt for an answer


@given(conversations())
def test_a_prompt_is_the_conversation_up_to_the_answer_that_is_to_be_written(messages):
    before = copy.deepcopy(messages)
    asked = messages[:-1] if messages[-1]["role"] == "assistant" else messages
    assert render_for_completion(TOKENIZER, messages) == reference(asked)[0] + [ASSISTANT]
    assert messages == before


def test_a_prompt_is_where_training_would_put_the_answer():
    messages = [system("be"), user("hello"), assistant("two"), user("what is"), assistant("four")]
    prompt = render_for_completion(TOKENIZER, messages)
    ids, mask = render_conversation(TOKENIZER, messages)
    assert ids[: len(prompt)] == prompt and ids[len(prompt) :] == [*ENC("four"), ASSISTANT_END]
    assert mask[len(prompt) - 1 :] == [0] + [1] * (len(ENC("four")) + 1)


def test_the_oldest_turns_are_forgotten_first_and_the_system_message_never():
    turns = [user("one"), assistant("first"), user("two"), assistant("second"), user("three")]
    for before in ([], [system("be brief")]):
        whole = reference(before + turns)[0] + [ASSISTANT]
        last_two = reference(before + turns[2:])[0] + [ASSISTANT]
        last = reference(before + turns[4:])[0] + [ASSISTANT]
        for room, expected in (
            *((len(whole) + 1, whole), (len(whole), whole), (len(whole) - 1, last_two)),
            *((len(last_two), last_two), (len(last_two) - 1, last), (len(last), last)),
        ):
            given = copy.deepcopy(before + turns)
            assert render_for_completion(TOKENIZER, given, room) == expected
            assert given == before + turns
        with pytest.raises(CourseError, match=f"a prompt of {len(last)} tokens, and there is room for {len(last) - 1}"):
            render_for_completion(TOKENIZER, before + turns, len(last) - 1)


@given(conversations(most=9), st.integers(-1, 80))
def test_a_prompt_is_never_longer_than_allowed_and_forgets_no_more_than_it_must(messages, room):
    asked = messages[:-1] if messages[-1]["role"] == "assistant" else messages
    before = [message for message in asked if message["role"] == "system"]
    turns = asked[len(before) :]
    possible = [reference(before + turns[first:])[0] + [ASSISTANT] for first in range(0, len(turns), 2)]
    fitting = [prompt for prompt in possible if len(prompt) <= room]
    try:
        prompt = render_for_completion(TOKENIZER, messages, room)
    except CourseError as error:
        assert not fitting and "\n" not in str(error) and "send a shorter one" in str(error)
    else:
        assert prompt == fitting[0] and len(prompt) <= room


def test_what_a_long_conversation_costs_grows_with_it_and_not_with_its_square(monkeypatch):
    encode, encoded = TOKENIZER.encode, []
    monkeypatch.setattr(TOKENIZER, "encode", lambda text: encoded.append(text) or encode(text))
    messages = [system("be"), *(user("a") if n % 2 == 0 else assistant("b") for n in range(499))]
    assert len(render_for_completion(TOKENIZER, messages, 60)) <= 60
    assert len(encoded) < 5 * len(messages)


def test_a_long_conversation_is_not_cut_when_no_room_is_given():
    messages = [user("ä" * 5000)]
    assert len(render_for_completion(TOKENIZER, messages)) > 9000
