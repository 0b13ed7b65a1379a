"""What a batch costs: TokenLoader against encode_batch alone and against a training step; memory over many batches.

python tests/benchmarks/bench_data.py [--rounds 5] [--tokens 1500000] [--batches 10000]

Prints, interleaved and best of the rounds, tokens a second of the loader over those of encode_batch on the same texts
and the same number of threads (at least 0.8 is the aim), and over those that a training step consumes (at least 20).
The step is a stand-in for a model of depth 4: the products of its matrices with mlx.nn layers (4 blocks of attention
and MLP, n_embd 256, 2 heads, vocabulary 4096, rows of 256, 8 a batch), forward, backward and a plain SGD update,
compiled. Last, resident memory after 100 batches and after the last one.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim

import course_lib
from course_lib.data import python_docs
from course_lib.data.dataloader import TokenLoader
from course_lib.data.dataset import Dataset, write_shards
from course_lib.data.tokenizer import Tokenizer

B, T, WIDTH, VOCABULARY = 8, 256, 256, 4096


class Block(nn.Module):
    """Attention and MLP with the shapes of nanochat at depth 4."""

    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.RMSNorm(WIDTH), nn.RMSNorm(WIDTH)
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=False)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH, bias=False), nn.Linear(4 * WIDTH, WIDTH, bias=False)

    def __call__(self, x: mx.array) -> mx.array:
        """x: (B, T, C)."""
        q, k, v = (part.reshape(B, T, 2, -1).swapaxes(1, 2) for part in mx.split(self.qkv(self.norm1(x)), 3, axis=-1))
        mixed = mx.fast.scaled_dot_product_attention(q, k, v, scale=q.shape[-1] ** -0.5, mask="causal")
        x = x + self.proj(mixed.swapaxes(1, 2).reshape(B, T, WIDTH))
        return x + self.down(nn.relu(self.up(self.norm2(x))) ** 2)


def training_step() -> Callable:
    """A compiled step of the stand-in: (inputs, targets) -> loss, evaluated."""
    layers = [nn.Embedding(VOCABULARY, WIDTH), *(Block() for _ in range(4))]
    model = nn.Sequential(*layers, nn.RMSNorm(WIDTH), nn.Linear(WIDTH, VOCABULARY, bias=False))
    optimizer = optim.SGD(1e-3)

    def loss(inputs: mx.array, targets: mx.array) -> mx.array:
        return nn.losses.cross_entropy(model(inputs), targets, reduction="mean")

    both, state = nn.value_and_grad(model, loss), [model.state, optimizer.state]

    def update(inputs: mx.array, targets: mx.array) -> mx.array:
        value, gradients = both(inputs, targets)
        optimizer.update(model, gradients)
        return value

    compiled = mx.compile(update, inputs=state, outputs=state)

    def step(inputs: mx.array, targets: mx.array) -> None:
        mx.eval(compiled(inputs, targets), state)

    return step


def documents(dataset: Dataset) -> Iterator[str]:
    """The training documents, for ever."""
    while True:
        yield from dataset.documents("train")


def encode_rate(dataset: Dataset, tokenizer: Tokenizer, tokens: int, threads: int) -> float:
    """Tokens a second of encode_batch alone, on lists of 128 documents that are in memory."""
    source, groups, have = documents(dataset), [], 0
    while have < tokens:
        groups.append([next(source) for _ in range(128)])
        have += sum(len(text.encode()) for text in groups[-1]) // 4
    started, done = time.perf_counter(), 0
    for group in groups:
        done += sum(map(len, tokenizer.encode_batch(group, bos=True, num_threads=threads)))
    return done / (time.perf_counter() - started)


def loader_rate(dataset: Dataset, tokenizer: Tokenizer, tokens: int, threads: int) -> float:
    """Tokens a second of a loader, from its first batch on."""
    started, size = time.perf_counter(), B * T
    with TokenLoader(dataset, tokenizer, "train", B, T, num_threads=threads) as loader:
        for _ in range(tokens // size):
            next(loader)
        return tokens // size * size / (time.perf_counter() - started)


def step_rate(step: Callable, dataset: Dataset, tokenizer: Tokenizer, count: int) -> float:
    """Tokens a second that training steps consume, fed by a loader."""
    with TokenLoader(dataset, tokenizer, "train", B, T) as loader:
        started = time.perf_counter()
        for inputs, targets in (next(loader) for _ in range(count)):
            step(inputs, targets)
        return count * B * T / (time.perf_counter() - started)


def resident_mb() -> float:
    """Resident memory of this process in MB; of a Mac, the most so far."""
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=1_500_000)
    parser.add_argument("--batches", type=int, default=10_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        shards = Path(folder, "docs")
        write_shards(python_docs.documents(), shards, shard_chars=1_000_000)
        dataset = Dataset("docs", shards, sorted(path.name for path in shards.iterdir()))
        tokenizer = Tokenizer.train(dataset.documents("train"), VOCABULARY)
        step = training_step()
        step_rate(step, dataset, tokenizer, 1)  # compiled now
        print(
            f"{course_lib.__name__}: {dataset.num_rows('train')} documents, {VOCABULARY} tokens, {os.cpu_count()} cores"
        )
        for threads in (1, 2):
            encode, load, train = [], [], []
            for _ in range(arguments.rounds):
                encode.append(encode_rate(dataset, tokenizer, arguments.tokens, threads))
                load.append(loader_rate(dataset, tokenizer, arguments.tokens, threads))
                train.append(step_rate(step, dataset, tokenizer, 3))
            print(
                f"{threads} thread{'s'[: threads - 1]:1s} encode_batch {max(encode):11,.0f}  loader {max(load):11,.0f}"
                f"  step {max(train):7,.0f} tokens/s: loader / encode_batch {max(load) / max(encode):.2f},"
                f" loader / step {max(load) / max(train):.0f}"
            )
        with TokenLoader(dataset, tokenizer, "train", B, T) as loader:
            for count in range(1, arguments.batches + 1):
                next(loader)
                if count in (100, arguments.batches):
                    print(f"resident memory after {count:6,d} batches {resident_mb():7.1f} MB")


if __name__ == "__main__":
    main()
