"""Checks for the exercises of notebook 10."""

import copy
import csv
import json
import math
import random

import mlx.core as mx

from course_lib.host.paths import data_dir


def whole_batch(answer) -> None:
    """Exercise 10.1."""
    parts = [
        (1, 4.0, {"w": mx.array([1.0, 0.0]), "b": mx.array([2.0])}),
        (3, 2.0, {"w": mx.array([5.0, 4.0]), "b": mx.array([-2.0])}),
        (0, 0.0, {"w": mx.array([0.0, 0.0]), "b": mx.array([0.0])}),
    ]
    given = [(count, loss, {name: array.tolist() for name, array in g.items()}) for count, loss, g in parts]
    result = answer(parts)
    assert result is not None, "nothing came back: the function needs a return"
    loss, gradients = result
    assert abs(loss - 2) > 1e-6, "a loss of 2.0 is the plain mean of three means; 3 of the 4 targets are in one part"
    assert abs(loss - 3) > 1e-6, "a loss of 3.0 is the mean of two means; 3 of the 4 targets are in one part"
    assert abs(loss - 10) > 1e-6, "a loss of 10.0 is the sum over all 4 targets; divide by their number"
    assert abs(loss - 2.5) < 1e-6, f"one target with loss 4 and three with 2 have the mean 2.5, not {loss}"
    assert set(gradients) == {"w", "b"}, f"the gradients have the names w and b, not {sorted(gradients)}"
    for name, truth in (("w", [4.0, 3.0]), ("b", [-1.0])):
        found = gradients[name]
        for share, what in ((1 / 3, "the plain mean of three"), (1 / 2, "the plain mean of two"), (1, "a plain sum")):
            plain = share * sum(g[name] for _, _, g in parts)
            assert not mx.allclose(found, plain), (
                f"the loss is right, but the gradient of {name} is {what}; weigh each by its count, too"
            )
        assert not mx.allclose(found, 4 * mx.array(truth)), f"the gradient of {name} is a sum over 4 targets, no mean"
        assert mx.allclose(found, mx.array(truth)), f"the gradient of {name} is {truth}, not {found.tolist()}"
    after = [(count, loss, {name: array.tolist() for name, array in g.items()}) for count, loss, g in parts]
    assert after == given, "leave the parts that you are given as they are"
    empty = [(0, 0.0, {"w": mx.zeros(2)}), (0, 0.0, {"w": mx.zeros(2)})]
    try:
        loss, gradients = answer(empty)
    except ZeroDivisionError as error:
        raise AssertionError("when no target counts in any part, it divides by 0; divide by 1 then") from error
    assert "w" in gradients, "when no target counts in any part, the gradients still have their names, with zeros"
    assert loss == 0 and gradients["w"].tolist() == [0, 0], (
        f"when no target counts, the loss is 0.0 and the gradients are zeros, not {loss} and {gradients['w'].tolist()}"
    )


Curves = tuple[list[float], list[float]]  # training and unseen losses of a run


def recorded() -> dict[tuple[str, int], Curves]:
    """The runs of exercise 10.2 as an author recorded them, by fault and seed."""
    runs: dict[tuple[str, int], Curves] = {}
    with (data_dir() / "experiments" / "training_faults.csv").open(encoding="utf-8", newline="") as file:
        next(file)  # where and when
        for row in csv.DictReader(file):
            training, unseen = runs.setdefault((row["fault"], int(row["seed"])), ([], []))
            training.append(float(row["training"]))
            unseen.append(float(row["unseen"]))
    return runs


