"""What the course reaches on this device, as Markdown tables: matrix products, training, memory, decoding, PyTorch.

python tests/benchmarks/bench_gpu.py                           d4 and d12 of both years on a GPU; d2 and d4 on a CPU
python tests/benchmarks/bench_gpu.py --depths 12 --model 2026  one model: nanochat's of July 2026
python tests/benchmarks/bench_gpu.py --quick                   d1 and d2, tiny: does it run?

Nothing is compared with a maker's figures: all speeds are shares of what this device reaches here, in a product of two
large matrices and in adding two large arrays. (On a CPU one thread adds, so decoding may reach more than that.)
Training is the Trainer's step, Muon and AdamW included, on one micro-batch of random ids: as many rows as fit the
memory and take a few seconds. Kernels are the operations of a step that compute something; those that only look at
memory in another way are left out. Decoding is the Engine's, greedy; for each token of all rows it reads once all
weights but the tables, of which it needs a row, and as much of the KV cache as each block's window lets it see.

Where PyTorch is installed, the same model with the same weights goes forward and backward there, eager, in the same
number type on the same device (`torch_peer.py` says how), and both losses are shown. Only forward and backward are
compared, not the whole step: PyTorch has no optimizer that does the work of this one, and AdamW for all would do less.

A model that fails leaves the others their figures; so does a SIGTERM, as `timeout` sends it.
No figures of a GPU have been measured yet.
"""

import argparse
import importlib.util
import io
import platform
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from itertools import product

import mlx.core as mx
from mlx.utils import tree_flatten

from course_lib import backend
from course_lib.generate.engine import Engine
from course_lib.model.gpt import GPT, GPTConfig
from course_lib.model.kinds import KINDS, make_model, windows_of
from course_lib.model.sizes import count_parameters, estimate_memory, flops_per_token
from course_lib.train.fast_trainer import FastTrainer
from course_lib.train.flags import FILLED, usual_rates

VIEWS = (
    "Transpose Reshape Broadcast BroadcastAxes ExpandDims Squeeze Flatten Unflatten Slice Split AsStrided "
    "Depends CustomTransforms StopGradient NumberOfElements"
).split()

Batch = tuple[mx.array, mx.array]


def seconds_of(run: Callable[[], object], seconds: float, warm_up: int = 2) -> float:
    """Mean seconds of a call, over calls that take `seconds` together, three at least."""
    for _ in range(warm_up):  # loads and compiles
        run()
    started, count = time.perf_counter(), 0
    while count < 3 or time.perf_counter() - started < seconds:
        run()
        count += 1
    return (time.perf_counter() - started) / count


def memory_speed(numbers: int, seconds: float) -> float:
    """Bytes a second that go to and from memory while two arrays of so many float32 numbers are added."""
    a, b = mx.ones((numbers,)), mx.ones((numbers,))
    mx.eval(a, b)
    return 3 * a.nbytes / seconds_of(lambda: mx.eval(a + b), seconds)


