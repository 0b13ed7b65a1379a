"""The checks of the exercises of chapter 22: right answers pass, and the message for a wrong one teaches."""

import io
import pickle
import pickletools

import numpy as np
import pytest

from course_lib.classroom.exercises import weights as exercises

PLAIN = set(
    """PROTO FRAME MARK STOP NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 BINUNICODE SHORT_BINUNICODE
    EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_DICT SETITEM SETITEMS BINPUT LONG_BINPUT MEMOIZE
    BINGET LONG_BINGET BINPERSID REDUCE""".split()
)


def first_refused(content, known, plain=PLAIN):
    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name not in plain and not (opcode.name == "GLOBAL" and argument in known):
            return opcode.name
    return None


def forbids_some(content, known):
    """A list of what is forbidden."""
    for opcode, argument, _ in pickletools.genops(content):
        if (opcode.name == "GLOBAL" and argument not in known) or opcode.name == "STACK_GLOBAL":
            return opcode.name
    return None


def any_global(content, known):
    return first_refused(content, known, PLAIN | {"GLOBAL"})


def no_global(content, known):
    return first_refused(content, set())


def no_calls(content, known):
    return first_refused(content, known, PLAIN - {"REDUCE"})


def known_modules(content, known):
    """Lets a whole module through when one of its names is known, and any name without one."""
    modules = {name.split(" ")[0] for name in known} | {exercises.__name__}
    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name not in PLAIN and not (opcode.name == "GLOBAL" and argument.split(" ")[0] in modules):
            return opcode.name
    return None


def the_last(content, known):
    names = [opcode.name for opcode, argument, _ in pickletools.genops(content) if opcode.name not in PLAIN]
    return names[-1] if names else None


def runs_it(content, known):
    class Loose(pickle.Unpickler):
        def persistent_load(self, pid):
            return pid

    Loose(io.BytesIO(content)).load()
    return first_refused(content, known)


def whole(content, known):
    """True and False in place of the name."""
    return first_refused(content, known) is None


def four_bits(group, edge_kept=True, sign=True, zero=True, order=1, rint=np.rint, clip=True):
    """A right answer, with the mistakes one can make."""
    low, high = group.min(), group.max()
    scale, edge = (high - low) / np.float32(15), low
    if edge_kept and abs(low) <= abs(high):
        scale, edge = (-scale if sign else scale), high
    if zero:
        scale = edge / np.rint(edge / scale)
    q = rint((group - edge) / scale)
    q = (np.clip(q, 0, 15) if clip else q.astype(np.int64) & 15).astype(np.uint32)
    words = q.reshape(8, 8)[:, ::order] << 4 * np.arange(8, dtype=np.uint32)
    return words.sum(axis=1, dtype=np.uint32), scale, edge


def in_place(group):
    found = four_bits(group)
    group -= found[2]
    return found


def unpacked(group):
    words, scale, bias = four_bits(group)
    return (words[:, None] >> 4 * np.arange(8, dtype=np.uint32) & 15).reshape(-1), scale, bias


def take(draft, best):
    right = 0
    while right < len(draft) and draft[right] == best[right]:
        right += 1
    return [*draft[:right], best[right]]


def only_the_draft(draft, best):
    return take(draft, best)[:-1]


def all_that_fit(draft, best):
    return [mine for mine, his in zip(draft, best, strict=False) if mine == his] + best[-1:]


def one_late(draft, best):
    return take(draft, [*best[1:], best[-1]])


def always_best(draft, best):
    return list(best)


def last_of_best(draft, best):
    return [*take(draft, best)[:-1], best[-1]]


def all_or_nothing(draft, best):
    return list(best) if draft == best[:-1] else best[:1]


RIGHT = [(exercises.first_refused, first_refused), (exercises.four_bits, four_bits), (exercises.take, take)]
WRONG = [
    (exercises.first_refused, forbids_some, "let through"),
    (exercises.first_refused, any_global, "GLOBAL"),
    (exercises.first_refused, no_global, "nothing is to be refused"),
    (exercises.first_refused, no_calls, "nothing is to be refused"),
    (exercises.first_refused, known_modules, "let through"),
    (exercises.first_refused, the_last, "nothing is to be refused"),
    (exercises.first_refused, runs_it, "the pickle was run"),
    (exercises.first_refused, whole, "return None at its end"),
    (exercises.four_bits, lambda group: four_bits(group, edge_kept=False, zero=False), "that is the plain way"),
    (exercises.four_bits, lambda group: four_bits(group, edge_kept=False), "scale"),
    (exercises.four_bits, lambda group: four_bits(group, zero=False), "is a whole number of steps"),
    (exercises.four_bits, lambda group: four_bits(group, order=-1), "lowest four bits"),
    (exercises.four_bits, lambda group: four_bits(group, rint=np.floor), "np.rint"),
    (exercises.four_bits, lambda group: four_bits(group, clip=False), "cut to 0"),
    (exercises.four_bits, lambda group: (four_bits(group)[0], -four_bits(group)[1], four_bits(group)[2]), "wrong sign"),
    (exercises.four_bits, in_place, "work on a copy"),
    (exercises.four_bits, unpacked, "fill 8 words"),
    (exercises.four_bits, lambda group: None, "nothing came back"),
    (exercises.take, only_the_draft, "gains the model's own next id"),
    (exercises.take, all_that_fit, "after the first wrong one"),
    (exercises.take, one_late, "not"),
    (exercises.take, always_best, "after the first wrong one"),
    (exercises.take, last_of_best, "after the first wrong one"),
    (exercises.take, all_or_nothing, "after the first wrong one"),
    (exercises.take, lambda draft, best: draft.append(best[-1]) or draft, "have changed"),
    (exercises.take, lambda draft, best: None, "nothing came back"),
]


@pytest.mark.parametrize(("test", "answer"), RIGHT)
def test_right_answers_pass(test, answer):
    test(answer)


@pytest.mark.parametrize(("test", "answer", "says"), WRONG)
def test_wrong_answers_do_not(test, answer, says):
    with pytest.raises(AssertionError, match=says):
        test(answer)
