"""Start to end, `microgpt` against the plain MLX program that it teaches, as whole processes in turn.

python tests/benchmarks/bench_microgpt.py [--rounds 9]

Both train for 500 steps and write 20 names. Prints the median time of each, and the median of the ratios of the pairs
(at most 1.0 is the aim): by the clock, and in processor time, which other programs on the machine disturb less. The
same for one step, which is start-up (with a flag, whose reading takes 0.15 s more). Then what a compiled step
costs and saves.
"""

import argparse
import os
import statistics
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


def seconds(command: list[str], environment: dict) -> tuple[float, float]:
    """Wall time and processor time of one run."""
    quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    started = time.perf_counter()
    _, status, used = os.wait4(os.posix_spawn(command[0], command, environment, file_actions=quiet), 0)
    if status:
        sys.exit(f"{' '.join(command)} failed")
    return time.perf_counter() - started, used.ru_utime + used.ru_stime


def compare(steps: int, rounds: int, environment: dict) -> None:
    """Print the times of both programs, and their ratios."""
    plain = [sys.executable, str(Path(__file__).with_name("plain_microgpt.py")), str(steps)]
    ours = [sys.executable, "-m", "course_lib.scripts.microgpt"]
    ours += [] if steps == 500 else ["--steps", str(steps)]
    pairs = [(seconds(plain, environment), seconds(ours, environment)) for _ in range(rounds)]
    for n, clock in enumerate(("wall", "processor")):
        plain_time, our_time = (statistics.median(pair[who][n] for pair in pairs) for who in (0, 1))
        ratio = statistics.median(our[n] / their[n] for their, our in pairs)
        print(f"{steps:3d} steps, {clock:9s} plain {plain_time:.3f} s, microgpt {our_time:.3f} s: {ratio:.2f} times")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    environment = {key: value for key, value in os.environ.items() if key != "OPENBLAS_CORETYPE"}
    compare(500, rounds, environment)
    compare(1, rounds, environment)

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