def name_fault(answer) -> str:
    """Exercise 10.2."""
    runs = recorded()
    faults = list(dict.fromkeys(fault for fault, _ in runs))
    looks = {
        "none": "it is as low as the sound run, in training and on unseen text",
        "nothing moves": "its training loss never leaves where it began",
        "rates too low": "it ends far above the sound run, and was never above where it began",
        "rates too high": "its first losses are far above the sound run's, or it is no number at the end",
        "few texts": "its training loss is far below the sound run's, its unseen loss above it",
        "leak": "both its losses are far below the sound run's",
    }

    def ask(curves: Curves, sound: Curves, fault: str, whose: str) -> None:
        before = copy.deepcopy((curves, sound))
        said = answer(*curves, *sound)
        assert said is not None, "nothing came back: the function needs a return on every way"
        assert said in faults, f"it said {said!r}; expected one of {', '.join(faults)}"
        assert said == fault, (
            f"{whose} is {fault!r}, and you said {said!r}. Look again: {looks[fault]} (training "
            f"{curves[0][0]:.1f} … {curves[0][-1]:.1f}, unseen … {curves[1][-1]:.1f}, sound {sound[0][-1]:.1f} and "
            f"{sound[1][-1]:.1f})"
        )
        assert (curves, sound) == before, "leave the lists that you are given as they are"

    for fault, seed in runs:
        for other in {0, 1, 2} - {seed}:
            ask(runs[fault, seed], runs["none", other], fault, f"a recorded run, of seed {seed},")
    (training, unseen), sound = runs["none", 1], runs["none", 2]
    for lost in (math.nan, math.inf):
        broken = [*training[:12], *[lost] * 8], [*unseen[:12], *[lost] * 8]
        ask(broken, sound, "rates too high", f"a run whose losses are {lost} from step 130 on")
    spike = [loss + 3 * (n == 7) for n, loss in enumerate(training)]
    ask((spike, unseen), sound, "none", "a sound run with one strange text in the middle")
    return "Faults that nobody recorded for you look less clear; this is why one keeps a sound run to compare with"


class ToyRun:
    """A training loop with everything that a real one has: a weight, momentum, a schedule, text, random numbers."""

    TEXT = (3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0)
    STEPS = 40

    def __init__(self, seed: int):
        self.weight, self.momentum = 0.0, 0.0
        self.iteration, self.place = 0, 0
        self.lowest = math.inf  # of the losses
        self.random = random.Random(seed)

    def step(self) -> float:
        """One step of gradient descent towards the text's mean; its loss."""
        self.place = (self.place + self.random.choice((1, 2))) % len(self.TEXT)  # skips a word now and then
        gradient = self.weight - self.TEXT[self.place] + self.random.gauss(0, 0.1)
        self.momentum = 0.9 * self.momentum + gradient
        self.weight -= 0.1 * (1 - self.iteration / self.STEPS) * self.momentum
        self.iteration += 1
        loss = gradient**2 + (0.01 if gradient**2 > self.lowest else 0.0)
        self.lowest = min(self.lowest, loss)
        return loss


def forget_nothing(pack, unpack) -> None:
    """Exercise 10.3."""
    for seed, stop in ((0, 7), (1, 1), (2, 0), (3, 20)):
        run = ToyRun(seed)
        for _ in range(stop):
            run.step()
        untouched = copy.deepcopy(run)
        packed = pack(run)
        assert packed is not None, "pack returned nothing: it needs a return"
        try:
            text = json.dumps(packed)
        except TypeError as error:
            raise AssertionError(f"json.dumps cannot write what pack returned ({error})") from error
        assert run.random.getstate() == untouched.random.getstate(), "pack drew random numbers; saving changes nothing"
        try:
            resumed = unpack(json.loads(text))
        except TypeError as error:
            raise AssertionError(f"unpack failed on what json.loads gave back: {error}") from error
        assert isinstance(resumed, ToyRun), f"unpack must return a ToyRun, not {type(resumed).__name__}"
        assert resumed is not run, "unpack must make a new ToyRun from what was packed"
        for what in ("weight", "momentum", "iteration", "place", "lowest"):
            now, before = getattr(resumed, what), getattr(untouched, what)
            assert now == before, f"after {stop} steps {what} was {before}, and is {now} after unpack"
        assert resumed.random.getstate() == untouched.random.getstate(), (
            f"after {stop} steps the random numbers go on differently: save their state, not only the seed"
        )
        ahead = [untouched.step() for _ in range(10)]
        assert [resumed.step() for _ in range(10)] == ahead, "the next ten losses differ from the uninterrupted run's"
