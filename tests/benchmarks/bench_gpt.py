"""One training step (forward and backward) of a small GPT, ours against eager PyTorch, one thread each, in turn.

python tests/benchmarks/bench_gpt.py [--rounds 8]

The model: 4 layers, n_embd 256, vocabulary 4096, 8 rows of 256 tokens, float32 on the CPU. Prints the shortest time of
each, their ratio (at most 1 is the aim), peak memory, and how much of the machine's speed in matrix products the step
reaches. PyTorch is no part of the course: without it, only our own figures are printed.
"""

import argparse
import os
import time

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # before course_lib loads the library

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten

from course_lib import backend
from course_lib.model.gpt import GPT, GPTConfig
from course_lib.model.sizes import flops_per_token

try:
    import torch
    import torch.nn.functional as F
except ImportError:
    torch = None

CONFIG = GPTConfig.from_depth(4, vocab_size=4096, sequence_len=256)
BATCH_SIZE = 8


def naive_loss(model: GPT, ids: mx.array, targets: mx.array) -> mx.array:
    """All logits at once, and automatic differentiation."""
    logits = model.lm_head(model.transformer(ids))
    capped = model.config.softcap * mx.tanh(logits / model.config.softcap)
    return nn.losses.cross_entropy(capped, targets, reduction="mean")


def torch_step(model: GPT, ids: mx.array, targets: mx.array, threads: int = 1):
    """The same model with the same weights in PyTorch: a function that makes one step and returns the loss; weights."""
    torch.set_num_threads(threads)
    c = model.config
    weights = {
        name: torch.tensor(np.array(array), requires_grad=True) for name, array in tree_flatten(model.parameters())
    }
    ids, targets = (torch.tensor(np.array(a), dtype=torch.long) for a in (ids, targets))
    D = c.n_embd // c.n_head
    angle = torch.arange(ids.shape[1])[:, None] * c.rope_base ** (-torch.arange(0, D, 2) / D)
    cos, sin = angle.cos(), angle.sin()  # (T, D/2)

    def norm(x):
        return F.rms_norm(x, x.shape[-1:], eps=c.norm_eps)

    def turn(x):
        a, b = x.chunk(2, dim=-1)
        return norm(torch.cat([a * cos + b * sin, b * cos - a * sin], dim=-1))

    def step() -> float:
        for weight in weights.values():
            weight.grad = None
        x = norm(F.embedding(ids, weights["transformer.wte.weight"]))
        for n in range(c.n_layer):
            w = {name.split(".")[-2]: a for name, a in weights.items() if f".h.{n}.attn" in name}
            mlp = {name.split(".")[-2]: a for name, a in weights.items() if f".h.{n}.mlp" in name}
            y = norm(x)
            q, k, v = (F.linear(y, w[m]).view(*ids.shape, -1, D).transpose(1, 2) for m in ("c_q", "c_k", "c_v"))
            y = F.scaled_dot_product_attention(turn(q), turn(k), v, is_causal=True)
            x = x + F.linear(y.transpose(1, 2).reshape(x.shape), w["c_proj"])
            x = x + F.linear(F.relu(F.linear(norm(x), mlp["c_fc"])).square(), mlp["c_proj"])
        logits = c.softcap * torch.tanh(F.linear(norm(x), weights["lm_head.weight"]) / c.softcap)
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        loss.backward()
        return loss.item()

    return step, weights


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=8)
    rounds = parser.parse_args().rounds
    mx.set_default_device(mx.cpu)

    model = GPT(CONFIG)
    model.apply_to_modules(lambda _, module: module.apply(lambda a: 0.02 * mx.random.normal(a.shape)))
    ids, targets = mx.random.randint(0, CONFIG.vocab_size, (2, BATCH_SIZE, CONFIG.sequence_len))
    mx.eval(model.parameters(), ids, targets)

    def mlx_step(loss):
        step = nn.value_and_grad(model, loss)

        def run() -> float:
            result = step(ids, targets)
            mx.eval(result)
            return result[0].item()

        return run

    steps = {"MLX": mlx_step(model.loss), "MLX, naive loss": mlx_step(lambda *a: naive_loss(model, *a))}
    if torch:
        steps["PyTorch"], _ = torch_step(model, ids, targets)
    else:
        print("PyTorch is not here; to compare with it: pip install torch")

    losses, peaks = {}, {}
    for name, step in steps.items():  # once to warm up, and to see that all compute the same
        before = mx.get_active_memory()
        mx.reset_peak_memory()
        losses[name] = step()
        peaks[name] = mx.get_peak_memory() - before
    assert max(losses.values()) - min(losses.values()) < 1e-4, losses

    best = dict.fromkeys(steps, float("inf"))
    speed = 0.0
    for _ in range(rounds):
        for name, step in steps.items():
            started = time.perf_counter()
            step()
            best[name] = min(best[name], time.perf_counter() - started)
        speed = max(speed, backend.matmul_gflops())
    work = flops_per_token(CONFIG) * ids.size / 1e9
    for name, seconds in best.items():
        memory = f", {peaks[name] / 1e6:.0f} MB at the peak beside the weights" if "MLX" in name else ""
        print(f"{name:15s} {seconds * 1e3:5.0f} ms, {work / seconds:3.0f} of {speed:.0f} GFLOP/s{memory}")
    for name in list(steps)[1:]:
        print(f"MLX takes {best['MLX'] / best[name]:.2f} times the time of: {name}")


if __name__ == "__main__":
    main()