def shape_for(config: GPTConfig, bound: float) -> tuple[int, GPTConfig]:
    """(rows, the model for rows as long): the most that fit the memory and take two seconds, on a slow device more."""
    room = FILLED * backend.memory_for_arrays()
    while True:
        for rows in (16, 8, 4, 2, 1):
            seconds = rows * config.sequence_len * flops_per_token(config) / (0.3 * bound)  # 0.3: a careful MFU
            fits = estimate_memory(config, rows)["total"] <= room and seconds <= 2
            if fits or (rows == 1 and config.sequence_len <= 256):
                return rows, config
        config = replace(config, sequence_len=config.sequence_len // 2)


def kernels(arrays: object) -> int:
    """Operations that compute something in the graph behind some arrays that are not yet evaluated."""
    text = io.StringIO()
    mx.export_to_dot(text, *(array for _, array in tree_flatten(arrays)))
    names = re.findall(r'label ="([^"]*)", shape=rectangle', text.getvalue())
    return sum(name not in VIEWS for name in names)


def kernels_of_a_step(trainer: FastTrainer, batch: Batch) -> tuple[int, int]:
    """Of forward and backward, and of the update, which are made."""
    loss, gradients = trainer.add_gradients({}, *batch)
    before = kernels([loss, gradients])
    mx.eval(loss, gradients)
    trainer.update(gradients, mx.array(1.0))
    made = [trainer.model.parameters(), trainer.optimizer.state]
    after = kernels(made)
    mx.eval(made)
    return before, after


def eager_torch(model: GPT, batch: Batch, seconds: float) -> tuple[float, float] | str:
    """(seconds of forward and backward, loss) of the same model in eager PyTorch; or why there are none."""
    if importlib.util.find_spec("torch") is None:
        return "PyTorch is not installed"
    device = {"metal": "mps", "cuda": "cuda", "cpu": "cpu"}[backend.device_kind()]
    try:
        import torch
        from torch_peer import Peer

        peer = Peer(model, device, getattr(torch, dtype_name()))
        ids, targets = (peer.tensor(array) for array in batch)
        return seconds_of(lambda: peer.passes(ids, targets), seconds), peer.passes(ids, targets)
    except Exception as error:  # whatever is wrong there, our own figures stay
        return f"PyTorch: {type(error).__name__}, {' '.join(str(error).replace('|', '/').split())[:60]}"


class NoText:
    """In place of a tokenizer: prompts are ids, and no id ends a text, so that each is as long as was asked for."""

    vocab_size, bos = 0, -1

    def special(self, name: str) -> int:
        """None of the ids."""
        return -1


def decode(model: GPT, rows: int, speed: float) -> tuple[float, float]:
    """(tokens a second of all rows together, share of the memory's speed) of greedy decoding."""
    config, engine = model.config, Engine(model, NoText(), keep_prefixes=0)
    prompt, steps = [1] * min(64, config.sequence_len // 4), min(128, config.sequence_len // 2)
    times = []
    for _ in engine.generate(prompt, num_samples=rows, max_tokens=steps, temperature=0):
        times.append(time.perf_counter())
    first = steps // 8  # these load and compile
    seconds = (times[-1] - times[first]) / (len(times) - 1 - first)
    tables = re.compile("wte|value_embeds")  # of these, a row
    weights = sum(array.nbytes for name, array in tree_flatten(model.parameters()) if not tables.search(name))
    keys = sum(min(window, len(prompt) + steps // 2) for window in windows_of(config))
    cached = 2 * rows * keys * config.n_kv_head * config.head_dim * backend.compute_dtype().size
    return rows / seconds, (weights + cached) / seconds / speed


def measure(config: GPTConfig, rows: int, bound: float, speed: float, seconds: float) -> dict[str, str]:
    """The column of one model. bound: FLOP/s of matrix products; speed: bytes a second of the memory."""
    T = config.sequence_len
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    trainer = FastTrainer(make_model(config), 10**6, usual_rates(config))
    batch = tuple(mx.random.randint(0, config.vocab_size, (2, rows, T)))
    counts = kernels_of_a_step(trainer, batch)
    step = seconds_of(lambda: trainer.step([batch]), seconds)
    peak = mx.get_peak_memory() - before
    passes = seconds_of(lambda: mx.eval(trainer.add_gradients({}, *batch)), seconds)
    loss, model, trainer = trainer.add_gradients({}, *batch)[0].item(), trainer.model, None
    mx.clear_cache()
    peer = eager_torch(model, batch, seconds)
    if "torch" in sys.modules:
        sys.modules["torch"].cuda.empty_cache()  # the memory is for MLX again; without CUDA nothing happens
    theirs = (peer, peer) if isinstance(peer, str) else (f"{rows * T / peer[0]:,.0f}", f"{peer[1]:.4f}")
    model.set_dtype(backend.compute_dtype())
    work, estimate = rows * T * flops_per_token(config) / bound, estimate_memory(config, rows)["total"]
    decoded = {n: decode(model, n, speed) for n in (1, 8)}
    column = {
        "parameters": f"{count_parameters(config):,}",
        "rows × tokens of a step": f"{rows} × {T}",
        "training step, tokens/s": f"{rows * T / step:,.0f}",
        "training step, MFU": f"{work / step:.1%}",
        "forward and backward, tokens/s": f"{rows * T / passes:,.0f}",
        "forward and backward, MFU": f"{work / passes:.1%}",
        "the same in eager PyTorch, tokens/s": theirs[0],
        "loss of these rows then": f"{loss:.4f}",
        "the same in eager PyTorch": theirs[1],
        "kernels of forward and backward": f"{counts[0]:,}",
        "kernels of the update": f"{counts[1]:,}",
        "peak memory, GB": f"{peak / 1e9:.3f}",
        "peak memory / estimate": f"{peak / estimate:.2f}",
    }
    for n, (tokens, share) in decoded.items():
        column[f"decoding {n} {'row' if n == 1 else 'rows'}, tokens/s"] = f"{tokens:,.0f}"
        column[f"decoding {n} {'row' if n == 1 else 'rows'}, share of memory speed"] = f"{share:.1%}"
    return column


def dtype_name() -> str:
    """Of the type to compute in, as both MLX and PyTorch call it."""
    return str(backend.compute_dtype()).split(".")[-1]


def table(head: list[str], rows: dict[str, list[str]]) -> str:
    """In Markdown."""
    lines = [head, ["---"] * len(head), *([name, *values] for name, values in rows.items())]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--depths", type=int, nargs="+", help="others than these")
    parser.add_argument("--model", choices=KINDS, nargs="+", default=list(KINDS), help="by default both years")
    options = parser.parse_args()
    quick, on_cpu = options.quick, backend.device_kind() == "cpu"
    seconds = 0.05 if quick else 5.0
    n = 128 if quick else 1024 if on_cpu else 8192
    depths = options.depths or ([1, 2] if quick else [2, 4] if on_cpu else [4, 12])
    small = {"vocab_size": 512, "sequence_len": 160} if quick else {}
    products = {
        name: backend.matmul_gflops(n, getattr(mx, name), min(1.0, seconds)) for name in ("float32", "bfloat16")
    }
    bound, speed = 1e9 * products[dtype_name()], memory_speed(1 << 18 if quick else 1 << 26, min(1.0, seconds))
    facts = {
        "device": f"{backend.device_name()} ({backend.device_kind()})",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}, MLX {mx.__version__}",
        "memory, GB": f"{backend.memory_bytes() / 1e9:.1f}",
        "memory for arrays, GB": f"{backend.memory_for_arrays() / 1e9:.1f}",
        "models compute in": dtype_name(),
        **{f"products of {n} × {n}, {name}, TFLOP/s": f"{gflops / 1e3:.3f}" for name, gflops in products.items()},
        "adding two arrays, GB/s": f"{speed / 1e9:.1f}",
    }
    print(table(["this machine", ""], {name: [value] for name, value in facts.items()}), flush=True)

    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # so that what is known by then is shown
    columns, failed = {}, False
    try:
        for depth, year in product(depths, options.model):
            rows, config = shape_for(KINDS[year].config.from_depth(depth, **small), bound)
            try:
                columns[f"d{depth}, {year}"] = measure(config, rows, bound, speed, seconds)
            except Exception:  # the others are still of use
                traceback.print_exc()
                failed = True
    finally:
        names = next(iter(columns.values()), [])
        print()
        print(table(["model", *columns], {name: [c[name] for c in columns.values()] for name in names}), flush=True)
    print("\nAll tests on this device: uv run pytest")
    sys.exit(failed)


if __name__ == "__main__":
    main()
