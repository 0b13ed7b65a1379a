"""Conversations from files and from the hub: bad rows are named, and every one comes once in an epoch."""

import gzip
import io
import json
import random
import time
from collections import Counter

import huggingface_hub.constants as hub_constants
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hub import Hub
from hypothesis import given
from hypothesis import strategies as st

from course_lib.chat.files import read_conversations
from course_lib.chat.lessons import practice
from course_lib.chat.messages import check_messages
from course_lib.chat.rendering import render_conversation
from course_lib.chat.sources import (
    FROM_HUB,
    arc_messages,
    gsm8k_messages,
    is_held_out,
    mixed,
    mmlu_messages,
    multiple_choice_messages,
    open_conversations,
    shuffled,
)
from course_lib.data.tokenizer import Tokenizer
from course_lib.host.errors import CourseError


def talk(number=0):
    return [{"role": "user", "content": f"say {number}"}, {"role": "assistant", "content": str(number)}]


def read(path):
    return read_conversations(path)


def write(path, talks, ending="\n"):
    path.write_bytes(ending.join(json.dumps({"messages": messages}) for messages in talks).encode())
    return path


# ---- files


def test_a_file_of_json_lines_is_read_as_it_is(tmp_path):
    parts = [{"type": "python", "text": "1+1"}, {"type": "python_output", "text": "2"}, {"type": "text", "text": "2"}]
    talks = [
        talk(1),
        [{"role": "system", "content": "kurz"}, *talk(2), {"role": "user", "content": "and?"}],
        [{"role": "user", "content": "ä\u2028é 😀"}, {"role": "assistant", "content": parts}],
    ]
    assert read(write(tmp_path / "a.jsonl", talks)) == talks
    path = tmp_path / "b.jsonl"
    path.write_text("\n".join(json.dumps({"messages": each}, ensure_ascii=False) for each in talks), encoding="utf-8")
    assert read(path) == talks, "a line separator within a text ends no line"


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\n\n", "\r\n \t\r\n"])
@pytest.mark.parametrize("begin", ["", "\ufeff"], ids=["", "BOM"])
def test_line_ends_blank_lines_and_byte_order_marks_of_other_systems(tmp_path, ending, begin):
    path = write(tmp_path / "a.jsonl", [talk(1), talk(2)], ending)
    path.write_bytes(begin.encode() + path.read_bytes() + ending.encode() * 2)
    assert read(path) == [talk(1), talk(2)]


BAD = {
    "{": "it is no JSON (Expecting property name",
    '{"messages": [],}': "it is no JSON (",
    "3": "it is 3, expected {",
    '"messages"': 'it is "messages", expected {',
    "null": "it is null, expected {",
    "{}": "it has nothing, expected {",
    '{"message": [], "id": 3}': 'it has "message", "id", expected {',
    '{"prompt": "x"}': 'it has "prompt", expected {',
    "[" * 100_000: "it is no JSON (",
    "1" * 5000: "it is no JSON (",
    "[]": "a list of one message or more",
    "[[]]": "message 0 is [], expected",
    '{"messages": []}': "a list of one message or more",
    '{"messages": "hello"}': "a list of one message or more",
    '{"conversations": null, "system": "x"}': "a list of one message or more",
    '{"conversations": [{"from": "human", "value": null}]}': "message 0 is {'from': 'human', 'value': None}",
    '{"conversations": [{"from": 3, "value": "x"}]}': "message 0 is {'from': 3",
    '{"conversations": [{"from": "tool", "value": "x"}]}': "message 0 is from 'tool'",
    '{"prompt": 3, "completion": "x"}': "message 0, from user, has the content 3",
    '{"prompt": null, "completion": "x"}': "message 0, from user, has the content None",
    '{"instruction": "x", "input": ["y"], "output": "z"}': "message 0 is 'y'",
    json.dumps({"messages": talk()[1:]}): "message 0 is from 'assistant'",
    json.dumps({"messages": talk()[:1]}): "nothing to learn from",
    json.dumps({"messages": [{"role": "system", "content": "x"}, *talk()[:1]]}): "nothing to learn from",
    json.dumps({"messages": [{"role": "user", "content": 3}]}): "has the content 3",
}


