"""The exercise checks of chapter 06 accept right answers, and name the mistake in wrong ones."""

import hashlib
import random
import zlib
from bisect import bisect_right

import numpy as np
import pytest

from course_lib.classroom.exercises import data as exercises


def stream(documents, bos):
    return [token for document in documents for token in (bos, *document)]


def cut(ids, B, T, later=0):
    return [ids[start : start + T] for start in range(later, later + B * T, T)]


def right_rows(documents, bos, B, T, enough=1, ids=stream):
    ids = ids(documents, bos)
    if len(ids) < B * T + enough:
        raise ValueError
    return cut(ids, B, T), cut(ids, B, T, 1)


def arrays(*args):
    return tuple(map(np.array, right_rows(*args)))


def shifted_in_its_row(*args):
    inputs, _ = right_rows(*args)
    return inputs, [[*row[1:], row[0]] for row in inputs]


def a_document_a_row(documents, bos, B, T):
    right_rows(documents, bos, B, T)
    rows = [([bos, *document] + [bos] * T)[: T + 1] for document in documents[:B]]
    return [row[:-1] for row in rows], [row[1:] for row in rows]


def put_into_the_documents(documents, bos, B, T):
    for document in documents:
        document.insert(0, bos)
    return right_rows(documents, bos, B, T)


def overlapping(documents, bos, B, T):
    right_rows(documents, bos, B, T)
    ids = stream(documents, bos)
    return [ids[n : n + T] for n in range(B)], [ids[n + 1 : n + T + 1] for n in range(B)]


def by_number(number):
    return lambda texts, one_in: {text for text in texts if number(text) % one_in == 0}


def sha(text):
    return int.from_bytes(hashlib.sha256(text.encode()).digest())


def right_place(lengths, n, length=sum):
    epoch, n = divmod(n, length(lengths))
    for document, count in enumerate(lengths):
        if n < count:
            return epoch, document, n
        n -= count


def place_off_by_one(lengths, n):
    epoch, n = divmod(n, sum(lengths))
    for document, count in enumerate(lengths):
        if n <= count:
            return epoch, document, n
        n -= count


def place_by_walking(lengths, n):
    epoch = 0
    while n >= sum(lengths):
        epoch, n = epoch + 1, n - sum(lengths)
    return epoch, *right_place(lengths, n)[1:]


def place_by_division(lengths, n):
    epoch = int(n / sum(lengths))
    return epoch, *right_place(lengths, n - epoch * sum(lengths))[1:]


def right_pack(lengths, T):
    waiting = sorted((length, document) for document, length in enumerate(lengths))
    packed = []
    while waiting:
        row, room = [], T
        while (found := bisect_right(waiting, (room, len(lengths)))) > 0:
            length, document = waiting.pop(found - 1)
            row.append(document)
            room -= length
        packed.append(row)
    return packed


def longest_first(lengths, T):
    """Once through the documents from the longest to the shortest for each row: the same rows."""
    waiting, packed = sorted(range(len(lengths)), key=lambda n: -lengths[n]), []
    while waiting:
        row, room = [], T
        for document in waiting:
            if lengths[document] <= room:
                row.append(document)
                room -= lengths[document]
        waiting = [document for document in waiting if document not in row]
        packed.append(row)
    return packed


def in_order(lengths, T):
    packed, room = [[]], T
    for document, length in enumerate(lengths):
        if length > room:
            packed.append([])
            room = T
        packed[-1].append(document)
        room -= length
    return packed


def cropping(lengths, T):
    return [row[:2] for row in right_pack(lengths, T)]


