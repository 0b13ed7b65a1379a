"""Checks for the exercises of notebook 20."""

from collections.abc import Callable

import mlx.core as mx

from course_lib.host.errors import CourseError
from course_lib.train.ring_call import in_a_ring


def passing_on(answer: Callable) -> str:
    """Exercise 20.1."""
    for size, pieces in ((2, 1), (2, 3), (3, 4), (5, 8), (4, 1)):
        ticks = answer(size, pieces)
        case = f"{size} processes, {pieces} piece{'s' if pieces > 1 else ''}"
        assert ticks is not None, "nothing came back: the function needs a return"
        _simulate([list(tick) for tick in ticks], size, pieces, case)
        fewest = pieces + size - 2
        assert len(ticks) <= fewest, (
            f"{case}: {len(ticks)} ticks, {fewest} are enough; a process can pass a piece on as soon as it has it, "
            "before the next one has come"
        )
    return "100 pieces reach 4 processes in 102 ticks; one after the other, it would be 300"


def _simulate(ticks: list[list[tuple[int, int]]], size: int, pieces: int, case: str) -> None:
    has = [set(range(pieces)), *(set() for _ in range(size - 1))]
    for number, tick in enumerate(ticks, 1):
        before = [set(owned) for owned in has]
        senders = [process for process, _ in tick]
        for process, piece in tick:
            here = f"{case}, tick {number}: process {process}"
            assert 0 <= process < size, f"{here} does not exist; they are 0 … {size - 1}"
            assert 0 <= piece < pieces, f"{here} sends piece {piece}; the pieces are 0 … {pieces - 1}"
            assert senders.count(process) == 1, f"{here} sends more than one piece"
            assert process < size - 1, f"{here} is the last: its right neighbour is process 0, which has everything"
            assert piece in before[process], f"{here} sends piece {piece}, which it does not have before this tick"
            has[process + 1].add(piece)
    for process, owned in enumerate(has):
        lacks = sorted(set(range(pieces)) - owned)
        assert not lacks, f"{case}: after the last tick process {process} still lacks piece {lacks[0]}"


SECONDS = 20  # a check that hangs ends after as many
CASES = {  # the losses of three processes, and whether their mean is above 10
    "no loss is high": ([1.0, 2.0, 3.0], False),
    "one loss is high, the mean is not": ([1.0, 20.0, 3.0], False),
    "the mean is high, one loss is not": ([1.0, 30.0, 14.0], True),
    "all losses are high": ([11.0, 12.0, 13.0], True),
}
GRADIENTS = [[3.0, 0.0], [0.0, 6.0], [3.0, 3.0]]  # of the processes; their mean is [2, 3]


def _each_case(step: Callable) -> list[list[float] | None]:
    """In one process: the weight after a step of each case, None where the step gave nothing back."""
    group, found = mx.distributed.init(), []
    for losses, _ in CASES.values():
        mine = mx.array(losses[group.rank()]), mx.array(GRADIENTS[group.rank()])
        weight = step(mx.array([1.0, 1.0]), *mine, group)
        found.append(weight if weight is None else weight.tolist())
    return found


def careful_step(answer: Callable) -> None:
    """Exercise 20.2."""
    try:
        together = in_a_ring(_each_case, 3, answer, seconds=SECONDS)
    except CourseError as error:
        if "raised NotImplementedError" in str(error):
            raise NotImplementedError from None
        if not any(words in str(error) for words in ("were not done", "[ring]")):
            raise
        raise AssertionError(
            "one process waits for a message that no other sends: all must exchange the same numbers, in one order, "
            "whatever their own loss is"
        ) from None
    for number, (case, (losses, skip)) in enumerate(CASES.items()):
        found = [weights[number] for weights in together]
        here = f"{case} ({losses})"
        assert None not in found, f"{here}: nothing came back; the function must return the weight"
        assert all(weight == found[0] for weight in found), f"{here}: the processes now disagree: {found}"
        [weight, *_] = found
        if skip:
            assert weight == [1.0, 1.0], (
                f"{here}: the mean is above 10, so all must leave the weight as it is: {weight}"
            )
            continue
        assert weight != [1.0, 1.0], f"{here}: all have skipped the step; only the mean of the losses decides"
        summed = [1 - 0.1 * sum(column) for column in zip(*GRADIENTS, strict=True)]
        assert not _close(weight, summed), f"{here}: the weight moved by the sum of the gradients, not by their mean"
        truth = [0.8, 0.7]
        assert _close(weight, truth), f"{here}: the weight is {weight}, expected {truth}"


def _close(found: list[float], truth: list[float]) -> bool:
    return max(abs(a - b) for a, b in zip(found, truth, strict=True)) < 1e-5