@pytest.mark.parametrize("line", BAD, ids=lambda line: line[:50])
def test_a_bad_row_is_named_by_its_number_with_what_was_found(tmp_path, line):
    path = tmp_path / "a.jsonl"
    path.write_text("\n\n".join([json.dumps({"messages": talk()}), line, json.dumps({"messages": talk()})]))
    with pytest.raises(CourseError) as caught:
        read(path)
    said = str(caught.value)
    assert said.startswith(f"{path} has 1 row of 3 that cannot be trained on: line 3: ") and BAD[line] in said
    assert "\n" not in said and said.endswith("; correct them, or leave them out") and len(said) < 600


def test_equal_mistakes_are_counted_and_the_first_of_each_is_shown(tmp_path):
    good = json.dumps({"messages": talk()})
    swapped = [json.dumps({"conversations": [{"from": "gpt", "value": f"{n}"}]}) for n in range(3)]
    rows = [good, "{", *(f'{{"text": "{n}", "n{n}": 1}}' for n in range(5000)), *swapped, "{oops", "null", good]
    (tmp_path / "a.jsonl").write_text("\n".join(rows))
    with pytest.raises(CourseError) as caught:
        read(tmp_path / "a.jsonl")
    said = str(caught.value)
    assert "has 5,006 rows of 5,008 that cannot be trained on: 2 rows like line 2: it is no JSON" in said
    assert '; 5,001 rows like line 3: it has "text", "n0", expected {"messages"' in said
    assert "; 3 rows like line 5003: message 0 is from 'assistant', expected 'user'" in said and said.count("like") == 3


def test_a_file_that_is_empty_missing_or_no_text_is_one_sentence(tmp_path):
    path = tmp_path / "a.jsonl"
    packed = gzip.compress(json.dumps({"messages": talk()}).encode() * 1000)
    damaged = bytearray(packed)
    damaged[20] ^= 255
    for content, said in {
        b"": "has no conversation",
        b"\n \r\n": "has no conversation",
        b"[\n]": "has no conversation",
        b"\xff\xfe{": "it is no text",
        b"prompt,completion\na,b\nc,d\n": "has no row of JSON .line 1: it is no JSON .*; give it rows such as",
        b"PAR1\x15\n\xff\n": "has no row of JSON .line 1: .*; give it rows such as",
        json.dumps({"messages": talk()}).encode("utf-16"): "it is no text",
        b'[\n{"messages": [],}\n]': "begins as one JSON array, but it is no JSON .*line 2",
        packed[:-9]: "cannot read",
        bytes(damaged): "cannot read",
    }.items():
        path.write_bytes(content)
        with pytest.raises(CourseError, match=said) as caught:
            read(path)
        assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    for wrong in (tmp_path / "no.jsonl", tmp_path):
        with pytest.raises(CourseError, match="cannot read"):
            read(wrong)


@given(st.lists(st.text(max_size=30) | st.sampled_from(list(BAD)[:6]) | st.just(json.dumps({"messages": talk()}))))
def test_any_text_is_conversations_or_a_course_error(tmp_path_factory, lines):
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8", errors="replace")
    try:
        found = read(path)
    except CourseError as error:
        assert str(path) in str(error)
    else:
        assert found and all(messages == talk() for messages in found)


# ---- forms of other people's files


