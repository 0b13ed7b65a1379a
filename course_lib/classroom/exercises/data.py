"""Checks for the exercises of notebook 06."""

import builtins
import random
import time
import zlib
from collections.abc import Callable
from itertools import accumulate
from unittest.mock import patch

import numpy as np


def rows(answer) -> None:
    """Exercise 6.1."""
    documents = [[1, 2], [3, 4, 5, 6], [7, 8, 9, 10, 11]]
    given = [list(document) for document in documents]
    found = answer(documents, 0, 2, 5)
    assert documents == given, "leave the documents that you are given as they are; build a new list"
    assert found is not None and len(found) == 2, "return two things: inputs and targets"
    assert all(np.ndim(row) == 1 for part in found for row in part), f"return two lists of rows, not {found}"
    inputs, targets = ([list(map(int, row)) for row in part] for part in found)
    _inputs_are([[0, 1, 2, 0, 3], [4, 5, 6, 0, 7]], inputs)
    assert targets != inputs, "the targets are the inputs themselves; they should be the stream one token later"
    assert [row[:-1] for row in targets] == [[1, 2, 0, 3], [5, 6, 0, 7]], (
        f"the targets are the stream one token later: row 0 begins 1, 2, 0, 3, not {targets[0][:4]}"
    )
    assert targets[0][-1:] == [4], (
        f"the last target of row 0 is the first input of row 1, which is 4, not the end of {targets[0]}. Shift the "
        "stream, not each row"
    )
    assert targets[1][-1:] == [8], (
        f"the last target of the batch is the token after its last input, which is 8; yours ends in {targets[1]}"
    )
    assert answer([[7]], 0, 1, 1)[1] == [[7]], "two ids are enough for one input and its target"
    for B, T in ((7, 2), (2, 7), (3, 5)):
        try:
            answer(documents, 0, B, T)
        except ValueError:
            continue
        raise AssertionError(
            f"the stream has 14 ids, too few for B={B}, T={T}: {B * T} inputs and one target more. Raise a ValueError"
        )


def _inputs_are(expected: list[list[int]], inputs: list[list[int]]) -> None:
    """Fails with the likely cause when the inputs are others."""
    if inputs == expected:
        return
    flat, first = [token for row in inputs for token in row], expected[0]
    if 0 not in flat:
        why = "bos stands nowhere; put it before each document"
    elif flat.count(0) == 1 and flat[0] == 0:
        why = "bos stands only at the start; put it before each document"
    elif flat[:1] != [0]:
        why = "the stream begins with bos, which stands before each document and not after it"
    elif flat[:10] == [token for row in expected for token in row]:
        why = f"the ids are right, but there should be B=2 rows of T=5, not {len(inputs)} of {len(inputs[0])}"
    elif inputs[:1] == [first]:
        why = "row 1 should begin with the token after the last input of row 0"
    else:
        why = "do not begin a row with each document: cut one flat stream"
    raise AssertionError(f"B=2 and T=5 make the inputs {expected}, not {inputs}: {why}")


def held_out(answer) -> None:
    """Exercise 6.2."""
    generator = random.Random(0)
    texts = ["".join(generator.choices("abcdefgh ", k=generator.randint(20, 60))) for _ in range(4000)]
    chosen = answer(list(texts), 10)
    assert isinstance(chosen, set), f"return a set of texts, not {type(chosen).__name__}"
    assert chosen <= set(texts), "hold out texts that you were given, unchanged"
    share = len(chosen) / len(set(texts))
    assert 0.07 < share < 0.13, f"one in 10 should be held out, about 10 %, not {share:.0%}"
    assert answer(list(texts), 10) == chosen, "the same texts must give the same choice every time"
    backwards = answer(texts[::-1], 10)
    assert backwards == chosen, "in another order the choice was another one: use the text, not its place"
    fewer = answer(texts[:1000], 10)
    assert fewer == chosen & set(texts[:1000]), "texts changed sides when others were added: look at one text at a time"
    with patch.object(builtins, "hash", lambda value: zlib.crc32(f"another run {value!r}".encode())):
        in_another_run = answer([_OtherRun(text) for text in texts], 10)
    assert set(map(str, in_another_run)) == chosen and not _is_modulo(hash, texts, chosen, 10), (
        "in another run the choice would be another one: Python's own hash of a text changes from run to run"
    )
    _one_in_4(answer, [f"text number {n}, to its end" for n in range(1000, 5000)], "of the same length")
    _one_in_4(answer, _shuffles("abcdefghijklmnop", 4000), "of the same letters in other orders")
    _large_one_in(answer)
    assert answer(["hélas", "한국어"], 1) == {"hélas", "한국어"}, "one in 1 is every text, whatever its letters"
    with patch.object(zlib, "crc32", lambda data, value=0: zlib.adler32(bytes(data)[::-1])):
        without_crc = answer(list(texts), 10)
    is_crc = _is_modulo(lambda text: zlib.crc32(text.encode()), texts, chosen, 10)
    assert not is_crc and without_crc == chosen, "that is CRC-32; take another hash this time"


