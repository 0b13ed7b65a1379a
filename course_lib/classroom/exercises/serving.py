"""Checks for the exercises of notebook 16."""

import random
from collections.abc import Callable

RETURN = "nothing came back: the function needs a return"


def admit(answer: Callable) -> str:
    """Exercise 16.1: who joins now."""

    def joins(waiting: list, rows: list, max_rows: int, room: int) -> list:
        given = list(waiting), list(rows)
        found = answer(waiting, rows, max_rows, room)
        assert (waiting, rows) == given, "leave the two lists as you are given them; they belong to the server"
        assert found is not None, RETURN
        assert not any(isinstance(each, tuple) for each in found), "give back names, not pairs of name and need"
        return list(found)

    found = joins([("a", 10), ("b", 10), ("c", 10)], [], 2, 100)
    assert found != ["a", "b", "c"], "two rows and room for all: three joined; there are only max_rows rows"
    assert found == ["a", "b"], f"two free rows and room for all: a and b join, in this order, not {found}"
    found = joins([("b", 10), ("c", 10)], [("a", 10)], 3, 100)
    assert found, "one row of three is taken and there is room: b and c join at once; they do not wait for a to end"
    assert found == ["b", "c"], f"one row of three is taken: two are free, so b and c join, not {found}"
    assert joins([("c", 10)], [("a", 10), ("b", 10)], 2, 100) == [], "all rows are taken: nobody joins"
    found = joins([("b", 50)], [("a", 60)], 2, 100)
    assert found == [], "a may need 60 positions and b 50: in a room of 100, b waits. Count what the rows may need"
    found = joins([("a", 40), ("b", 40), ("c", 40)], [], 3, 100)
    assert found != ["a", "b", "c"], "40 + 40 + 40 is more than the room of 100; count those that have just joined, too"
    assert found == ["a", "b"], f"needs of 40 each and room for 100: a and b join, not {found}"
    found = joins([("b", 40)], [("a", 60)], 2, 100)
    assert found == ["b"], "60 + 40 is exactly the room: b fits"
    found = joins([("b", 70), ("c", 10)], [("a", 60)], 3, 100)
    assert found != ["c"], (
        "c fits and overtakes b, which does not: then a long request can wait for ever while short ones pass it. "
        "When the first in the queue does not fit, all wait"
    )
    assert found == [], f"b does not fit, and nobody overtakes it: nobody joins, not {found}"
    assert joins([], [("a", 10)], 2, 100) == [], "nobody waits: nobody joins"
    generator = random.Random(0)
    for _ in range(200):
        needs = [(f"r{n}", generator.randint(1, 40)) for n in range(generator.randint(0, 9))]
        cut, max_rows, room = generator.randint(0, len(needs)), generator.randint(1, 6), generator.randint(20, 120)
        rows, waiting = needs[:cut][:max_rows], needs[cut:]
        used, expected = sum(need for _, need in rows), []
        for name, need in waiting:
            if len(rows) + len(expected) == max_rows or used + need > room:
                break
            used += need
            expected.append(name)
        found = joins(waiting, rows, max_rows, room)
        case = f"waiting {waiting}, rows {rows}, max_rows={max_rows}, room={room}"
        assert found == expected, f"{case}: {expected} join, not {found}"
    return "A request that needs more than the whole room would block the queue for ever. Where should it be refused?"


def pages(answer: type) -> str:
    """Exercise 16.2: a block table that neither leaks nor shares."""
    table = answer(3, 4)
    why = "five positions of one row need two pages of 4, and there are three"
    first = [_append(table, "a", why) for _ in range(5)]
    assert [place for _, place in first] == [0, 1, 2, 3, 0], (
        f"five positions in pages of 4 stand at places 0, 1, 2, 3 and then 0 of a new page, not "
        f"{[place for _, place in first]}"
    )
    kept = {page for page, _ in first[:4]}
    assert len(kept) == 1, f"the first four positions of a row share one page of 4, but they got pages {sorted(kept)}"
    assert first[4][0] not in kept, "the fifth position got the first page again, which is full; it needs another page"
    pages_of_a = {page for page, _ in first}
    for _ in range(4):
        page, _ = _append(table, "b", "a has two of three pages, so there is one for b")
        assert page not in pages_of_a, "two rows write into one page; a page belongs to one row"
    _is_full(table, "b", "3 pages of 4 are taken: two by a, one by b, which is full; there is no fourth")
    _is_full(table, "c", "3 pages of 4 are taken, and a new row needs one of its own; there is no fourth")
    found = _append(table, "a", "the last page of a is not full")
    assert found == (first[4][0], 1), f"row a still has room in its second page, at place 1; append gave {found}"
    table.leave("a")
    lost = "when a has left, both of its pages are free for others"
    found = [_append(table, "b", lost) for _ in range(5)]
    assert [place for _, place in found] == [0, 1, 2, 3, 0], (
        "an append that found no page must change nothing: when pages are free again, row b goes on at place 0 of a "
        f"new page; it got places {[place for _, place in found]}"
    )
    assert {page for page, _ in found} == pages_of_a, lost
    table.leave("b")
    found = _append(table, "a", "all have left, so all pages are free")
    assert found[1] == 0, f"a name that comes again begins anew, at place 0; append gave {found}"
    _at_random(answer)
    return "How many positions can a row waste at most, and in which page?"