CHAT = [
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": "ä?"},
    {"role": "assistant", "content": "ö"},
]
TURNS = [{"from": name, "value": each["content"]} for name, each in zip(("System", "human", "gpt"), CHAT, strict=True)]
FORMS = {
    "messages": ({"messages": CHAT, "id": 3}, CHAT),
    "messages ": ({"messages": [{**each, "role": each["role"].upper(), "weight": 1} for each in CHAT]}, CHAT),
    "nanochat's form": (CHAT, CHAT),
    "ShareGPT": ({"conversations": TURNS}, CHAT),
    "ShareGPT ": ({"conversations": TURNS[1:], "system": "be brief"}, CHAT),
    "ShareGPT  ": (
        {"conversations": [{**TURNS[0], "value": ""}, {**TURNS[1], "from": "prompter"}, TURNS[2]]},
        CHAT[1:],
    ),
    "prompt and completion": ({"prompt": "ä?", "completion": "ö"}, CHAT[1:]),
    "prompt and completion ": ({"prompt": CHAT[:2], "completion": CHAT[2:]}, CHAT),
    "Alpaca": ({"instruction": "ä?", "input": "", "output": "ö", "text": "x"}, CHAT[1:]),
    "Alpaca ": ({"instruction": "ä?", "output": "ö", "system": "be brief"}, CHAT),
    "Alpaca  ": ({"instruction": "a", "input": "b", "output": "ö"}, [{"role": "user", "content": "a\n\nb"}, CHAT[2]]),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("layout", ["lines", "array", "pretty array", "packed lines"])
def test_the_forms_in_which_people_keep_conversations_are_read_and_named(tmp_path, capsys, form, layout):
    row, messages = FORMS[form]
    content = {
        "lines": "\ufeff" + "\r\n".join([json.dumps(row, ensure_ascii=False)] * 3),
        "array": json.dumps([row] * 3),
        "pretty array": "\n" + json.dumps([row] * 3, indent=2, ensure_ascii=False),
        "packed lines": "\n\n".join([json.dumps(row)] * 3),
    }[layout].encode()
    path = tmp_path / "a.json"
    path.write_bytes(gzip.compress(content) if layout.startswith("packed") else content)
    assert read(path) == [messages] * 3
    assert capsys.readouterr().out == f"a.json: 3 rows of {form.strip()}\n"


def test_rows_of_several_forms_are_counted_each(tmp_path, capsys):
    rows = [row for row, _ in FORMS.values()]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert read(tmp_path / "a.jsonl") == [messages for _, messages in FORMS.values()]
    said = "a.jsonl: 2 rows of messages, 1 row of nanochat's form, 3 rows of ShareGPT, 2 rows of prompt and completion"
    assert capsys.readouterr().out == f"{said}, 3 rows of Alpaca\n"


def test_a_file_is_read_once_for_both_sides_in_time_that_grows_with_it(tmp_path, capsys):
    def seconds(count):
        path = write(tmp_path / f"{count}.jsonl", [talk(n) for n in range(count)])
        before = time.process_time()
        assert sum(open_conversations(str(path), split)[1] for split in ("train", "val")) == count
        return time.process_time() - before

    few, many = (min(seconds(count), seconds(count + 1)) for count in (2000, 20_000))
    assert many < 30 * few, "ten times the rows"
    assert capsys.readouterr().out.count("\n") == 4


# ---- rows of the hub


def test_the_sums_of_gsm8k_become_calls_of_the_calculator():
    row = {
        "question": "Tom has 3 bags of 4 eggs and eats 2. How many are left?",
        "answer": "He has 3*4=<<3*4=12>>12 eggs.\nThen 12-2=<<12-2=10>>10 are left.\n#### 10",
    }
    question, answer = gsm8k_messages(row)
    assert question == {"role": "user", "content": row["question"]} and answer["role"] == "assistant"
    assert [(part["type"], part["text"]) for part in answer["content"]] == [
        *(("text", "He has 3*4="), ("python", "3*4"), ("python_output", "12"), ("text", "12 eggs.\nThen 12-2=")),
        *(("python", "12-2"), ("python_output", "10"), ("text", "10 are left.\n#### 10")),
    ]
    check_messages([question, answer])


@pytest.mark.parametrize(
    "answer, parts",
    [
        ("no sum\n#### 4", [("text", "no sum\n#### 4")]),
        ("<<1+1>>2", [("text", ""), ("python", "1+1"), ("python_output", ""), ("text", "2")]),
        ("<<1=1=1>>", [("text", ""), ("python", "1=1"), ("python_output", "1"), ("text", "")]),
        ("", [("text", "")]),
    ],
)
def test_answers_of_gsm8k_that_are_not_like_the_others(answer, parts):
    messages = gsm8k_messages({"question": "?", "answer": answer})
    check_messages(messages)
    assert [(part["type"], part["text"]) for part in messages[1]["content"]] == parts


def test_questions_with_options_are_asked_as_nanochat_does():
    asked = "Multiple Choice question: Which is red?\n- a sky=A\n- blood=B\n\n"
    asked += "Respond only with the letter of the correct answer."
    expected = [{"role": "user", "content": asked}, {"role": "assistant", "content": "B"}]
    assert multiple_choice_messages("Which is red?", "AB", ["a sky", "blood"], "B") == expected
    choices = {"text": ["a sky", "blood"], "label": ["A", "B"]}
    assert arc_messages({"question": "Which is red?", "choices": choices, "answerKey": "B"}) == expected
    numbered = arc_messages({"question": "?", "choices": {**choices, "label": ["1", "2"]}, "answerKey": "2"})
    assert "- blood=2\n" in numbered[0]["content"] and numbered[1]["content"] == "2"
    mmlu = mmlu_messages({"question": "?", "subject": "x", "choices": ["w", "x", "y", "z"], "answer": 2})
    assert mmlu[1]["content"] == "C" and "- w=A\n- x=B\n- y=C\n- z=D\n" in mmlu[0]["content"]


def test_the_letter_behind_an_option_is_the_token_that_answers():
    tokenizer = Tokenizer.train(["Which is red? sky=A blood=B " * 20], 300, allow_smaller=True)
    messages = multiple_choice_messages("Which?", "AB", ["a sky", "blood"], "B")
    ids, mask = render_conversation(tokenizer, messages)
    assert [n for n, trained in zip(ids, mask, strict=True) if trained] == [
        *tokenizer.encode("B"),
        tokenizer.special("<|assistant_end|>"),
    ]
    assert tokenizer.decode(ids).count("=B\n") == 1


def parquet(records):
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(records), buffer)
    return buffer.getvalue()


