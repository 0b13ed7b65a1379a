"""Naive attention, rotation and norm against those of mx.fast, in turn, in one process.

python tests/benchmarks/bench_attention.py [--rounds 5] [--heads 6] [--head-dim 128] [--lengths 128 512 1024]

Prints the best of several rounds of each and the ratio: above 1 mx.fast is the faster. On a CPU about 1 is expected.
"""

import argparse
import math
import time
from collections.abc import Callable

import mlx.core as mx

from course_lib import backend
from course_lib.model.attention import CausalSelfAttention, inverse_frequencies, rms_norm, rotate


def naive_attention(q: mx.array, k: mx.array, v: mx.array) -> mx.array:
    """Softmax of masked scores, in float32."""
    scores = (q @ k.swapaxes(2, 3)).astype(mx.float32) / math.sqrt(q.shape[-1])
    scores = mx.where(mx.tri(q.shape[2]) == 1, scores, -mx.inf)
    return mx.softmax(scores, axis=-1).astype(q.dtype) @ v


def fast_attention(q: mx.array, k: mx.array, v: mx.array) -> mx.array:
    """The same in one call."""
    return mx.fast.scaled_dot_product_attention(q, k, v, scale=q.shape[-1] ** -0.5, mask="causal")


def naive_rotate(x: mx.array, w: mx.array) -> mx.array:
    """The turn by cosines and sines."""
    angles = mx.arange(x.shape[2])[:, None] / w
    cos, sin = mx.cos(angles).astype(x.dtype), mx.sin(angles).astype(x.dtype)
    first, second = mx.split(x, 2, axis=-1)
    return mx.concatenate([first * cos + second * sin, second * cos - first * sin], axis=-1)


def naive_norm(x: mx.array) -> mx.array:
    """x over its root mean square."""
    wide = x.astype(mx.float32)
    return (wide * mx.rsqrt(mx.square(wide).mean(axis=-1, keepdims=True) + 1e-5)).astype(x.dtype)


def backward(function: Callable) -> Callable:
    """Gradients of the sum of squares of what the function gives, with respect to all its arrays."""
    return lambda *arrays: mx.grad(lambda *a: mx.square(function(*a)).sum(), argnums=tuple(range(len(arrays))))(*arrays)


def best_ms(ways: dict[str, Callable], rounds: int) -> list[float]:
    """Shortest time of each way in ms; the ways take turns, and each round begins with another one."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for n in range(rounds + 1):
        order = list(ways.items())
        for name, work in order[n % len(order) :] + order[: n % len(order)]:
            started = time.perf_counter()
            mx.eval(work())
            if n:  # the first round warms up
                times[name].append(1000 * (time.perf_counter() - started))
    return [min(measured) for measured in times.values()]


def compare(label: str, naive: Callable, fast: Callable, rounds: int) -> None:
    """One line: both times and their ratio."""
    slow_ms, fast_ms = best_ms({"naive": naive, "fast": fast}, rounds)
    print(f"{label:42s} naive {slow_ms:9.2f} ms   fast {fast_ms:9.2f} ms   {slow_ms / fast_ms:5.2f} times")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--heads", type=int, default=6)
    parser.add_argument("--head-dim", type=int, default=128)
    parser.add_argument("--lengths", type=int, nargs="+", default=[128, 512, 1024])
    arguments = parser.parse_args()
    print(backend.describe())
    rounds, heads, head_dim = arguments.rounds, arguments.heads, arguments.head_dim
    w = inverse_frequencies(head_dim)
    for T in arguments.lengths:
        x = mx.random.normal((3, 1, heads, T, head_dim)).astype(backend.compute_dtype())
        q, k, v = x
        print(f"T={T}, {heads} heads of {head_dim}, {x.dtype}")
        pairs = {"rms_norm": (naive_norm, rms_norm, (q,)), "attention": (naive_attention, fast_attention, (q, k, v))}
        turns = [lambda x, f=f: f(x, w) for f in (naive_rotate, rotate)]
        for name, (naive, fast, arrays) in {"rotate": (*turns, (q,)), **pairs}.items():
            mx.eval(*arrays)
            both = [lambda f=f, a=arrays: f(*a) for f in (naive, fast)]
            compare(f"  {name}", *both, rounds)
            both = [lambda f=f, a=arrays: backward(f)(*a) for f in (naive, fast)]
            compare(f"  {name}, forward and backward", *both, rounds)
    T, n_embd = max(arguments.lengths), heads * head_dim
    layer = CausalSelfAttention(n_embd, heads, heads)
    shared = CausalSelfAttention(n_embd, heads, 1)
    x = mx.random.normal((1, T, n_embd)).astype(backend.compute_dtype())
    mx.eval(layer.parameters(), shared.parameters(), x)
    mha, mqa = best_ms({"MHA": lambda: layer(x), "MQA": lambda: shared(x)}, rounds)
    print(f"whole layer, T={T}: MHA {mha:.2f} ms, MQA {mqa:.2f} ms, {mha / mqa:.2f} times")


if __name__ == "__main__":
    main()
