"""Training steps of the d12 (185,597,952 parameters): tokens per second, memory against the estimate, MFU.

python tests/benchmarks/bench_d12.py                                             a CPU: one row of 512 tokens
python tests/benchmarks/bench_d12.py --model 2026                                the same of July 2026
python tests/benchmarks/bench_d12.py --sequence-len 2048 --device-batch-size 16 --steps 100     a large GPU
python tests/benchmarks/bench_d12.py --sequence-len 2048 --device-batch-size 4 --recompute      a Mac with 36 GB

Each step is the Trainer's: forward, backward, clipping, Muon and AdamW, on ids drawn at random. The first steps, which
load and compile, are not timed. MFU is the share of the speed of a matrix product measured here; --peak-tflops gives
the maker's figure instead (989 for an H200 in bfloat16).

Measured on one core of an x86-64 server (float32, mlx 0.32.4, B=1, T=512): 3.5 GB at the peak, 3.6 GB estimated.
No figures of a GPU have been measured yet.
"""

import argparse
import time

import mlx.core as mx

from course_lib import backend
from course_lib.model.kinds import KINDS, make_model
from course_lib.model.sizes import estimate_memory, flops_per_token
from course_lib.train.fast_trainer import FastTrainer
from course_lib.train.flags import usual_rates


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=KINDS, default="2025", help="nanochat of October 2025 or of July 2026")
    parser.add_argument("--depth", type=int, default=12)
    parser.add_argument("--sequence-len", type=int, default=512)
    parser.add_argument("--device-batch-size", type=int, default=1)
    parser.add_argument("--accumulate", type=int, default=1, help="micro-batches in a step")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--recompute", action="store_true")
    parser.add_argument("--peak-tflops", type=float)
    a = parser.parse_args()

    config = KINDS[a.model].config.from_depth(a.depth, sequence_len=a.sequence_len)
    estimate = estimate_memory(config, a.device_batch_size, recompute=a.recompute)["total"]
    n = 1024 if backend.device_kind() == "cpu" else 8192
    peak = 1e12 * a.peak_tflops if a.peak_tflops else 1e9 * backend.matmul_gflops(n, backend.compute_dtype())
    print(backend.describe())
    mx.clear_cache()
    mx.reset_peak_memory()
    before = mx.get_active_memory()

    warm_up = 2
    trainer = FastTrainer(make_model(config, a.recompute), warm_up + a.steps, usual_rates(config))
    shape = (2, a.device_batch_size, a.sequence_len)
    ids, targets = mx.random.randint(0, config.vocab_size, shape, key=mx.random.key(0))
    losses = []
    for step in range(warm_up + a.steps):
        if step == warm_up:
            started = time.perf_counter()
        losses.append(trainer.step([(ids, targets)] * a.accumulate).loss)
    seconds = (time.perf_counter() - started) / a.steps
    assert losses[-1] < losses[0], losses

    tokens = a.accumulate * a.device_batch_size * a.sequence_len
    memory = mx.get_peak_memory() - before
    print(
        f"d{a.depth}, {a.accumulate} x {a.device_batch_size} rows of {a.sequence_len} tokens, mean of {a.steps} steps"
    )
    print(f"time     {seconds:.2f} s a step, {tokens / seconds:,.0f} tokens/s")
    print(f"MFU      {flops_per_token(config) * tokens / seconds / peak:.0%} of {peak / 1e12:.2f} TFLOP/s")
    print(f"memory   {memory / 1e9:.2f} GB at its peak, {estimate / 1e9:.2f} GB estimated")


if __name__ == "__main__":
    main()
