"""Checks for the exercises of notebook 10."""

import copy
import json
import math
import random

import mlx.core as mx


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
    assert abs(loss - 2.5) < 1e-6, f"one target with loss 4 and three with 2 have the mean 2.5, not {loss}"
    assert set(gradients) == {"w", "b"}, f"the gradients have the names w and b, not {sorted(gradients)}"
    for name, truth in (("w", [4.0, 3.0]), ("b", [-1.0])):
        found = gradients[name].tolist()
        assert mx.allclose(gradients[name], mx.array(truth)), f"the gradient of {name} is {truth}, not {found}"
    after = [(count, loss, {name: array.tolist() for name, array in g.items()}) for count, loss, g in parts]
    assert after == given, "leave the parts that you are given as they are"
    loss, gradients = answer([(0, 0.0, {"w": mx.zeros(2)}), (0, 0.0, {"w": mx.zeros(2)})])
    assert loss == 0 and gradients["w"].tolist() == [0, 0], (
        f"when no target counts, the loss is 0.0 and the gradients are zeros, not {loss} and {gradients['w'].tolist()}"
    )


def smooth(answer) -> None:
    """Exercise 10.2."""
    losses = [6.0, 5.0, 4.0, 8.0]
    given = list(losses)
    for beta in (0.9, 0.5, 0.0):
        found = answer(losses, beta)
        assert found is not None, "nothing came back: the function needs a return"
        found = list(found)
        assert len(found) == 4, f"4 losses have 4 smoothed ones, not {len(found)}"
        assert abs(found[0] - (1 - beta) * 6) > 1e-6 or beta == 0, (
            f"the first smoothed loss is {found[0]:.3g}: the average begins at 0; divide by what its weights add up to"
        )
        assert abs(found[0] - 6) < 1e-6, f"after one loss of 6 the smoothed one is 6, not {found[0]:.3g}"
        for n in range(4):
            weights = [beta ** (n - k) for k in range(n + 1)]
            truth = sum(w * loss for w, loss in zip(weights, losses, strict=False)) / sum(weights)
            assert abs(found[n] - truth) < 1e-6, (
                f"beta={beta}: after {n + 1} losses the smoothed one is {truth:.4f}, not {found[n]:.4f}"
            )
    assert losses == given, "leave the list that you are given as it is"
    assert list(answer([])) == [], "no losses have no smoothed ones: []"
    assert abs(list(answer(losses))[-1] - list(answer(losses, 0.9))[-1]) < 1e-9, "beta is 0.9 when it is not given"


def bits_per_byte(answer) -> None:
    """Exercise 10.3."""
    token_bytes = [1, 3, 0, 2, 9]  # id 2 is special
    losses, targets = [1.0, 2.0, 5.0, 4.0, 7.0], [0, 1, 2, 3, -1]
    nats, size = 1.0 + 2.0 + 4.0, 1 + 3 + 2
    truth = nats / math.log(2) / size
    found = answer(losses, targets, token_bytes)
    assert found is not None, "nothing came back: the function needs a return"

    def off_by(nats, size):
        return abs(found - nats / math.log(2) / size) < 1e-6

    assert not off_by(nats + 5 + 7, size + 9), "nothing is left out: the special token and the target -1 must not count"
    assert not off_by(nats + 5 + 7, size), "the loss of a target that does not count is still in the sum"
    assert not off_by(nats + 5, size), "the loss of the special token is still in the sum"
    assert not off_by(nats + 7, size + 9), "token_bytes[-1] is the last id; a target of -1 counts for nothing"
    assert not off_by(nats + 7, size), "the loss of the target -1 is still in the sum"
    assert abs(found - nats / size) > 1e-6, "these are nats per byte; a bit is ln 2 nats"
    per_token = sum(loss / b for loss, b in ((1.0, 1), (2.0, 3), (4.0, 2))) / 3 / math.log(2)
    assert abs(found - per_token) > 1e-6, "this is the mean of each token's ratio; take the sums first, then divide"
    assert abs(found - truth) < 1e-6, f"7 nats over 6 bytes are {truth:.4f} bits per byte, not {found:.4f}"
    for targets in ([-1, 2], []):
        found = answer([1.0, 1.0][: len(targets)], targets, token_bytes)
        assert math.isnan(found), f"when nothing counts return NaN (math.nan), not {found}"


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
    """Exercise 10.4."""
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
