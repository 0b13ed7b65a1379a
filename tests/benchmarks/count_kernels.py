"""How many kernels a GPU starts for a training step, read off MLX's graph: no GPU is needed, and nothing is computed.

python tests/benchmarks/count_kernels.py

What mx.compile has fused is one kernel. A view is none, such as a transpose or a slice, which is read where it lies. A
concatenation is one for each of its parts, which are copied one by one. Before Muon's matrices were stacked, an update
took 708 kernels for d4 and 2,108 for d12.
"""

import io
import re
from collections import Counter

import mlx.core as mx
from mlx.utils import tree_flatten, tree_map

from course_lib import backend
from course_lib.model.gpt import GPT, GPTConfig
from course_lib.train.fast_trainer import FastTrainer

VIEWS = {"Broadcast", "ExpandDims", "Flatten", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unflatten"}
VIEWS |= {"CustomTransforms", "Depends"}  # they only say what comes from what


def primitives(tree) -> Counter:
    """How often each primitive but views is in the graph of a tree of arrays that are not computed yet.

    "copies" are the parts of all concatenations.
    """
    graph = io.StringIO()
    mx.export_to_dot(graph, [array for _, array in tree_flatten(tree)])
    lines = graph.getvalue()
    nodes = re.findall(r'\{ (\d+) \[label ="([^"]*)", shape=rectangle\]; \}', lines)
    counts = Counter(name for _, name in nodes if name not in VIEWS)
    counts["copies"] = sum(lines.count(f" -> {node}\n") for node, name in nodes if name == "Concatenate")
    return counts


def total(counts: Counter) -> tuple[int, int]:
    """Primitives, and kernels: the same with the copies of each concatenation one by one."""
    number = counts.total() - counts["copies"]
    return number, number + counts["copies"] - counts["Concatenate"]


def trace_gradients(trainer: FastTrainer) -> Counter:
    """Of the loss and the gradients of a micro-batch of one row."""
    ids = mx.zeros((1, trainer.model.config.sequence_len), mx.int32)
    return primitives(trainer.add_gradients({}, ids, ids))


def trace_update(trainer: FastTrainer) -> Counter:
    """Of an update. It cannot be undone: the trainer is of no more use."""
    state = trainer.model.trainable_parameters(), trainer.optimizer.state, mx.array(1.0)
    mx.eval(state)
    trainer.update(tree_map(lambda weight: weight, state[0]), state[2])
    return primitives([trainer.model.parameters(), trainer.optimizer.state])


def main() -> None:
    """Print the table."""
    print("       forward and backward    update, each matrix alone    update, matrices of a shape at once")
    print("       primitives   kernels         primitives   kernels         primitives   kernels")
    for depth in (4, 12):
        counts = []
        for trace, kind in ((trace_gradients, "metal"), (trace_update, "cpu"), (trace_update, "metal")):
            backend.device_kind = lambda kind=kind: kind
            trainer = FastTrainer(GPT(GPTConfig.from_depth(depth, vocab_size=512)), 10, compiled=True)
            mx.eval(trainer.model.parameters())
            counts.append("{:16,d} {:9,d}".format(*total(trace(trainer))))
        print(f"d{depth:<4d}", "   ".join(counts))


if __name__ == "__main__":
    main()
