"""Several processes bring their numbers together, and train the model that one would."""

import json
import os
import sys
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from devices import assert_same_numbers, differing
from mlx.utils import tree_flatten
from test_local_ring import launch_in_time
from test_training import Small

from course_lib import backend
from course_lib.model.gpt import GPT, GPTConfig, init_weights
from course_lib.train.distributed import (
    all_max,
    all_sum,
    broadcast,
    broadcast_json,
    share_out,
    share_work,
    sum_together,
)
from course_lib.train.fast_trainer import FastTrainer
from course_lib.train.muon import Muon
from course_lib.train.validation import validate

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("float32")]

V, T = 37, 16


# ---- alone


def test_alone_every_exchange_gives_what_was_brought():
    group = mx.distributed.init()
    arrays = {"a": mx.array([1.5]), "b": mx.array([2], mx.uint32)}
    assert broadcast(arrays, group) is arrays
    for value in (None, 3, "ü", [1, {"a": None}], {"lowest": float("inf")}):
        assert broadcast_json(value, group) == value
    assert all_max(2.5, group) == 2.5 and all_sum([1.0, 2.5], group) == [1.0, 2.5]
    parts = [mx.arange(6).reshape(2, 3), mx.array(7), mx.arange(4)]
    for part, back in zip(parts, sum_together(parts, group), strict=True):
        assert back.shape == part.shape and (back == part).all().item()


@pytest.mark.parametrize("kind", ["cpu", "metal"])  # on a GPU all matrices of a shape at once
def test_muon_that_shares_its_work_with_nobody_is_muon(kind, monkeypatch):
    monkeypatch.setattr(backend, "device_kind", lambda: kind)
    group, key = mx.distributed.init(), mx.random.key(0)
    weights = {"a": mx.random.normal((6, 4), key=key), "b": {"c": mx.random.normal((3, 9), key=key)}}
    ends = []
    for optimizer in (Muon(0.03), share_work(Muon(0.03), group)):
        parameters = weights
        optimizer.init(weights)
        for step in range(4):
            optimizer.state["momentum"] = mx.array(0.8 + 0.01 * step)
            gradients = {"a": weights["a"] * (step + 1), "b": {"c": mx.sin(weights["b"]["c"] * step + 1)}}
            parameters = optimizer.apply_gradients(gradients, parameters)
        ends.append((parameters, optimizer.state))
    one, other = (dict(tree_flatten(end)) for end in ends)
    assert one.keys() == other.keys()
    assert all((one[name] == other[name]).all().item() for name in one)


@pytest.mark.parametrize("size", [1, 2, 3, 8])
@pytest.mark.parametrize("costs", [[5, 5, 5, 5], [9, 1, 1, 1, 1, 1], [3, 1, 4, 1, 5, 9, 2, 6], [7], []])
def test_work_is_shared_out_evenly(size, costs):
    owners = share_out(costs, size)
    assert len(owners) == len(costs) and all(0 <= owner < size for owner in owners)
    load = [sum(cost for cost, owner in zip(costs, owners, strict=True) if owner == worker) for worker in range(size)]
    # no worker could have begun its last task later than when all were as busy (Graham, 1966)
    assert max(load) <= sum(costs) / size + max(costs, default=0)
    if len(costs) % size == 0 and len(set(costs)) == 1:
        assert len(set(load)) == 1
    assert owners == share_out(costs, size)


# ---- together


def tiny():
    model = GPT(GPTConfig(T, V, 2, 4, 2, 32))
    init_weights(model, 1)
    return model


def batches(count, seed):
    ids = np.random.default_rng(seed).integers(0, V, (count, 2, T + 1))
    return [(mx.array(each[:, :-1]), mx.array(each[:, 1:])) for each in ids]


STEPS = 6


def train(group, in_all):
    """Six steps of `in_all` micro-batches in all, of which each process has its share; the trainer and its results."""
    trainer, results = FastTrainer(tiny(), STEPS, group=group), []
    mine = in_all // group.size()
    for it in range(STEPS):
        first = group.rank() * mine
        results.append(trainer.step(batches(in_all, it)[first : first + mine]))
    return trainer, results


def train_small(group, compiled):
    """The weights of a small model after three steps."""
    mx.random.seed(0)
    model = Small()
    trainer = FastTrainer(model, 3, group=group, compiled=compiled)
    for it in range(3):
        trainer.step(batches(group.size(), it)[group.rank() :][:1])
    return model.parameters()


