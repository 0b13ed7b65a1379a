"""The course's Tokenizer against the libraries that it is built on, in turn, in one process.

python tests/benchmarks/bench_tokenizer.py [--rounds 5] [--megabytes 8] [--vocab-size 8192]

Training takes at most 1.2 times rustbpe's own time; encode_batch reaches at least 0.9 of tiktoken's own throughput on
the same threads. Prints the best of several rounds of each, and the ratios.
"""

import argparse
import time
from collections.abc import Callable, Iterator

import rustbpe

from course_lib.data.python_docs import documents
from course_lib.data.tokenizer import PATTERN, SPECIAL_TOKENS, Tokenizer


def best_seconds(ways: dict[str, Callable], rounds: int) -> dict[str, float]:
    """Shortest time of each way; the ways take turns, and each round begins with another one."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for n in range(rounds + 1):
        order = list(ways.items())
        for name, work in order[n % len(order) :] + order[: n % len(order)]:
            started = time.perf_counter()
            work()
            if n:  # the first round warms up
                times[name].append(time.perf_counter() - started)
    return {name: min(measured) for name, measured in times.items()}


def corpus(megabytes: float) -> tuple[list[str], int]:
    """Documents and their size in bytes; those of Python, again and again with a number, so that no two are alike."""
    docs, texts, size = documents(), [], 0

    def numbered() -> Iterator[str]:
        for n in range(10**6):
            yield from (f"{n}\n{doc}" for doc in docs)

    for text in numbered():
        texts.append(text)
        size += len(text.encode())
        if size >= megabytes * 1e6:
            return texts, size


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--megabytes", type=float, default=8)
    parser.add_argument("--vocab-size", type=int, default=8192)
    arguments = parser.parse_args()
    texts, size = corpus(arguments.megabytes)
    print(f"{len(texts):,} documents, {size / 1e6:.1f} MB, vocabulary {arguments.vocab_size:,}")

    def plain() -> None:
        trainer = rustbpe.Tokenizer()
        trainer.train_from_iterator(iter(texts), arguments.vocab_size - len(SPECIAL_TOKENS), pattern=PATTERN)
        trainer.get_mergeable_ranks()

    ways = {"rustbpe": plain, "Tokenizer.train": lambda: Tokenizer.train(texts, arguments.vocab_size)}
    seconds = best_seconds(ways, arguments.rounds)
    for name, best in seconds.items():
        print(f"{name:24s} {best:6.3f} s {size / best / 1e6:7.1f} MB/s")
    print(
        f"training takes {seconds['Tokenizer.train'] / seconds['rustbpe']:.2f} times rustbpe's time (aim: at most 1.2)"
    )

    tokenizer = Tokenizer.train(texts, arguments.vocab_size)
    encoding = tokenizer._encoding
    num_tokens = sum(map(len, tokenizer.encode_batch(texts)))
    for threads in (1, 2):
        ways = {
            "tiktoken": lambda threads=threads: encoding.encode_ordinary_batch(texts, num_threads=threads),
            "encode_batch": lambda threads=threads: tokenizer.encode_batch(texts, num_threads=threads),
        }
        seconds = best_seconds(ways, arguments.rounds)
        for name, best in seconds.items():
            speed = f"{size / best / 1e6:7.1f} MB/s {num_tokens / best / 1e6:6.2f} million tokens/s"
            print(f"{name:12s} {threads} thread{'s' if threads > 1 else ' '}   {best:6.3f} s {speed}")
        ratio = seconds["tiktoken"] / seconds["encode_batch"]
        print(f"encode_batch reaches {ratio:.2f} of tiktoken's throughput (aim: at least 0.9)")


if __name__ == "__main__":
    main()
