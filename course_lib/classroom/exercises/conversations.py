"""Checks for the exercises of notebook 13."""

from functools import cache

from course_lib.chat.conversation import render_conversation
from course_lib.data.tokenizer import Tokenizer

CHAT = [
    {"role": "user", "content": "What is your name?"},
    {"role": "assistant", "content": "My name is Wren."},
    {"role": "user", "content": "How much is 12 + 30?"},
    {
        "role": "assistant",
        "content": [
            {"type": "python", "text": "12+30"},
            {"type": "python_output", "text": "42"},
            {"type": "text", "text": "It is 42."},
        ],
    },
]
TEXTS = [
    "My name is Wren.<|assistant_end|>",
    "<|python_start|>12+30<|python_end|>",
    "It is 42.<|assistant_end|>",
]


@cache
def _tokenizer() -> Tokenizer:
    return Tokenizer.train(["My name is Wren. What is your name? How much is it?"], 300, allow_smaller=True)


def trained_texts(answer) -> None:
    """Exercise 13.1."""
    tokenizer = _tokenizer()
    found = answer(tokenizer, *render_conversation(tokenizer, CHAT))
    assert found is not None, "nothing came back: the function needs a return"
    found = list(found)
    joined = "".join(TEXTS)
    assert found != [joined], "that is everything in one text; begin a new one after each token with the mask 0"
    assert found == TEXTS, f"the trained texts are {TEXTS}, not {found}"
    question = render_conversation(tokenizer, CHAT[:1])
    assert list(answer(tokenizer, *question)) == [], "a question alone trains nothing: []"


def last_answer_mask(answer) -> None:
    """Exercise 13.2."""
    tokenizer = _tokenizer()
    ids, mask = render_conversation(tokenizer, CHAT)
    given = list(mask)
    found = answer(tokenizer, ids, mask)
    assert found is not None, "nothing came back: the function needs a return"
    found = list(found)
    assert mask == given, "leave the mask that you are given as it is"
    assert len(found) == len(mask), f"a mask for {len(ids)} ids has {len(ids)} numbers, not {len(found)}"
    start = len(ids) - 1 - ids[::-1].index(tokenizer.special("<|assistant_start|>"))
    assert not any(found[:start]), "something before the last <|assistant_start|> is still trained"
    assert found[start:] != [0] + [1] * (len(ids) - start - 1), "the tool's output inside the last answer must stay 0"
    assert found[start:] == mask[start:], "within the last answer the mask stays as it was"
    ids, mask = render_conversation(tokenizer, CHAT[:1])
    assert list(answer(tokenizer, ids, mask)) == mask, "without an answer the mask stays all 0"


def best_fit(answer) -> None:
    """Exercise 13.3."""
    lengths = [5, 7, 3, 2, 4, 6, 3]
    rows = answer(lengths, 10)
    assert rows is not None, "nothing came back: the function needs a return"
    rows = [sorted(row) for row in rows]
    assert sorted(n for row in rows for n in row) == list(range(7)), "each index belongs to exactly one row"
    for row in rows:
        total = sum(lengths[n] for n in row)
        assert total <= 10, f"the row {row} holds {total}, and there is room for 10"
    assert len(rows) == 3, f"30 tokens fit into 3 rows of 10; you need {len(rows)}"
    # 6, then 5 and 4 ... : the fullest row with room, not the first one
    rows = sorted(sorted(row) for row in answer([6, 5, 4, 5], 10))
    assert rows == [[0, 2], [1, 3]], f"lengths 6, 5, 4, 5 make the rows [[0, 2], [1, 3]], not {rows}"
    rows = sorted(sorted(row) for row in answer([5, 7, 3, 2], 10))
    assert rows == [[0, 3], [1, 2]], f"lengths 5, 7, 3, 2: 3 goes to 7, the fullest row with room; you have {rows}"
    assert list(answer([], 10)) == [], "no conversations need no rows: []"