def member(folder):
    """What each process of a ring does; called by the program below."""
    group = mx.distributed.init()
    rank, size = group.rank(), group.size()
    mx.random.seed(rank)

    tree = {"b": mx.random.normal((3, 5)), "a": mx.array([rank + 5], mx.uint64), "r": mx.array(mx.random.state[0])}
    mine = {name: np.array(array) for name, array in tree.items()}
    tree = dict(sorted(tree.items(), reverse=rank == 1))  # the order of the names must not matter
    got = broadcast(tree, group)
    np.savez(folder / f"first_{rank}.npz", **{name: np.array(array) for name, array in got.items()})
    np.savez(folder / f"mine_{rank}.npz", **mine)

    said = {}
    values = ([None, 3, "ü" * 1000, {"a": [1, None], "x": 1e300}, []], [1, "2", None, 0, 5], [None] * 5)[rank]
    said["values"] = [broadcast_json(value, group) for value in values]
    said["most"] = [all_max(n, group) for n in (float(rank), float(-rank), 143.0 if rank == 1 else 0)]
    said["total"] = all_sum([rank + 1.0, 10.0], group)
    sums = sum_together([mx.full((2, 3), rank + 1.0), mx.array(float(rank)), mx.ones((7,))], group)
    said["sums"] = [array.tolist() for array in sums]

    in_all = {2: 2, 3: 6}[size]
    trainer, results = train(group, in_all)
    trees = {"weights": trainer.model.parameters(), "state": trainer.optimizer.state}
    np.savez(folder / f"end_{rank}.npz", **{name: np.array(array) for name, array in tree_flatten(trees)})
    said["losses"], said["norms"] = [r.loss for r in results], [r.grad_norm for r in results]
    said["own"] = [r.losses for r in results]
    os.environ["TMPDIR"] = str(folder / f"kernels_{rank}")  # of its own, or two compile into one file
    (folder / f"kernels_{rank}").mkdir()
    small = {name: train_small(group, name == "compiled") for name in ("plain", "compiled")}
    np.savez(folder / f"small_{rank}.npz", **{name: np.array(array) for name, array in tree_flatten(small)})

    pairs = batches(5, seed=9)[rank::size]
    said["bits"] = validate(trainer.model, pairs, mx.ones((V,), mx.int32), group)
    (folder / f"said_{rank}.json").write_text(json.dumps(said))


PROGRAM = "import pathlib, sys, test_distributed\ntest_distributed.member(pathlib.Path(sys.argv[1]))\n"


@pytest.fixture(scope="module", params=[2, 3])
def ring(request, tmp_path_factory):
    """(number of processes, what each said, arrays("end", rank)) of a ring that has run."""
    folder, size = tmp_path_factory.mktemp("ring"), request.param
    (folder / "one_of_the_ring.py").write_text(PROGRAM)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", ":".join([str(folder), str(Path(__file__).parent), *sys.path]))
        assert launch_in_time("one_of_the_ring", [str(folder)], size) == 0
    said = [json.loads((folder / f"said_{rank}.json").read_text()) for rank in range(size)]
    return size, said, lambda name, rank: dict(np.load(folder / f"{name}_{rank}.npz"))


def test_all_have_what_the_first_has_whatever_its_type(ring):
    size, said, arrays = ring
    mine = arrays("mine", 0)
    for rank in range(size):
        got = arrays("first", rank)
        assert got.keys() == mine.keys()
        for name in mine:
            assert got[name].dtype == mine[name].dtype and (got[name] == mine[name]).all()
        assert said[rank]["values"] == [None, 3, "ü" * 1000, {"a": [1, None], "x": 1e300}, []]


def test_all_agree_on_the_most_and_the_sums(ring):
    size, said, _ = ring
    everyone = sum(range(1, size + 1))
    for one in said:
        assert one["most"] == [size - 1, 0, 143]
        assert one["total"] == [everyone, 10.0 * size]
        assert one["sums"] == [[[everyone] * 3] * 2, everyone - size, [size] * 7]


def test_all_processes_end_with_the_same_weights_and_state(ring):
    size, said, arrays = ring
    first = arrays("end", 0)
    for rank in range(1, size):
        other = arrays("end", rank)
        assert [name for name in first if first[name].tobytes() != other[name].tobytes()] == []
        for key in ("losses", "norms", "bits"):
            assert said[rank][key] == said[0][key]
    assert said[0]["own"] != said[1]["own"]  # each had batches of its own


def test_a_compiled_step_is_that_of_a_plain_one_and_the_same_in_all_processes(ring):
    size, _, arrays = ring
    first = arrays("small", 0)
    names = [name.removeprefix("plain.") for name in first if name.startswith("plain.")]
    for name in names:
        np.testing.assert_allclose(first[f"compiled.{name}"], first[f"plain.{name}"], atol=1e-5)
    for rank in range(1, size):
        other = arrays("small", rank)
        assert [name for name in first if first[name].tobytes() != other[name].tobytes()] == []


def test_they_train_what_one_process_with_more_accumulation_does(ring):
    size, said, arrays = ring
    trainer, results = train(mx.distributed.init(), {2: 2, 3: 6}[size])
    trees = {"weights": trainer.model.parameters(), "state": trainer.optimizer.state}
    alone, together = {name: np.array(array) for name, array in tree_flatten(trees)}, arrays("end", 0)
    assert alone.keys() == together.keys()
    if size == 2:  # two numbers have one sum; three are added in another order
        assert differing(alone, together) == []
        assert_same_numbers([r.grad_norm for r in results], said[0]["norms"], rel=1e-3)
    else:
        for name in alone:
            if name.startswith("weights"):
                assert np.quantile(np.abs(alone[name] - together[name]), 0.99) < 1e-4, name
        np.testing.assert_allclose([r.grad_norm for r in results], said[0]["norms"], rtol=1e-3)
    np.testing.assert_allclose([r.loss for r in results], said[0]["losses"], rtol=1e-5)
    bits = validate(trainer.model, batches(5, seed=9), mx.ones((V,), mx.int32))
    assert said[0]["bits"] == pytest.approx(bits, rel=1e-5)
