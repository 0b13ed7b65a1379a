"""Tokens a second of the engine: against mlx-lm's generator on the same weights, and eight requests against one.

python tests/benchmarks/bench_engine.py [--depth 4] [--tokens 64] [--rounds 3] [--kernels "" Haswell]
python tests/benchmarks/bench_engine.py --python

The model has a vocabulary of 65,536 and random weights, written as mlx-lm reads them. All is measured twice, with two
kinds of OpenBLAS's kernels: those that it chooses for this machine (""), and those of an older processor (Haswell:
AVX2), as OPENBLAS_CORETYPE sets it; the difference is large where the machine has AVX-512. All runs take turns. The
time of a step is the 20th percentile of all steps, so that other work on the machine matters little. mlx-lm runs twice:
as `pip install mlx-lm` gives it, in a process of its own without the course, and in this process, where it has
the matrix products that the course brings (course_lib.host.fast_matmul). Greedy decoding, the same ids from all. Prints
also how much of the memory's speed decoding reaches: a token needs all weights but wte once; and what the order of the
weights in memory does to a token of one row and of eight, which `lay_out` must not make slower. OPENBLAS_NUM_THREADS=1
gives steadier figures where other processes want the cores.

--python measures only what Python does for a token, in processor time and without computing anything: it makes the
graph of the pass, with the number of its operations, and that of sampling (both of which a step that looks ahead does
while the device computes), and hands the tokens out (which the device may wait for).
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

PROMPT = 64


def timed(tokens: Iterable) -> dict:
    """Ids, and the seconds that each but the first took."""
    ids, times = [], []
    for token in tokens:
        ids.append(int(token))
        times.append(time.perf_counter())
    return {"ids": ids, "steps": [after - before for before, after in pairwise(times)]}


def peer_run(folder: str, tokens: int) -> dict:
    """mlx-lm's generator."""
    import mlx.core as mx
    from mlx_lm.generate import generate_step
    from mlx_lm.utils import load_model

    model, _ = load_model(Path(folder))
    prompt = mx.array(json.loads((Path(folder) / "prompt.json").read_text()))
    return timed(token for token, _ in generate_step(prompt, model, max_tokens=tokens))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kernels", nargs="+", default=["", "Haswell"])
    parser.add_argument("--python", action="store_true")
    parser.add_argument("--peer", help=argparse.SUPPRESS)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer:
        peer_run(options.peer, 4)
        print(json.dumps(peer_run(options.peer, options.tokens)))
    elif options.python:
        measure_python()
    elif options.here:
        measure(options)
    else:
        for kernels in options.kernels:
            environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_CORETYPE"}
            environment |= {"OPENBLAS_CORETYPE": kernels} if kernels else {}
            print(f"OPENBLAS_CORETYPE={kernels}" if kernels else "OPENBLAS_CORETYPE unset", flush=True)
            subprocess.run([sys.executable, *sys.argv, "--here"], env=environment, check=True)


def measure_python() -> None:
    """What Python does for a token."""
    import mlx.core as mx

    from course_lib.data.tokenizer import Tokenizer
    from course_lib.generate.engine import Engine
    from course_lib.generate.rows import Batch, Request, Row, next_logits
    from course_lib.model.gpt import GPT, GPTConfig

    tokenizer = Tokenizer.train(["a small tokenizer will do "], 300, allow_smaller=True)

    def operations(array: mx.array) -> int:
        """Arrays that are to be computed for this one."""
        graph = io.StringIO()
        mx.export_to_dot(graph, array)
        return graph.getvalue().count("shape=rectangle")

    for depth in (4, 12):
        engine = Engine(GPT(GPTConfig.from_depth(depth, vocab_size=4096)), tokenizer, keep_prefixes=0)
        for count in (1, 8):
            batch = Batch(engine.model)
            for n in range(count):
                row = Row(engine, Request([1] * (PROMPT + n), 200, top_k=50), n)
                engine._start(batch, [row])
            lengths, seconds = list(batch.cache.lengths), defaultdict(list)
            for _ in range(60):
                batch.cache.lengths = list(lengths)
                times = [time.process_time()]
                logits = next_logits(engine.model, mx.zeros((count, 1), mx.int32), batch.cache)
                times.append(time.process_time())
                tokens = batch._sample(batch.rows, batch.cache.lengths, logits)
                times.append(time.process_time())
                number = operations(tokens)
                mx.eval(tokens)
                times.append(time.process_time())
                batch._unread()
                batch._take(zip(batch.rows, tokens.tolist(), strict=True))
                times.append(time.process_time())
                for part, (before, after) in zip(("graph", "sampling", "", "tokens"), pairwise(times), strict=True):
                    seconds[part].append(after - before)
            graph, sampling, handed = (1000 * sorted(seconds[part])[12] for part in ("graph", "sampling", "tokens"))
            overlaps = (graph + sampling) / (graph + sampling + handed)
            print(
                f"d{depth}, rows {count}: {number} operations, graph {graph:.3f} ms, sampling {sampling:.3f} ms, "
                f"tokens {handed:.3f} ms: {100 * overlaps:.0f} % overlaps with the device"
            )


