"""The checks of the exercises of chapter 16: right answers pass, and the message for a wrong one teaches."""

import pytest

from course_lib.classroom.exercises import serving as exercises


def admit(waiting, rows, max_rows, room, overtake=False, strict=False, memory=True, groups=False):
    """A right answer, with the mistakes one can make."""
    if groups and rows:
        return []
    joined, used = [], sum(need for _, need in rows)
    for name, need in waiting:
        if len(rows) + len(joined) == max_rows:
            break
        if memory and (used + need > room or (strict and used + need == room)):
            if overtake:
                continue
            break
        used += need
        joined.append(name)
    return joined


def without_rows_needs(waiting, rows, max_rows, room):
    return admit(waiting, [(name, 0) for name, _ in rows], max_rows, room)


def each_alone(waiting, rows, max_rows, room):
    """Compares each newcomer with the room that was free before any of them joined."""
    left = room - sum(need for _, need in rows)
    fitting = [need <= left for _, need in waiting]
    stop = fitting.index(False) if False in fitting else len(waiting)
    return [name for name, _ in waiting[: min(stop, max(0, max_rows - len(rows)))]]


def all_rows_free(waiting, rows, max_rows, room):
    return admit(waiting, rows, max_rows + len(rows), room)


def takes_them_out(waiting, rows, max_rows, room):
    joined = admit(waiting, rows, max_rows, room)
    del waiting[: len(joined)]
    return joined


def pairs(waiting, rows, max_rows, room):
    names = admit(waiting, rows, max_rows, room)
    return [pair for pair in waiting if pair[0] in names]


def last_first(waiting, rows, max_rows, room):
    return admit(waiting[::-1], rows, max_rows, room)


def smallest_first(waiting, rows, max_rows, room):
    return admit(sorted(waiting, key=lambda pair: pair[1]), rows, max_rows, room)


class Pages:
    """A right answer; a wrong one changes a method."""

    def __init__(self, count, size):
        self.size, self.free, self.pages, self.lengths = size, list(range(count)), {}, {}

    def needs_page(self, n):
        return n % self.size == 0

    def append(self, row):
        n = self.lengths.get(row, 0)
        if self.needs_page(n):
            self.pages.setdefault(row, []).append(self.new_page())
        self.lengths[row] = n + 1
        return self.pages[row][-1], n % self.size

    def new_page(self):
        if not self.free:
            raise MemoryError
        return self.free.pop()

    def leave(self, row):
        self.free += self.pages.pop(row)
        del self.lengths[row]


class FirstInFirstOut(Pages):
    """Right as well: pages in another order."""

    def new_page(self):
        if not self.free:
            raise MemoryError
        return self.free.pop(0)


class Leaks(Pages):
    def leave(self, row):
        del self.pages[row], self.lengths[row]


class LeaksAllButTheLast(Pages):
    def leave(self, row):
        self.free.append(self.pages.pop(row)[-1])
        del self.lengths[row]


class KeepsTheLength(Pages):
    """The row's pages are free, and its positions are still counted."""

    def append(self, row):
        n = self.lengths.get(row, 0)
        if not self.needs_page(n) and not self.pages.get(row):
            self.pages[row] = [self.new_page()]
        return super().append(row)

    def leave(self, row):
        self.free += self.pages.pop(row)


class StillThere(Pages):
    """The pages are free, and the row goes on writing into them."""

    def leave(self, row):
        self.free += self.pages[row]


class CountsFirst(Pages):
    """The length grows before a page is found."""

    def append(self, row):
        n = self.lengths.get(row, 0)
        self.lengths[row] = n + 1
        if self.needs_page(n):
            self.pages.setdefault(row, []).append(self.new_page())
        return self.pages[row][-1], n % self.size


class NoError(Pages):
    def new_page(self):
        return self.free.pop() if self.free else None


class IndexErrorInstead(Pages):
    def new_page(self):
        return self.free.pop()


class OnePageEach(Pages):
    def needs_page(self, n):
        return True


class OneTooLate(Pages):
    def append(self, row):
        n = self.lengths.get(row, 0)
        if n == 0 or n % (self.size + 1) == 0:
            self.pages.setdefault(row, []).append(self.new_page())
        self.lengths[row] = n + 1
        return self.pages[row][-1], n % (self.size + 1)