def test_what_the_hub_has_becomes_conversations_one_side_to_train_and_another_to_validate(monkeypatch, home):
    sums = [{"question": f"{n}+1?", "answer": f"<<{n}+1={n + 1}>>{n + 1}"} for n in range(9)]
    talks = [{"messages": talk(n), "source": "x"} for n in range(5)]
    arc = [{"question": "?", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "B"}] * 4
    mmlu = [{"question": "?", "subject": "s", "choices": list("wxyz"), "answer": n} for n in range(4)]
    files = {f"main/{split}-00000-of-00001.parquet": parquet(sums[:n]) for split, n in (("train", 9), ("test", 3))}
    files |= {f"data/train-{n:05d}-of-00004.parquet": parquet(talks) for n in range(4)}
    files |= {"data/test-00000-of-00001.parquet": parquet(talks[:2])}
    for name in ("ARC-Easy", "ARC-Challenge"):
        files |= {f"{name}/{split}-00000-of-00001.parquet": parquet(arc) for split in ("train", "test")}
    files |= {f"all/{split}-00000-of-00001.parquet": parquet(mmlu) for split in ("auxiliary_train", "test")}
    with Hub(files) as hub:
        monkeypatch.setattr(hub_constants, "ENDPOINT", hub.url)
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(hub_constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        sizes = {"gsm8k": (9, 3), "smoltalk": (20, 2), "arc-easy": (4, 4), "arc-challenge": (4, 4), "mmlu": (4, 4)}
        assert set(sizes) == set(FROM_HUB)
        for name, expected in sizes.items():
            opened = [open_conversations(name, split) for split in ("train", "val")]
            assert tuple(size for _, size in opened) == expected
            for conversations, size in opened:
                for number in range(size):
                    check_messages(conversations(number))
        conversations, _ = open_conversations("gsm8k", "train")
        assert sorted(map(str, map(conversations, range(9)))) == sorted(str(gsm8k_messages(row)) for row in sums)
        conversations, _ = open_conversations("smoltalk", "val")
        assert sorted(map(str, map(conversations, range(2)))) == [str(talk(0)), str(talk(1))]


# ---- orders


@given(st.integers(1, 40), st.integers(0, 4))
def test_an_epoch_visits_every_item_once(size, epoch):
    conversation = shuffled(range(size), str)
    seen = [conversation(number) for number in range(epoch * size, (epoch + 1) * size)]
    assert sorted(seen) == sorted(map(str, range(size)))


def test_orders_differ_and_do_not_depend_on_what_was_asked_before():
    items = list(range(50))
    conversation = shuffled(items)
    sequential = [conversation(number) for number in range(250)]
    epochs = [tuple(sequential[n : n + 50]) for n in range(0, 250, 50)]
    assert len(set(epochs)) == 5 and items not in map(list, epochs)
    numbers = random.Random(3).sample(range(250), 250)
    another = shuffled(items)
    assert {number: another(number) for number in numbers} == dict(enumerate(sequential))


def test_sources_are_mixed_in_proportion_and_a_number_always_gives_the_same():
    def source(name, size):
        return (lambda number: (name, number)), size

    three = [source("a", 100), source("b", 300), source("c", 600)]
    conversation = mixed(three)
    seen = [conversation(number) for number in range(3000)]
    names = Counter(name for name, _ in seen)
    for name, size in (("a", 100), ("b", 300), ("c", 600)):
        assert names[name] == pytest.approx(3 * size, rel=0.15)
    assert [mixed(three)(number) for number in (2999, 0, 17)] == [seen[number] for number in (2999, 0, 17)]
    for name, size in (("a", 100), ("b", 300), ("c", 600)):  # each once an epoch
        for epoch in range(3):
            places = [number for each, number in seen[1000 * epoch : 1000 * (epoch + 1)] if each == name]
            assert sorted(places) == list(range(epoch * size, (epoch + 1) * size))
            assert places != sorted(places)
    endless = mixed([source("a", None), source("b", 100_000)])
    names = Counter(endless(number)[0] for number in range(2000))
    assert names["a"] == pytest.approx(1000, abs=100)


def test_one_source_alone_is_read_in_its_own_order():
    conversation = mixed([((lambda number: number), None)])
    assert [conversation(number) for number in range(5)] == list(range(5))


# ---- two sides


def test_practice_is_the_lessons_and_validates_on_their_tests():
    train, val = open_conversations("practice", "train"), open_conversations("practice", "val")
    assert train[1] is None and val[1] is None
    for number in (0, 3, 100_000):
        assert train[0](number) == practice(number, split="train")
        assert val[0](number) == practice(number, split="test")


def as_text(messages):
    return json.dumps(messages, sort_keys=True)


def sides(path):
    found = []
    for split in ("train", "val"):
        conversations, size = open_conversations(str(path), split)
        found.append([as_text(conversations(number)) for number in range(size)])
    return found


def test_one_in_twenty_conversations_of_a_file_validates_and_is_not_trained(tmp_path):
    talks = [talk(n) for n in range(1000)]
    train, val = sides(write(tmp_path / "a.jsonl", talks))
    assert not set(train) & set(val) and sorted(train + val) == sorted(map(as_text, talks))
    assert 25 <= len(val) <= 80 and len(val) == sum(is_held_out(as_text(each)) for each in talks)
    random.Random(1).shuffle(talks)
    again = sides(write(tmp_path / "b.jsonl", talks + talks[:100]))
    assert set(again[1]) == set(val) and set(again[0]) == set(train), "the same ones in any order, doubles on one side"


@pytest.mark.parametrize("size", [2, 3, 5, 12])
def test_a_small_file_has_two_sides_too(tmp_path, size):
    for seed in range(5):
        talks = [talk(100 * seed + n) for n in range(size)]
        train, val = sides(write(tmp_path / f"{seed}.jsonl", talks))
        assert train and val and set(train + val) == set(map(as_text, talks))
        assert not set(train) & set(val), "what validates was not trained"


def test_one_conversation_alone_is_trained_and_validates(tmp_path):
    assert sides(write(tmp_path / "a.jsonl", [talk(1)])) == [[as_text(talk(1))]] * 2


def test_a_file_is_found_from_home_and_a_bad_one_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "mine.jsonl", [talk(n) for n in range(30)])
    assert open_conversations("~/mine.jsonl", "train")[1] > 20
    write(tmp_path / "bad.jsonl", [[]])
    with pytest.raises(CourseError, match="line 1"):
        open_conversations("~/bad.jsonl", "train")


