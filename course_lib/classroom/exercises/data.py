"""Checks for the exercises of notebook 06."""

import random
import zlib
from itertools import accumulate


def rows(answer) -> None:
    """Exercise 6.1."""
    documents = [[1, 2, 3], [4], [5, 6, 7, 8, 9]]
    given = [list(document) for document in documents]
    found = answer(documents, 0, 2, 4)
    assert documents == given, "leave the documents that you are given as they are"
    assert found is not None and len(found) == 2, "return two things: inputs and targets"
    inputs, targets = ([list(map(int, row)) for row in part] for part in found)
    assert inputs and inputs[0][:1] == [0], "the stream begins with BOS, which stands before each document"
    assert inputs == [[0, 1, 2, 3], [0, 4, 0, 5]], (
        f"B=2 and T=4 make the inputs [[0, 1, 2, 3], [0, 4, 0, 5]], not {inputs}"
    )
    assert targets[0] == [1, 2, 3, 0], (
        f"the last target of a row is the first input of the next: [1, 2, 3, 0], not {targets[0]}"
    )
    assert targets[1] == [4, 0, 5, 6], (
        f"the last target of the batch is one token after its last input: [4, 0, 5, 6], not {targets[1]}"
    )
    assert answer([[7]], 0, 1, 1)[1] == [[7]], "two ids are enough for one input and its target"
    for B, T in ((3, 4), (2, 6)):
        try:
            answer(documents, 0, B, T)
        except ValueError:
            continue
        raise AssertionError(
            f"12 ids are too few for B={B}, T={T}, whose last input needs a target too: raise a ValueError"
        )


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
    same_length = [f"text number {n}" for n in range(1000, 5000)]
    share = len(answer(same_length, 4)) / len(same_length)
    assert 0.2 < share < 0.3, f"of 4000 texts of the same length, one in 4 should be held out, not {share:.0%}"
    assert answer(["hélas", "한국어"], 1) == {"hélas", "한국어"}, "one in 1 is every text, whatever its letters"
    crc = {text for text in texts if zlib.crc32(text.encode()) % 10 == 0}
    assert chosen != crc, "that is CRC-32; take another hash this time"


def place(answer) -> None:
    """Exercise 6.3."""
    lengths = [4, 2, 5]
    truth = [(n, k) for n, length in enumerate(lengths) for k in range(length)]
    for n in range(3 * len(truth)):
        epoch, rest = divmod(n, len(truth))
        expected = (epoch, *truth[rest])
        found = tuple(answer(list(lengths), n))
        assert found == expected, (
            f"in documents of lengths {lengths}, token {n} is (epoch, document, offset) = {expected}, not {found}"
        )
    generator = random.Random(0)
    lengths = [generator.randint(1, 900) for _ in range(500)]
    starts = [0, *accumulate(lengths)]
    far = 10**15 * starts[-1] + starts[321] + lengths[321] - 1
    assert tuple(answer(lengths, far)) == (10**15, 321, lengths[321] - 1), "a token of a far epoch is misplaced"


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
        for document in row:
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