class FirstPageForEver(Pages):
    def append(self, row):
        page, place = super().append(row)
        return self.pages[row][0], place


class Shared(Pages):
    """All rows write one after the other into the same pages."""

    def append(self, row):
        return super().append("all")

    def leave(self, row):
        super().leave("all")


class NothingBack(Pages):
    def append(self, row):
        super().append(row)


def chunk(read, step, bound, most, strict=False, over=0):
    good, bad = 0, most + 1
    while bad - good > 1:
        middle = (good + bad) // 2
        pause = read(middle) + step
        if pause < bound or (pause == bound and not strict):
            good = middle
        else:
            bad = middle
    return good + over


def one_by_one(read, step, bound, most):
    n = 0
    while n < most and read(n + 1) + step <= bound:
        n += 1
    return n


def in_proportion(read, step, bound, most):
    return max(0, min(most, int((bound - step) / read(1))))


def at_least_one(read, step, bound, most):
    return max(1, chunk(read, step, bound, most))


def without_the_step(read, step, bound, most):
    return chunk(read, 0, bound, most)


def powers_of_two(read, step, bound, most):
    n = 1
    while 2 * n <= most and read(2 * n) + step <= bound:
        n *= 2
    return n


def beyond_the_most(read, step, bound, most):
    return chunk(read, step, bound, 2 * most)


@pytest.mark.parametrize(
    ("test", "answer"),
    [
        (exercises.admit, admit),
        (exercises.pages, Pages),
        (exercises.pages, FirstInFirstOut),
        (exercises.largest_chunk, chunk),
    ],
)
def test_right_answers_pass(test, answer):
    assert test(answer)


@pytest.mark.parametrize(
    ("test", "answer", "said"),
    [
        (exercises.admit, lambda *_: None, "needs a return"),
        (exercises.admit, lambda *given: admit(*given, overtake=True), "overtakes b"),
        (exercises.admit, lambda *given: admit(*given, strict=True), "exactly the room"),
        (exercises.admit, lambda *given: admit(*given, memory=False), "Count what the rows may need"),
        (exercises.admit, lambda *given: admit(*given, groups=True), "they do not wait for a to end"),
        (exercises.admit, without_rows_needs, "Count what the rows may need"),
        (exercises.admit, each_alone, "those that have just joined"),
        (exercises.admit, all_rows_free, "all rows are taken"),
        (exercises.admit, takes_them_out, "leave the two lists"),
        (exercises.admit, pairs, "not pairs"),
        (exercises.admit, last_first, "in this order"),
        (exercises.admit, smallest_first, "overtakes b"),
        (exercises.pages, Leaks, "both of its pages"),
        (exercises.pages, LeaksAllButTheLast, "both of its pages"),
        (exercises.pages, KeepsTheLength, "begins anew"),
        (exercises.pages, StillThere, "begins anew"),
        (exercises.pages, CountsFirst, "must change nothing"),
        (exercises.pages, NoError, "must raise MemoryError"),
        (exercises.pages, IndexErrorInstead, "not IndexError"),
        (exercises.pages, OnePageEach, "need two pages of 4"),
        (exercises.pages, OneTooLate, "0 of a new page"),
        (exercises.pages, FirstPageForEver, "which is full"),
        (exercises.pages, Shared, "two rows write into one page"),
        (exercises.pages, NothingBack, "must give back"),
        (exercises.largest_chunk, lambda *_: None, "needs a return"),
        (exercises.largest_chunk, lambda *given: chunk(*given, strict=True), "which the bound allows"),
        (exercises.largest_chunk, lambda *given: chunk(*given, over=1), "one too many"),
        (exercises.largest_chunk, one_by_one, "each call is a measurement"),
        (exercises.largest_chunk, in_proportion, "not a multiple"),
        (exercises.largest_chunk, at_least_one, "no chunk will do"),
        (exercises.largest_chunk, without_the_step, "Count the step"),
        (exercises.largest_chunk, powers_of_two, "chunks of 15"),
        (exercises.largest_chunk, beyond_the_most, "a chunk has 1"),
    ],
)
def test_wrong_answers_are_told_why(test, answer, said):
    with pytest.raises(AssertionError) as caught:
        test(answer)
    assert said in str(caught.value)