@pytest.mark.parametrize("name", ["", "alpaca", "no/such.jsonl", "Practice", "/", "~nobody-here/x.jsonl"])
def test_conversations_that_there_are_not_are_refused(name):
    with pytest.raises(
        CourseError, match="there are no conversations .*expected practice, smoltalk|home folder"
    ) as caught:
        open_conversations(name, "train")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            json.dumps({"messages": talk("x" * 3000)}).encode(),
            "line 1: over 2,000 characters, too long for one document",
        ),
        (gzip.compress((json.dumps({"messages": talk()}) + "\n").encode() * 5000), "unpacks to more than 100 times"),
        (gzip.compress(b"[" + (json.dumps(talk()) + ",\n").encode() * 5000 + b"[]]"), "unpacks to more than 100 times"),
    ],
    ids=["a line", "many packed lines", "a packed array"],
)
def test_what_could_fill_the_memory_is_refused(tmp_path, monkeypatch, content, said):
    monkeypatch.setenv("COURSE_MAX_CHARS", "2000")
    path = tmp_path / "data.jsonl"
    path.write_bytes(content)
    with pytest.raises(CourseError, match=said) as caught:
        read_conversations(path)
    assert "COURSE_MAX_CHARS" in str(caught.value) and "\n" not in str(caught.value)