def _large_one_in(answer) -> None:
    """Fails for a number that has too few values, as a single byte of a hash does."""
    texts = [f"line {n}: {n * n}" for n in range(20_000)]
    count = len(answer(texts, 1000))
    assert 5 < count < 50, (
        f"of 20,000 texts, one in 1,000 should be held out, about 20, not {count}: does your number take many values? "
        "One byte of a hash has only 256"
    )


class _OtherRun(str):
    """A text whose hash is that of another run of Python."""

    def __hash__(self) -> int:
        return zlib.crc32(f"another run {str.__repr__(self)}".encode())

    def __str__(self) -> str:
        return str.__str__(self)


def _is_modulo(number: Callable[[str], int], texts: list[str], chosen: set[str], one_in: int) -> bool:
    """Whether the chosen texts are those whose number has some one remainder."""
    return any(chosen == {text for text in texts if number(text) % one_in == rest} for rest in range(one_in))


def _shuffles(letters: str, count: int) -> list[str]:
    generator = random.Random(1)
    return ["".join(generator.sample(letters, len(letters))) for _ in range(count)]


def _one_in_4(answer, texts: list[str], what: str) -> None:
    share = len(answer(list(texts), 4)) / len(set(texts))
    assert 0.2 < share < 0.3, (
        f"of {len(texts)} texts {what}, one in 4 should be held out, not {share:.0%}: your number must depend on every "
        "letter and its place"
    )


def place(answer) -> None:
    """Exercise 6.3."""
    lengths = [4, 2, 5]
    truth = [(n, k) for n, length in enumerate(lengths) for k in range(length)]
    for n in range(3 * len(truth)):
        epoch, rest = divmod(n, len(truth))
        expected = (epoch, *truth[rest])
        found = tuple(answer(list(lengths), n))
        assert found == expected, (
            f"in documents of lengths {lengths}, token {n} is (epoch, document, token) = {expected}, not {found}"
            + _why_misplaced(found, expected)
        )
    _no_walk(answer, lengths, len(truth))
    generator = random.Random(0)
    lengths = [generator.randint(1, 900) for _ in range(500)]
    starts = [0, *accumulate(lengths)]
    far = 10**18 + 7
    n = far * starts[-1] + starts[321] + lengths[321] - 1
    assert tuple(answer(lengths, n)) == (far, 321, lengths[321] - 1), (
        "a token of a far epoch is misplaced; divide whole numbers with // or divmod, since / loses digits"
    )


def _why_misplaced(found: tuple, expected: tuple) -> str:
    """The likely cause, where one is seen."""
    if len(found) == 3 and found != expected:
        if found[1] > 0 and found[1:] == (expected[1] + 1, expected[2] + 1):
            return ": count from 0"
        if found[0] == expected[0] and expected[2] == 0:
            return ": a document of length 4 has the tokens 0 to 3; token 4 belongs to the next one"
        if found[1:] == expected[1:]:
            return ": an epoch is as long as all documents together"
    return ""


def _no_walk(answer, lengths: list[int], in_epoch: int) -> None:
    """Fails when a token of epoch 1,000,000 takes long: a longer walk would hang."""
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        found = tuple(answer(list(lengths), 10**6 * in_epoch + 5))
        seconds.append(time.perf_counter() - began)
        assert found == (10**6, 1, 1), f"token 5 of epoch 1,000,000 is (1000000, 1, 1), not {found}"
    assert min(seconds) < 0.01, (
        f"epoch 1,000,000 took {min(seconds):.2f} seconds: do not walk through the epochs, use divmod"
    )


def pack(answer) -> None:
    """Exercise 6.4."""
    _packed(answer, [5, 3, 8, 2, 2], 10, "[5, 3, 8, 2, 2]")
    generator = random.Random(0)
    lengths = [generator.randint(1, 100) for _ in range(400)]
    rows = _packed(answer, lengths, 128, "400 random lengths")
    padding = 1 - sum(lengths) / (128 * len(rows))
    assert padding < 0.02, f"{padding:.1%} of the places are padding; the longest that fits leaves less than 2 %"


def _packed(answer, lengths: list[int], T: int, what: str) -> list[list[int]]:
    given = list(lengths)
    rows = [list(row) for row in answer(lengths, T)]
    assert lengths == given, "leave the list that you are given as it is; sort a copy"
    packed = sorted(document for row in rows for document in row)
    assert packed == list(range(len(lengths))), f"every document must be in exactly one row ({what}, T={T})"
    fill = [sum(lengths[document] for document in row) for row in rows]
    assert max(fill) <= T, f"a row has {max(fill)} tokens, more than T={T} ({what})"
    left = set(range(len(lengths)))
    for row in rows:
        room = T
        for document in sorted(row, key=lambda document: -lengths[document]):  # as they were put in
            best = max((lengths[other] for other in left if lengths[other] <= room), default=0)
            assert lengths[document] == best, (
                f"with room for {room}, the longest document that fits has {best} tokens, not {lengths[document]} "
                f"({what}, T={T})"
            )
            left.remove(document)
            room -= lengths[document]
        assert not any(lengths[other] <= room for other in left), (
            f"a row was left with room for {room} though a document that waited would fit ({what}, T={T})"
        )
    return rows