@pytest.mark.parametrize(
    ("test", "answer"),
    [
        (exercises.rows, right_rows),
        (exercises.rows, arrays),
        (exercises.held_out, by_number(sha)),
        (exercises.held_out, by_number(lambda text: int(hashlib.md5(text.encode()).hexdigest(), 16))),
        (exercises.held_out, lambda texts, k: {text for text in texts if random.Random(text).random() < 1 / k}),
        (exercises.place, right_place),
        (exercises.pack, right_pack),
        (exercises.pack, longest_first),
    ],
)
def test_right_answers_are_accepted(test, answer):
    test(answer)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (shifted_in_its_row, "Shift the stream, not each row"),
        (lambda *args: right_rows(*args)[:1] * 2, "the targets are the inputs themselves"),
        (lambda *args: right_rows(*args)[::-1], "the stream begins with bos"),
        (lambda *args: right_rows(*args, ids=lambda documents, bos: sum(documents, [])), "bos stands nowhere"),
        (lambda *args: right_rows(*args, ids=lambda d, bos: [bos, *sum(d, [])]), "only at the start"),
        (lambda *args: right_rows(*args, ids=lambda d, bos: [i for x in d for i in (*x, bos)]), "not after it"),
        (lambda d, bos, B, T: right_rows(d, bos, T, B), "there should be B=2 rows of T=5, not 5 of 2"),
        (lambda *args: right_rows(*args, enough=0), "14 inputs and one target more"),
        (lambda d, bos, B, T: (cut(stream(d, bos), B, T), cut(stream(d, bos), B, T, 1)), "Raise a ValueError"),
        (a_document_a_row, "do not begin a row with each document"),
        (put_into_the_documents, "build a new list"),
        (overlapping, "row 1 should begin with the token after"),
        (lambda *args: right_rows(*args)[0], "two lists of rows"),
        (lambda *args: tuple(sum(part, []) for part in right_rows(*args)), "two lists of rows"),
    ],
)
def test_rows_names_the_mistake(answer, said):
    refused(exercises.rows, answer, said)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (by_number(len), "one in"),
        (by_number(lambda text: sum(text.encode())), "depend on every letter and its place"),
        (by_number(lambda text: ord(text[0])), "depend on every letter"),
        (by_number(lambda text: ord(text[-1])), "depend on every letter"),
        (by_number(lambda text: int.from_bytes(text.encode())), ""),
        (by_number(lambda text: hash(text)), "Python's own hash"),
        (by_number(lambda text: text.__hash__()), "Python's own hash"),
        (by_number(lambda text: hashlib.sha256(text.encode()).digest()[0]), "One byte of a hash has only 256"),
        (by_number(lambda text: zlib.crc32(text.encode())), "CRC-32"),
        (by_number(lambda text: zlib.crc32(text.encode()) + 3), "CRC-32"),
        (lambda texts, k: {t for t in texts if zlib.crc32(t.encode()) < 2**32 / k}, "CRC-32"),
        (lambda texts, k: set(texts[::k]), "its place"),
        (lambda texts, k: set(sorted(texts)[::k]), "others were added"),
        (lambda texts, k: set(random.Random(0).sample(texts, len(texts) // k)), "its place"),
        (lambda texts, k: {text for text in texts if random.random() < 1 / k}, "every time"),
        (lambda texts, k: [text for text in texts if sha(text) % k == 0], "return a set"),
        (lambda texts, k: {text for text in texts if sha(text) % k}, "about 10 %, not"),
    ],
)
def test_held_out_names_the_mistake(answer, said):
    refused(exercises.held_out, answer, said)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (place_off_by_one, "token 4 belongs to the next one"),
        (lambda lengths, n: tuple(np.add(right_place(lengths, n), (0, 1, 1))), "count from 0"),
        (lambda lengths, n: (n // len(lengths), *right_place(lengths, n)[1:]), "as long as all documents together"),
        (lambda lengths, n: (0, *right_place(lengths, n)[1:]), "as long as all documents together"),
        (place_by_walking, "do not walk"),
        (place_by_division, "/ loses digits"),
    ],
)
def test_place_names_the_mistake(answer, said):
    refused(exercises.place, answer, said)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (in_order, "the longest document that fits has"),
        (lambda lengths, T: [[n] for n in np.argsort(lengths)[::-1]], "though a document that waited would fit"),
        (cropping, "exactly one row"),
        (lambda lengths, T: [[lengths[n] for n in row] for row in right_pack(lengths, T)], "exactly one row"),
        (lambda lengths, T: lengths.sort() or right_pack(lengths, T), "sort a copy"),
        (lambda lengths, T: right_pack(lengths, 2 * T), "more than T"),
    ],
)
def test_pack_names_the_mistake(answer, said):
    refused(exercises.pack, answer, said)


def refused(test, answer, said):
    with pytest.raises(AssertionError) as caught:
        test(answer)
    assert said in str(caught.value)
