"""The names model as one plain, uncompiled MLX program: what `microgpt` is timed against. Prints as it does.

python tests/benchmarks/plain_microgpt.py [STEPS]
"""

import math
import random
import sys
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim

STEPS = int(sys.argv[1]) if len(sys.argv) > 1 else 500
WIDTH, HEADS, BLOCK = 16, 4, 8


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        for name in ("wq", "wk", "wv", "wo"):
            setattr(self, name, nn.Linear(WIDTH, WIDTH, bias=False))

    def __call__(self, x):
        T = len(x)
        q, k, v = (w(x).reshape(T, HEADS, -1).transpose(1, 0, 2) for w in (self.wq, self.wk, self.wv))
        scores = q @ k.transpose(0, 2, 1) / math.sqrt(WIDTH // HEADS)
        scores = scores + mx.triu(mx.full((T, T), -mx.inf), k=1)
        return self.wo((mx.softmax(scores, axis=-1) @ v).transpose(1, 0, 2).reshape(T, WIDTH))


class MLP(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(WIDTH, 4 * WIDTH, bias=False)
        self.fc2 = nn.Linear(4 * WIDTH, WIDTH, bias=False)

    def __call__(self, x):
        return self.fc2(mx.maximum(self.fc1(x), 0) ** 2)


def norm(x):
    return x * mx.rsqrt((x * x).mean(axis=-1, keepdims=True) + 1e-5)


class Model(nn.Module):
    def __init__(self, vocab_size):
        super().__init__()
        self.wte = nn.Embedding(vocab_size, WIDTH)
        self.wpe = nn.Embedding(BLOCK, WIDTH)
        self.attn, self.mlp = Attention(), MLP()
        self.lm_head = nn.Linear(WIDTH, vocab_size, bias=False)
        self.apply(nn.init.normal(std=0.02))
        self.attn.wo.weight = mx.zeros_like(self.attn.wo.weight)
        self.mlp.fc2.weight = mx.zeros_like(self.mlp.fc2.weight)

    def __call__(self, ids):
        x = norm(self.wte(ids) + self.wpe(mx.arange(len(ids))))
        x = x + self.attn(norm(x))
        x = x + self.mlp(norm(x))
        return self.lm_head(x)


docs = (Path(__file__).resolve().parents[2] / "data" / "names.txt").read_text().split()
random.Random(42).shuffle(docs)
chars = sorted(set("".join(docs)))
bos = len(chars)
print("num docs:", len(docs))
mx.random.seed(42)
model = Model(bos + 1)
optimizer = optim.Adam(learning_rate=1e-2, betas=[0.9, 0.95], eps=1e-8, bias_correction=True)
loss_and_grad = nn.value_and_grad(model, lambda x, y: nn.losses.cross_entropy(model(x), y, reduction="mean"))
for step in range(STEPS):
    ids = [bos, *(chars.index(c) for c in docs[step % len(docs)]), bos][: BLOCK + 1]
    optimizer.learning_rate = 1e-2 * 0.5 * (1 + math.cos(math.pi * step / STEPS))
    loss, gradients = loss_and_grad(mx.array(ids[:-1]), mx.array(ids[1:]))
    optimizer.update(model, gradients)
    mx.eval(model.parameters(), optimizer.state)
    print(f"step {step + 1:4d} / {STEPS:4d} | loss {loss.item():.4f}", flush=True)
for n in range(20):
    ids = [bos]
    while len(ids) <= BLOCK:
        next_id = mx.random.categorical(model(mx.array(ids))[-1] / 0.5).item()
        if next_id == bos:
            break
        ids.append(next_id)
    print(f"sample {n + 1:2d}: {''.join(chars[i] for i in ids[1:])}", flush=True)