def _append(table, row: str, why: str) -> tuple[int, int]:
    """What append gives back; why: there must be a page for it."""
    try:
        found = table.append(row)
    except MemoryError:
        raise AssertionError(f"{why}; but append raised MemoryError") from None
    assert found is not None, "append must give back the page and the place in it"
    return tuple(found)


def _is_full(table, row: str, why: str) -> None:
    try:
        found = table.append(row)
    except MemoryError:
        return
    except (IndexError, KeyError, ValueError) as error:
        raise AssertionError(f"{why}: append must raise MemoryError, not {type(error).__name__}") from error
    raise AssertionError(f"{why}: append must raise MemoryError, and it gave back {found}")


def _at_random(answer: type) -> None:
    """Rows come, grow and leave a thousand times; what stands where is written down beside it."""
    generator, count, size = random.Random(1), 6, 4
    table, held = answer(count, size), {}  # row -> its (page, place) so far
    for turn in range(1000):
        row = generator.choice("abcde")
        if row in held and generator.random() < 0.15:
            table.leave(row)
            del held[row]
            continue
        mine, others = held.get(row, []), {page for name, own in held.items() if name != row for page, _ in own}
        taken = len(others | {page for page, _ in mine})
        if len(mine) % size == 0 and taken == count:
            _is_full(table, row, f"turn {turn}: all {count} pages are taken")
            continue
        kept = f"turn {turn} of 1,000: {taken} of {count} pages are in use, and those of rows that have left are free"
        page, place = _append(table, row, kept)
        assert page in range(count), f"turn {turn}: page {page} does not exist; they are 0 … {count - 1}"
        assert page not in others, f"turn {turn}: page {page} belongs to another row as well"
        assert place == len(mine) % size, f"turn {turn}: position {len(mine)} of a row is at place {len(mine) % size}"
        if place:
            assert page == mine[-1][0], f"turn {turn}: row {row} changed its page before the old one was full"
        held[row] = [*mine, (page, place)]


def largest_chunk(answer: Callable) -> str:
    """Exercise 16.3: as large as the bound allows, with few measurements."""
    asked: list[int] = []

    def chunk(read: Callable, step: float, bound: float, most: int) -> int:
        asked.clear()

        def measured(n: int) -> float:
            assert 1 <= n <= most and n == int(n), f"read({n}) was asked for; a chunk has 1 … {most} tokens"
            asked.append(n)
            return read(n)

        found = answer(measured, step, bound, most)
        assert found is not None, RETURN
        return found

    def even(n: int) -> float:
        return n

    found = chunk(even, 5, 20, 100)
    assert found != 20, "a chunk of 20 takes 20, and the step after it 5: the pause is 25. Count the step as well"
    assert found != 14, "a chunk of 15 and a step of 5 make exactly 20, which the bound allows"
    assert found != 16, "a chunk of 16 and a step of 5 make 21, one too many"
    assert found == 15, f"a token takes 1, a step 5, the bound is 20: chunks of 15, not {found}"
    assert chunk(even, 5, 1000, 100) == 100, "when even the longest chunk is allowed, take it: `most`"
    assert chunk(even, 5, 3, 100) == 0, "when a step alone is longer than the bound, no chunk will do: 0"
    assert chunk(even, 5, 6, 100) == 1, "a chunk of one token and a step make 6, which the bound of 6 allows"

    def bent(n: int) -> float:
        return 4 + n + n * n / 200  # a fixed price, and attention to what was read before

    for step, bound, most in ((3, 60, 2048), (3, 500, 2048), (10, 2000, 4096), (1, 6, 64)):
        expected = max((n for n in range(1, most + 1) if bent(n) + step <= bound), default=0)
        found = chunk(bent, step, bound, most)
        assert found == expected, (
            f"reading n tokens takes 4 + n + n²/200, a step {step}, the bound is {bound}: {expected}, not {found}. "
            "The time is not a multiple of that of one token: ask `read`"
        )
        allowed = most.bit_length() + 2
        assert len(asked) <= allowed, (
            f"`read` was called {len(asked)} times for chunks up to {most}; each call is a measurement, and "
            f"{allowed} are enough: halve the range each time"
        )
    return "What does a smaller chunk cost the newcomer?"
