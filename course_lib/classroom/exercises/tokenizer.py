"""Checks for the exercises of notebook 05."""

import random
from collections import Counter
from collections.abc import Callable
from itertools import accumulate, pairwise

import regex

from course_lib.data.tokenizer import PATTERN, Tokenizer

TEXT = (
    "The tokenizer reads the text, and the text reads like this: tokens, then more tokens. "
    "A banana and a bandana; one café, two cafés. It's the 21st of June 2026.\n"
    "    def text(x):\n        if x:\n            return x\n    token\n    this\n"
)


def _tokenizer() -> Tokenizer:
    return Tokenizer.train([TEXT * 3], 340)


def breaking_text(answer: Callable) -> str:
    """Exercise 5.1."""
    tokenizer = _tokenizer()
    text = answer(tokenizer)
    assert text is not None, "it returns nothing: is there a `return`?"
    assert isinstance(text, str), f"return a text, a str, not {type(text).__name__}"
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text, (
        f"{text!r} does not come back from `decode` either, because UTF-8 cannot express it; find a text that only the "
        "other decoder breaks"
    )
    assert not text.isascii(), (
        f"{text!r} comes back: its characters are ASCII, one byte each, and no token holds a part of a byte"
    )
    assert "".join(tokenizer.decode([token_id]) for token_id in ids) != text, (
        f"{text!r} comes back, although it has characters of several bytes: {_shown(tokenizer, text)}. This tokenizer "
        "has learned them; take one that it has not read"
    )
    return f"Its tokens: {_shown(tokenizer, text)}. A StreamDecoder would wait for the last byte"


def _shown(tokenizer: Tokenizer, text: str) -> str:
    return "|".join(tokenizer.token(n).decode(errors="backslashreplace") for n in tokenizer.encode(text))


def encode_piece(answer: Callable) -> None:
    """Exercise 5.2."""
    tokenizer = _tokenizer()
    ranks = tokenizer.mergeable_ranks
    found = answer(b"z", ranks)
    assert found is not None, "it returns nothing: is there a `return`?"
    assert found != [b"z"], "those are the bytes of the tokens; look up their ids in `ranks`"
    assert found == [122], f"a single byte is its own id: b'z' is [122], you gave {found}"
    tiny = {bytes([byte]): byte for byte in range(256)} | {b"bc": 256, b"ab": 257}
    assert answer(b"abc", tiny) == [97, 256], (
        "in b'abc' with bc learned before ab, the smallest id goes first, not the leftmost pair: a, bc"
    )
    assert answer(b"abab", tiny) == [257, 257], "b'abab' holds ab twice: go on until no two neighbours make a token"
    tiny = {bytes([byte]): byte for byte in range(256)} | {b"aa": 256}
    assert answer(b"aaa", tiny) == [256, 97], "of equal ids the leftmost goes first: b'aaa' is aa, a"
    generator = random.Random(5)
    samples = regex.findall(PATTERN, TEXT) + ["".join(generator.choices("the bandé", k=12)) for _ in range(100)]
    for sample in samples:
        for piece in regex.findall(PATTERN, sample):
            right, found = tokenizer.encode(piece), answer(piece.encode(), ranks)
            assert found == right, f"{piece.encode()} has the ids {right}, you gave {found}"


def bad_cuts(answer: Callable) -> None:
    """Exercise 5.3."""
    tokenizer = _tokenizer()
    found = answer(tokenizer, "the text")
    assert found is not None, "it returns nothing: is there a `return`?"
    assert isinstance(found, list), f"return a list, not {type(found).__name__}"
    assert 0 not in found and 8 not in found, "the ends of a text are no cuts: go from 1 to len(text) - 1"
    assert 3 not in found, "'the' and ' text' are two pieces: the cut at 3, before the space, changes nothing"
    assert 4 in found, "'the ' and 'text': the space is no longer with its word, so 4 is a bad cut"
    for text, right in (("x  1", [3]), ("a   7", [2, 4])):
        whole = tokenizer.encode(text)
        inside = [n for n in range(1, len(text)) if n not in _borders(tokenizer, text)]
        found = answer(tokenizer, text)
        assert found != inside or found == right, (
            f"for {text!r} the bad cuts are {right}, you gave {found}: a cut between two tokens can be bad too, "
            f"because the halves are cut into other pieces: {text[: right[-1]]!r} ends in spaces that nothing follows"
        )
        assert found == right, f"for {text!r}, with the ids {whole}, the bad cuts are {right}, you gave {found}"
    for text in ("the tokens, the text", "It's 2026.", "cafés 🙂", "the owner", "of any kind", "a", ""):
        whole = tokenizer.encode(text)
        right = [n for n in range(1, len(text)) if tokenizer.encode(text[:n]) + tokenizer.encode(text[n:]) != whole]
        found = answer(tokenizer, text)
        assert found == right, f"for {text!r} the bad cuts are {right}, you gave {found}"


def _borders(tokenizer: Tokenizer, text: str) -> set[int]:
    """The places between two tokens of the text, which must be ASCII."""
    lengths = [len(tokenizer.token(token_id)) for token_id in tokenizer.encode(text)]
    return set(accumulate(lengths))


def merge_piece(answer: Callable) -> None:
    """Exercise 5.4."""
    result = answer([1, 2, 3], (1, 2), 9)
    assert result is not None, "it returns nothing: is there a `return`?"
    assert isinstance(result, tuple) and len(result) == 2, "return two things: the merged ids and the changes"
    ids, changes = result
    assert list(ids) == [9, 3], f"[1, 2, 3] with (1, 2) merged to 9 is [9, 3], you gave {ids}"
    assert changes.get((1, 2)) == -1, "the merged pair is gone: (1, 2) has the change -1"
    assert changes.get((2, 3)) == -1 and changes.get((9, 3)) == 1, "the neighbours change too: (2, 3) -1, (9, 3) +1"
    generator = random.Random(0)
    for _ in range(300):
        ids = generator.choices((1, 2, 3), k=generator.randint(0, 12))
        pair, before = tuple(generator.choices((1, 2, 3), k=2)), Counter(pairwise(ids))
        given = list(ids)
        merged, changes = answer(ids, pair, 9)
        assert ids == given, "leave the list that you are given as it is"
        right = []
        for token_id in ids:
            if right and (right[-1], token_id) == pair:
                right[-1] = 9
            else:
                right.append(token_id)
        assert list(merged) == right, f"{given} with {pair} merged is {right}, you gave {merged}"
        assert 0 not in changes.values(), f"{given}, {pair}: leave out the pairs whose count does not change"
        after = Counter(pairwise(right))
        expected = {p: after[p] - before[p] for p in before | after if after[p] != before[p]}
        assert dict(changes) == expected, f"{given} with {pair} merged changes {expected}, you gave {dict(changes)}"
