"""Start to end, `microgpt` against the plain MLX program that it teaches, as whole processes in turn.

python tests/benchmarks/bench_microgpt.py [--rounds 5] [--steps 500]

Prints the shortest time of each and the ratio (at most 1.5 is the aim), then what a compiled step costs and saves.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COMPILE = """
import sys, time
from course_lib.names import microgpt
from course_lib.names import bigram as names
docs = names.split_names(names.load_names())[0]
model = microgpt.MicroGPT(microgpt.MicroGPTConfig())
marks = []
tokenizer, compiled = names.CharTokenizer(docs), sys.argv[1] == "compiled"
microgpt.train(model, docs, tokenizer, 1500, on_step=lambda *_: marks.append(time.perf_counter()), compiled=compiled)
print(marks[-1] - marks[499])  # seconds for 1,000 steps: milliseconds a step
"""


def seconds(command: list[str], environment: dict) -> float:
    """Wall time of one run."""
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    return time.perf_counter() - started


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=500)
    arguments = parser.parse_args()
    environment = {key: value for key, value in os.environ.items() if key != "OPENBLAS_CORETYPE"}
    plain = [sys.executable, str(Path(__file__).with_name("plain_microgpt.py")), str(arguments.steps)]
    ours = [sys.executable, "-m", "course_lib.scripts.microgpt", "--steps", str(arguments.steps)]
    times = {"plain": [], "microgpt": []}
    for _ in range(arguments.rounds):
        times["plain"].append(seconds(plain, environment))
        times["microgpt"].append(seconds(ours, environment))
    for name, measured in times.items():
        print(f"{name:9s} {min(measured):.2f} s at best, {max(measured):.2f} s at worst")
    print(f"microgpt takes {min(times['microgpt']) / min(times['plain']):.2f} times the plain program's time")

    with tempfile.TemporaryDirectory() as empty:  # no compiled kernels from earlier runs
        environment["TMPDIR"] = empty
        for kind in ("plain", "compiled", "compiled"):
            command = [sys.executable, "-c", COMPILE, kind]
            started = time.perf_counter()
            done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
            total = time.perf_counter() - started
            print(f"{kind:9s} step {float(done.stdout):.3f} ms, 1,500 steps with start-up {total:.1f} s")


if __name__ == "__main__":
    main()
