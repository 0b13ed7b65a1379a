"""A whole training step of a small GPT, optimizer included: processes of MLX against eager PyTorch on as many threads.

python tests/benchmarks/bench_training.py [--rounds 3] [--processes 1 2]

The model: 4 layers, n_embd 256, vocabulary 4096, 8 rows of 256 tokens in a step, float32 on the CPU. Each round starts
every program anew, one after the other, and each program makes ten steps, of which the fastest counts. Two optimizers:
AdamW for all parameters, and Muon for the matrices of the blocks with AdamW for the rest, as `base_train` does it. The
programs choose OpenBLAS's kernels themselves (OPENBLAS_CORETYPE is taken away). PyTorch is no part of the course:
without it, only our own figures are printed. torch.optim.Muon does its Newton-Schulz steps in bfloat16.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import mlx.core as mx
import mlx.optimizers as optim

from course_lib import backend
from course_lib.model.gpt import GPT
from course_lib.model.sizes import flops_per_token
from course_lib.train.fast_trainer import FastTrainer
from course_lib.train.local_ring import launch
from course_lib.train.optim import make_optimizer

try:
    import torch
except ImportError:
    torch = None

STEPS = 10


def batch() -> tuple[GPT, mx.array, mx.array]:
    """The model, and 8 rows of ids and targets."""
    from bench_gpt import BATCH_SIZE, CONFIG

    model = GPT(CONFIG)
    ids, targets = mx.random.randint(0, CONFIG.vocab_size, (2, BATCH_SIZE, CONFIG.sequence_len), key=mx.random.key(0))
    return model, ids, targets


def mlx_seconds(optimizer: str) -> float:
    """Seconds of a step of the Trainer, in as many processes as were started."""
    mx.set_default_device(mx.cpu)
    group = mx.distributed.init()
    model, ids, targets = batch()
    trainer = FastTrainer(model, STEPS + 1, group=group)
    if optimizer == "adamw":
        trainer.optimizer = make_optimizer(model, muon=lambda rate: optim.AdamW(rate, bias_correction=True))
        trainer.compile_functions()
    rows = ids.shape[0] // group.size()
    mine = slice(group.rank() * rows, (group.rank() + 1) * rows)
    return fastest(lambda: trainer.step([(ids[mine], targets[mine])]))


def torch_seconds(optimizer: str, threads: int) -> float:
    """Seconds of the same step in PyTorch."""
    from bench_gpt import torch_step

    forward_and_backward, weights = torch_step(*batch(), threads)
    matrices = [weight for name, weight in weights.items() if ".h." in name and optimizer == "muon"]
    others = [weight for weight in weights.values() if not any(weight is matrix for matrix in matrices)]
    optimizers = [torch.optim.AdamW(others, lr=1e-3, weight_decay=0.0)]
    if matrices:
        optimizers.append(torch.optim.Muon(matrices, lr=0.02, weight_decay=0.0))

    def step() -> None:
        forward_and_backward()
        torch.nn.utils.clip_grad_norm_(weights.values(), 1.0)
        for each in optimizers:
            each.step()

    return fastest(step)


def fastest(step) -> float:
    """Seconds of the fastest of STEPS steps, after one to warm up."""
    step()
    best = float("inf")
    for _ in range(STEPS):
        started = time.perf_counter()
        step()
        best = min(best, time.perf_counter() - started)
    return best


def measure(kind: str, optimizer: str, count: int) -> list[float]:
    """Seconds of a step, and GFLOP/s of a process, measured in a program of its own, or in `count` processes of it."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "seconds.json"
        arguments = ["--worker", kind, optimizer, str(count), str(result)]
        if kind == "mlx" and count > 1:
            code = launch("bench_training", arguments, count)
        else:
            threads = {"OPENBLAS_NUM_THREADS": "1"} if kind == "mlx" else {"OMP_NUM_THREADS": str(count)}
            command = [sys.executable, "-m", "bench_training", *arguments]
            code = subprocess.run(command, env={**os.environ, **threads}, check=False).returncode
        if code:
            sys.exit(f"{kind} with {optimizer} ended with {code}")
        return json.loads(result.read_text())


def worker(kind: str, optimizer: str, count: str, result: str) -> None:
    """Measure in this process, and let the first process write the result."""
    seconds = mlx_seconds(optimizer) if kind == "mlx" else torch_seconds(optimizer, int(count))
    peak = backend.matmul_gflops() if kind == "mlx" else None
    if os.environ.get("MLX_RANK", "0") == "0":
        Path(result).write_text(json.dumps([seconds, peak]))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--worker", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        worker(*arguments.worker)
        return

    from bench_gpt import BATCH_SIZE, CONFIG

    os.environ.pop("OPENBLAS_CORETYPE", None)
    here = str(Path(__file__).resolve().parent)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
    if torch is None:
        print("PyTorch is not here; to compare with it: pip install torch")
    kinds = ["mlx", "torch"] if torch else ["mlx"]
    runs = [(k, o, n) for o in ("adamw", "muon") for n in arguments.processes for k in kinds]
    best, gflops = dict.fromkeys(runs, float("inf")), 0.0
    for _ in range(arguments.rounds):
        for run in runs:
            seconds, speed = measure(*run)
            best[run], gflops = min(best[run], seconds), max(gflops, speed or 0)

    tokens = BATCH_SIZE * CONFIG.sequence_len
    print(f"{tokens} tokens a step; matrix products here: {gflops:.0f} GFLOP/s a process")
    for (kind, optimizer, count), seconds in best.items():
        name = {"mlx": "MLX, processes", "torch": "PyTorch, threads"}[kind]
        line = f"{optimizer:6s} {name:17s} {count}  {1000 * seconds:6.0f} ms  {tokens / seconds:8,.0f} tokens/s"
        if kind == "mlx":
            line += f"  MFU {flops_per_token(CONFIG) * tokens / seconds / (1e9 * gflops * count):.0%}"
            line += f"  {best[kind, optimizer, arguments.processes[0]] / seconds:.2f} of one's speed"
            if torch:
                line += f"  {best['torch', optimizer, count] / seconds:.2f} times PyTorch's"
        print(line)


if __name__ == "__main__":
    main()
