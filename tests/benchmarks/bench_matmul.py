"""Matrix products on Linux's CPU: OpenBLAS in place of MLX's bundled BLAS, and NumPy's OpenBLAS as the bound.

    python tests/benchmarks/bench_matmul.py [--rounds 3]

Multiplies two 1024 x 1024 float32 matrices in fresh processes that take turns, all with the same number of threads, and
prints the best of each: first with a thread for each core, then with one thread, which other programs on the machine
disturb less. Exits 1 when neither ratio is at least 15.
"""

import argparse
import os
import subprocess
import sys

N = 1024
WANTED = 15

REPORT = "import course_lib.host.fast_matmul as f; print(f.report())"

MLX = f"""
import time
import mlx.core as mx
started = time.perf_counter()
import course_lib
ready = time.perf_counter() - started
from course_lib.host import fast_matmul
a, b = (mx.random.normal(({N}, {N}), key=mx.random.key(seed)) for seed in (0, 1))
multiply = lambda: mx.eval(a @ b)
"""

NUMPY = f"""
import time
import numpy as np
ready = 0.0
a, b = (np.random.default_rng(seed).standard_normal(({N}, {N})).astype(np.float32) for seed in (0, 1))
multiply = lambda: a @ b
"""

MEASURE = """
multiply()
times = []
until = time.perf_counter() + 0.6
while len(times) < 3 or time.perf_counter() < until:
    start = time.perf_counter()
    multiply()
    times.append(time.perf_counter() - start)
print(min(times), ready)
"""


def run(code: str, fast: bool, threads: int) -> str:
    """What `code` prints in a fresh process."""
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_CORETYPE"}
    environment |= {"COURSE_FAST_BLAS": "1" if fast else "0", "OPENBLAS_NUM_THREADS": str(threads)}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True, check=True
    ).stdout.strip()


CONTESTANTS = {
    "bundled BLAS (COURSE_FAST_BLAS=0)": (MLX, False),
    "OpenBLAS in MLX": (MLX, True),
    "OpenBLAS in NumPy (the bound)": (NUMPY, True),
}


def compare(threads: int, rounds: int) -> float:
    """Measure all contestants with `threads` threads each, print the results and return the ratio."""
    print(run(REPORT, fast=True, threads=threads))
    seconds = {name: [] for name in CONTESTANTS}
    import_seconds = []
    for _ in range(rounds):
        for name, (setup, fast) in CONTESTANTS.items():
            best, ready = map(float, run(setup + MEASURE, fast, threads).split())
            seconds[name].append(best)
            if setup is MLX and fast:
                import_seconds.append(ready)
    speeds = {name: 2 * N**3 / min(times) / 1e9 for name, times in seconds.items()}
    for name, speed in speeds.items():
        print(f"  {name:36} {speed:8.1f} GFLOP/s at n={N}, float32, {threads} thread{'s' * (threads != 1)}")
    bundled, openblas, bound = speeds.values()
    print(f"  ratio {openblas / bundled:.1f}, share of the bound {openblas / bound:.0%}")
    print(f"  import course_lib after mlx.core: {1000 * min(import_seconds):.0f} ms")
    return openblas / bundled


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="turns that each contestant gets (default 3)")
    rounds = max(1, parser.parse_args().rounds)

    if sys.platform != "linux":
        print("nothing to measure: only MLX's CPU backend on Linux has a slow BLAS")
        return 0
    cores = len(os.sched_getaffinity(0))
    if "nothing to do" in (line := run(REPORT, fast=True, threads=cores)):
        print(line)
        return 0
    ratio = max(compare(threads, rounds) for threads in sorted({cores, 1}, reverse=True))
    print(f"best ratio: {ratio:.1f} (at least {WANTED} wanted): {'PASS' if ratio >= WANTED else 'FAIL'}")
    return 0 if ratio >= WANTED else 1


if __name__ == "__main__":
    sys.exit(main())
