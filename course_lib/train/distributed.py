"""Several processes that train one model: each has it whole, and they share the work of a step.

Written by hand; chapter 20 explains it.
"""

import json
from typing import Any

import mlx.core as mx
import numpy as np

from course_lib.train.muon import Muon

Group = mx.distributed.Group


def share_out(costs: list[float], size: int) -> list[int]:
    """Who does what: for each task one of `size` workers, so that all have about as much to do."""
    load, owners = [0.0] * size, [0] * len(costs)
    for task in sorted(range(len(costs)), key=lambda task: -costs[task]):
        owners[task] = load.index(min(load))
        load[owners[task]] += costs[task]
    return owners


def share_work(muon: Muon, group: Group) -> Muon:
    """The same optimizer; from now on each process makes some of the matrices orthogonal, and all get all."""
    alone = muon.directions

    def directions(matrices: list[mx.array]) -> list[mx.array]:
        owners = share_out([m.size * min(m.shape[-2:]) for m in matrices], group.size())
        mine = [place for place, owner in enumerate(owners) if owner == group.rank()]
        done = dict(zip(mine, alone([matrices[place] for place in mine]), strict=True))
        parts = [done.get(place, mx.zeros_like(matrix)) for place, matrix in enumerate(matrices)]
        return sum_together(parts, group)

    muon.directions = directions
    return muon


def sum_together(arrays: list[mx.array], group: Group) -> list[mx.array]:
    """The sum of each array over all processes, in one message."""
    sizes = np.cumsum([array.size for array in arrays])[:-1].tolist()
    flat = mx.distributed.all_sum(mx.concatenate([array.reshape(-1) for array in arrays]), group=group)
    return [part.reshape(array.shape) for part, array in zip(mx.split(flat, sizes), arrays, strict=True)]


def broadcast(arrays: dict[str, mx.array], group: Group) -> dict[str, mx.array]:
    """The arrays of process 0, in all processes; all bring the same names, shapes and types."""
    if group.size() == 1:
        return arrays
    received = {}
    for name in sorted(arrays):  # in one order everywhere: else messages meet the wrong ones
        mine = arrays[name] if group.rank() == 0 else mx.zeros_like(arrays[name])
        received[name] = mx.distributed.all_sum(mine, group=group)
        mx.eval(received[name])
    return received


def broadcast_json(value: Any, group: Group) -> Any:
    """What process 0 says, anything that JSON can hold, in all processes."""
    text = np.frombuffer(json.dumps(value).encode(), dtype=np.uint8)
    size = broadcast({"size": mx.array(len(text))}, group)["size"].item()
    text = text if group.rank() == 0 else np.zeros(size, np.uint8)
    received = broadcast({"text": mx.array(text)}, group)["text"]
    return json.loads(bytes(np.array(received)))


def all_max(number: float, group: Group) -> float:
    """The largest of the numbers that the processes bring."""
    return mx.distributed.all_max(mx.array(number, mx.float32), group=group).item()


def all_sum(numbers: list[float], group: Group) -> list[float]:
    """The sums over all processes of the numbers that each brings."""
    return mx.distributed.all_sum(mx.array(numbers, mx.float32), group=group).tolist()