def measure(options: argparse.Namespace) -> None:
    """Measure with the kernels that this process has."""
    import mlx.core as mx
    import numpy as np
    from mlx.utils import tree_flatten, tree_unflatten

    from course_lib import backend
    from course_lib.data.tokenizer import Tokenizer
    from course_lib.generate.engine import Engine
    from course_lib.generate.kv_cache import KVCache, cache_bytes
    from course_lib.generate.rows import Request, next_logits
    from course_lib.model.gpt import GPT, GPTConfig
    from course_lib.model.products import in_order, inference_mode, lay_out
    from course_lib.serve.batch_engine import BatchEngine

    config = GPTConfig.from_depth(options.depth)
    tokenizer = Tokenizer.train(["a small tokenizer will do "], 300, allow_smaller=True)
    model = GPT(config)
    model.apply_to_modules(lambda _, module: module.apply(lambda a: 0.02 * mx.random.normal(a.shape)))
    mx.eval(model.parameters())
    prompt = mx.random.randint(0, config.vocab_size, (PROMPT,)).tolist()
    engine = Engine(model, tokenizer, keep_prefixes=0)
    engine.stops = set()  # random weights: every run is to be as long as asked for

    def one_row(tokens: int, **settings) -> dict:
        return timed(column[0] for column, _ in engine.generate(prompt, max_tokens=tokens, **settings))

    def requests(count: int, tokens: int, **settings) -> dict:
        with BatchEngine(model, tokenizer, max_rows=8, keep_prefixes=0) as batch_engine:
            batch_engine._engine.stops = set()
            handles = [batch_engine.submit(Request(prompt, tokens, seed=n, **settings)) for n in range(count)]
            result = timed(token for token, _ in handles[-1])  # the others are there before it
            assert all(len(handle.result().ids) == tokens for handle in handles)
        return {"ids": result["ids"], "steps": [seconds / count for seconds in result["steps"][: tokens - count]]}

    def memory_speed() -> float:
        """Bytes a second that this machine reads: a large matrix times a vector does nothing else."""
        matrix, vector, best = np.ones((4096, 8192), np.float32), np.ones(8192, np.float32), 0.0
        for _ in range(10):
            started = time.perf_counter()
            matrix @ vector
            best = max(best, matrix.nbytes / (time.perf_counter() - started))
        return best

    def order_seconds() -> tuple[dict, float]:
        """Seconds of a token of (rows, order of the weights), and of laying them out."""
        started = time.perf_counter()
        lay_out(model)
        taken = time.perf_counter() - started
        orders = {"laid out": model.parameters()}
        for order in ("by rows", "by columns"):
            ordered = [
                (name, in_order(weight, order == "by columns" and "wte" not in name))
                for name, weight in weights.items()
            ]
            orders[order] = tree_unflatten(ordered)
        seconds = defaultdict(list)
        for _ in range(8 * options.rounds):
            for rows in (1, 8):
                cache = KVCache(config, rows)
                mx.eval(next_logits(model, mx.zeros((rows, PROMPT), mx.int32), cache))
                for order, parameters in orders.items():
                    model.update(parameters)
                    for again in range(3):
                        started = time.perf_counter()
                        with inference_mode():
                            mx.eval(next_logits(model, mx.zeros((rows, 1), mx.int32), cache))
                        if again:  # the first warms up
                            seconds[rows, order].append(time.perf_counter() - started)
        model.update(orders["laid out"])
        return {case: sorted(times)[len(times) // 5] for case, times in seconds.items()}, taken

    def prefill_and_forward() -> tuple[float, float]:
        ids = mx.random.randint(0, config.vocab_size, (1, 512))
        mx.eval(ids)
        seconds = []
        for cache in (KVCache(config), None):
            started = time.perf_counter()
            mx.eval(model.hidden(ids, cache.layers if cache else None)[:, -1])
            seconds.append(time.perf_counter() - started)
        return tuple(seconds)

    weights = dict(tree_flatten(model.parameters()))
    order, taken = order_seconds()
    with tempfile.TemporaryDirectory() as folder:
        mx.save_safetensors(f"{folder}/model.safetensors", weights)
        about = {
            "model_type": "nanochat",
            "hidden_size": config.n_embd,
            "num_hidden_layers": config.n_layer,
            "num_attention_heads": config.n_head,
            "num_key_value_heads": config.n_kv_head,
            "vocab_size": config.vocab_size,
            "intermediate_size": 4 * config.n_embd,
        }
        Path(folder, "config.json").write_text(json.dumps(about))
        Path(folder, "prompt.json").write_text(json.dumps(prompt))

        def peer_alone(tokens: int) -> dict:
            command = [sys.executable, __file__, "--peer", folder, "--tokens", str(tokens)]
            return json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)

        runs = {
            "mlx-lm, alone": peer_alone,
            "mlx-lm, here": lambda tokens: peer_run(folder, tokens),
            "Engine": lambda tokens: one_row(tokens, temperature=0),
            "Engine, top_k=50": lambda tokens: one_row(tokens, top_k=50),
            "1 request": lambda tokens: requests(1, tokens, temperature=0),
            "8 requests": lambda tokens: requests(8, tokens, temperature=0),
            "1 request, top_k=50": lambda tokens: requests(1, tokens, top_k=50),
            "8 requests, top_k=50": lambda tokens: requests(8, tokens, top_k=50),
        }
        steps, ids, reading, speed = defaultdict(list), {}, [float("inf")] * 2, 0.0
        for _ in range(options.rounds):
            for name, run in runs.items():
                result = run(options.tokens)
                steps[name] += result["steps"]
                ids[name] = result["ids"]
            reading = [min(pair) for pair in zip(reading, prefill_and_forward(), strict=True)]
            speed = max(speed, memory_speed())
    best = {name: sorted(times)[len(times) // 5] for name, times in steps.items()}
    print(backend.describe())
    for name, seconds in best.items():
        print(f"{name:22s} {1 / seconds:6.0f} tokens/s")
    greedy = [ids[name] for name in runs if "top_k" not in name]
    print(f"greedy ids equal: {all(one == greedy[0] for one in greedy)}")
    for peer in ("mlx-lm, alone", "mlx-lm, here"):
        print(f"Engine against {peer}: {best[peer] / best['Engine']:.2f} times the tokens/s")
    for rows in (1, 8):
        laid_out, by_rows, by_columns = (order[rows, name] for name in ("laid out", "by rows", "by columns"))
        better, worse = sorted((by_rows, by_columns))
        times = f"by rows {1000 * by_rows:.2f} ms, by columns {1000 * by_columns:.2f}, laid out {1000 * laid_out:.2f}"
        speeds = f"{better / laid_out:.2f} times the speed of the better order, {worse / laid_out:.2f} of the other"
        print(f"a token of {rows} {'rows' if rows > 1 else 'row '}: {times}: {speeds}")
    print(f"laying out the weights, measuring included: {taken:.2f} s")
    for how in ("", ", top_k=50"):
        print(f"8 requests against 1{how}: {best['1 request' + how] / best['8 requests' + how]:.2f} times the tokens/s")
    read = 4 * (sum(weight.size for weight in weights.values()) - config.vocab_size * config.n_embd)
    share = read / best["Engine"] / speed
    print(f"a token reads {read / 1e6:.0f} MB: {100 * share:.0f} % of the memory's {speed / 1e9:.0f} GB/s")
    print(f"prefill of 512 tokens: {reading[0] / reading[1]:.2f} times the time of a forward pass without a cache")
    print(f"cache of 8 rows of 512 tokens: {cache_bytes(config, 8, 512) / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
