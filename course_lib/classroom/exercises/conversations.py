"""Checks for the exercises of notebook 13."""

from functools import cache

import numpy as np

from course_lib.chat.rendering import render_conversation
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


def _texts(found) -> list:
    """What came back as a list; AssertionError when nothing did."""
    assert found is not None, "nothing came back: the function needs a return"
    return list(found)


def trained_texts(answer) -> None:
    """Exercise 13.1."""
    tokenizer = _tokenizer()
    ids, mask = render_conversation(tokenizer, CHAT)
    given = list(ids), list(mask)
    found = _texts(answer(tokenizer, ids, mask))
    assert (ids, mask) == given, "leave the ids and the mask that you are given as they are"
    joined = "".join(TEXTS)
    assert found != [joined], "that is everything in one text; begin a new one after each token with the mask 0"
    assert all(isinstance(text, str) for text in found), "return texts: tokenizer.decode(ids) makes one of ids"
    assert found != [text.removesuffix("<|assistant_end|>") for text in TEXTS], (
        "<|assistant_end|> has the mask 1, so it belongs to the text"
    )
    halves = [TEXTS[0], TEXTS[1] + TEXTS[2]]
    assert found != halves, "the tool's output has the mask 0 and lies between: two texts, not one"
    assert found != TEXTS[:-1], "the last text is missing: a run may end with the row"
    assert found == TEXTS, f"the trained texts are {TEXTS}, not {found}"
    question = render_conversation(tokenizer, CHAT[:1])
    assert _texts(answer(tokenizer, *question)) == [], "a question alone trains nothing: []"
    start = mask.index(1)
    assert _texts(answer(tokenizer, ids[start:], mask[start:])) == TEXTS, "the row may begin within an answer"


def last_answer_mask(answer) -> None:
    """Exercise 13.2."""
    tokenizer = _tokenizer()
    ids, mask = render_conversation(tokenizer, CHAT)
    given = list(ids), list(mask)
    found = [int(each) for each in _texts(answer(tokenizer, ids, mask))]
    assert (ids, mask) == given, "leave the mask that you are given as it is"
    assert len(found) == len(mask), f"a mask for {len(ids)} ids has {len(ids)} numbers, not {len(found)}"
    start = len(ids) - 1 - ids[::-1].index(tokenizer.special("<|assistant_start|>"))
    assert not any(found[:start]), "something before the last <|assistant_start|> is still trained"
    assert not found[start], "<|assistant_start|> itself is never trained: the program puts it there"
    assert any(found), "nothing is trained any more"
    assert found[start:] != [0] + [1] * (len(ids) - start - 1), "the tool's output inside the last answer must stay 0"
    first = start + 1
    assert found[first] == 1, "the last answer begins with its call of the tool: a tool's output does not split it"
    assert found[-1] == 1, "<|assistant_end|> of the last answer is trained"
    assert found[start:] == mask[start:], "within the last answer the mask stays as it was"
    ids, mask = render_conversation(tokenizer, CHAT[:1])
    assert _texts(answer(tokenizer, ids, mask)) == mask, "without an answer the mask stays all 0"
    ids, mask = render_conversation(tokenizer, [*CHAT, CHAT[0]])  # a last question without its answer
    found = [int(each) for each in _texts(answer(tokenizer, ids, mask))]
    start = len(ids) - 1 - ids[::-1].index(tokenizer.special("<|assistant_start|>"))
    assert found == [0] * start + mask[start:], "after a last question, the last answer is still the one before it"


def own_conversation(answer) -> None:
    """Exercise 13.3."""
    ids = [9, 1, 2, 9, 3, 9, 4, 5]
    given, size = list(ids), len(ids)
    found = answer(ids, 9)
    assert found is not None, "nothing came back: the function needs a return"
    found = np.array(found)
    assert ids == given, "leave the ids that you are given as they are"
    assert found.shape == (size, size), f"the array has a row and a column for each of {size} ids, not {found.shape}"
    assert set(np.unique(found)) <= {0, 1}, "True and False, not numbers to add to scores"
    found = found.astype(bool)
    later, own = np.triu(np.ones((size, size), bool), 1), np.cumsum(np.array(ids) == 9)
    right = (own[:, None] == own[None, :]) & ~later
    assert not (found.T == right).all() or (found == right).all(), "rows are who looks, columns what is seen: transpose"
    assert not (found == ~right).all(), "True means that a position may be seen"
    assert not (found & later).any(), "position 0 sees position 1, which is later"
    assert found.diagonal().all(), "each position sees itself"
    assert not found[4, 2], "position 4 sees position 2, of the conversation before its own"
    assert found[3, 3] and not found[3, 2], "bos belongs to the conversation that it begins, not to the one before"
    assert found[7, 5], "position 7 does not see the bos of its own conversation, position 5"
    assert (found == right).all(), "position 7 should see 5, 6 and 7, and position 2 should see 0, 1 and 2"
    begun = np.array(answer([1, 2, 9, 3], 9)).astype(bool)  # a row that begins in the middle of a conversation
    assert begun[1, 0], "before the first bos there is the rest of a conversation: its positions see each other"
    assert not begun[3, 1] and begun[3, 2], "the first bos of a row begins a new conversation as well"
    same = np.array(answer([9, 5, 9, 5], 9)).astype(bool)
    assert not same[3, 1], "equal ids in two conversations are not one conversation"
