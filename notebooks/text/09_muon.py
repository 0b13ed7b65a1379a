# %% [markdown]
# # 09 · Muon
#
# **Goal.** Take better steps with the same gradients: see what step SGD, AdamW and Muon each make from one gradient, build Muon, and measure what it buys.
#
# | | |
# |---|---|
# | Needs | [03 · microGPT](03_microgpt.ipynb), [08 · GPT](08_gpt.ipynb) |
# | Time | 70 minutes to read, 50 for the exercises; about a minute to run |
# | Memory | under 1 GB |
# | You will build → exported to | Muon → `course_lib.train.muon`; the choice of optimizers and the schedules → `course_lib.train.optim` |
#
# An **optimizer** turns a gradient into a step. Chapter 03's Adam treats every number of a model separately. But most parameters
# of a GPT belong to matrices, and a matrix is more than its numbers: it turns and stretches whatever passes through it. Muon looks
# at the whole matrix. nanochat (October 2025) trains its blocks with it.

# %% [markdown]
# ![Map of the course: chapter 09 muon is marked, in Part II; after 08 gpt, and 10 training comes next](images/map_09.png)
#
# [00](00_start_here.ipynb) · [01](01_names.ipynb) · [02](02_autograd.ipynb) · [03](03_microgpt.ipynb) · [04](04_batches.ipynb) · [05](05_tokenizer.ipynb) · [06](06_data.ipynb) · [07](07_attention.ipynb) · [08](08_gpt.ipynb) · **09** · [10](10_training.ipynb) · [11](11_evaluation.ipynb) · [12](12_engine.ipynb) · [13](13_conversations.ipynb) · [14](14_tools_and_tasks.ipynb) · [15](15_reinforcement.ipynb) · [16](16_serving.ipynb) · [17](17_chat.ipynb) · [18](18_speedrun.ipynb) · [19](19_memory.ipynb) · [20](20_processes.ipynb) · [21](21_nanochat_2026.ipynb) · [22](22_weights.ipynb) · [open this one in Colab](https://colab.research.google.com/github/OWNER/microgpt-to-nanochat/blob/main/notebooks/09_muon.ipynb) ([how](https://github.com/OWNER/microgpt-to-nanochat/blob/main/docs/machines.md#colab))

# %%
#| export train.muon
"""Muon: momentum whose every step is made orthogonal, for the matrices inside a model.

Source: Jordan et al., 2024, "Muon: an optimizer for hidden layers in neural networks".
"""

import math

import mlx.core as mx
import mlx.optimizers as optim
from mlx.utils import tree_flatten, tree_map

from course_lib import backend
from course_lib.host.errors import CourseError
from course_lib.train.stacks import in_stacks

# %%
import time
from functools import partial
from itertools import islice

import mlx.nn as nn
import numpy as np

from course_lib.classroom import add_to, budget, check, claim, draw_loss_log, record_loss, stored
from course_lib.classroom import draw_steps as draw
from course_lib.classroom.exercises import muon as exercises
from course_lib.data.dataloader import TokenLoader
from course_lib.data.dataset import open_dataset
from course_lib.data.tokenizer import Tokenizer
from course_lib.model.gpt import GPT, GPTConfig, init_weights
from course_lib.model.sizes import flops_per_token
from course_lib.names.batching import batches, make_batch
from course_lib.names.bigram import CharTokenizer, load_names, split_names

backend.seed_everything(42)

# %% [markdown]
# ## 1. One gradient, three steps
#
# Suppose that this is the gradient of a 2 × 2 weight. Which step does each optimizer take? (We leave out the learning rate
# and the minus sign.) SGD takes the gradient as it is. AdamW's first step divides each number by its own size, so only the
# sign is left (chapter 03). Muon's step looks like neither:

# %% tags=["nbval-check-output"]
gradient = mx.array([[2.0, 1.0], [1.0, 2.0]])
steps = {"SGD": gradient, "AdamW": mx.sign(gradient), "Muon": mx.eye(2)}
for name, step in steps.items():
    print(f"{name:6s}", step.tolist())

# %% [markdown]
# As a picture: where does each of the three matrices take the points of a circle (dotted)? Two of them are marked, one on
# each diagonal.

# %%
draw.draw_circles(steps)

# %% [markdown]
# The gradient (left) pushes three times as far along one diagonal as along the other. The signs (middle) lose the weak direction
# altogether: the circle becomes a line, and the square lands at its middle. Muon treats both diagonals alike (its circle covers
# the dotted one). How does it find them in the numbers 2, 1, 1, 2?
#
# ## 2. Turn, stretch, turn back
#
# The gradient does three simple things in a row: it turns by −45°, stretches, and turns back. As matrices:


# %% tags=["nbval-check-output"]
def turn(degrees):
    """The matrix that turns a point about the origin, counter-clockwise."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return mx.array([[c, -s], [s, c]])


def show(matrix):
    return (np.array(matrix, dtype=float).round(2) + 0.0).tolist()  # + 0.0 makes -0.0 a plain 0.0


stretch = mx.array([[3.0, 0.0], [0.0, 1.0]])
parts = {"turn by −45°": turn(-45), "stretch: 3 and 1": stretch, "turn back": turn(45)}
for name, part in parts.items():
    print(f"{name:16s}", show(part))
print("all three       ", show(turn(45) @ stretch @ turn(-45)))
assert mx.allclose(turn(45) @ stretch @ turn(-45), gradient, atol=1e-5)

# %%
draw.draw_circles(parts, chained=True)

# %% [markdown]
# The first turn puts the two diagonals onto the axes. A stretch along the axes can be read off its matrix: 3 and 1. The last
# turn puts everything back.
#
# *Every* matrix $G$ can be taken apart like this:
#
# $$ G = U S V^\top $$
#
# $V^\top$ turns (or mirrors), $S$ stretches along the axes, and $U$ turns again, in general not back to where it was. This is the
# **singular value decomposition** (SVD), and the stretches, never negative, are the **singular values**. MLX finds all three
# (on the CPU only), the largest stretch first:

# %%
U, S, Vt = mx.linalg.svd(gradient, stream=mx.cpu)
print("U ", show(U))
print("S ", show(S))
print("Vᵀ", show(Vt))
assert mx.allclose(U @ mx.diag(S) @ Vt, gradient, atol=1e-5)

# %% [markdown]
# The signs may differ from ours: when a column of $U$ and the same row of $V^\top$ both change sign, the product stays the
# same.
#
# A matrix that keeps all lengths, a turn or a mirror image, is called **orthogonal**. Its transpose is the way back: first $U$, then
# $U^\top$, and you are where you began.

# %% tags=["nbval-check-output"]
print(show(turn(45).T @ turn(45)), show(U.T @ U))

# %% [markdown]
# Now leave out the stretch. $U V^\top$ keeps both turns, and all its singular values are 1. That is Muon's step:


# %%
def exact(g):
    """U Vᵀ: g with all singular values set to 1."""
    u, _, vt = mx.linalg.svd(g, stream=mx.cpu)
    short = min(g.shape)
    return u[:, :short] @ vt[:short]


def singular_values(g):
    """How far g stretches, the largest first."""
    return mx.linalg.svd(g.astype(mx.float32), stream=mx.cpu)[1]


# %% tags=["nbval-check-output"]
for name, step in {"gradient": gradient, "Muon": exact(gradient)}.items():
    print(f"{name:9s}", show(step), "singular values", show(singular_values(step)))

# %% [markdown]
# Here the two turns cancel. In general $U V^\top$ is some turn, and not just any: of all orthogonal matrices it is the
# **nearest** to $G$. Try every fifth degree; the distance is the root of the sum of squared differences.

# %%
distance = {angle: mx.linalg.norm(gradient - turn(angle)).item() for angle in range(-180, 180, 5)}
print({angle: round(distance[angle], 2) for angle in (-45, -5, 0, 5, 45)})
claim("no turn is nearer to the gradient than the one by 0°", min(distance, key=distance.get) == 0)

# %% [markdown]
# If $G$ is not square, there are only as many singular values as its shorter side has numbers. `[:, :short]` drops the
# leftover columns of $U$, `[:short]` the leftover rows of $V^\top$. The result is called orthogonal all the same:

# %% tags=["nbval-check-output"]
tall = exact(mx.array([[2.0, 1.0], [1.0, 2.0], [2.0, 2.0]]))
print(show(tall), "and back:", show(tall.T @ tall))

# %% [markdown]
# One more fact, which we shall need three times. Turning does not change lengths, so the squares of all entries add up to the
# same number as the squares of the singular values. What share of it lies along the strongest direction?


# %% tags=["nbval-check-output"]
def strongest(g):
    """The share of g's squared size that lies along its first singular direction."""
    squares = mx.square(singular_values(g))
    return (squares[0] / squares.sum()).item()


entries, values = mx.square(gradient).sum(), mx.square(singular_values(gradient)).sum()
print(f"4 + 1 + 1 + 4 = {entries.item():.0f}, 9 + 1 = {values.item():.0f}")
for name, step in steps.items():
    print(f"{name:6s} {strongest(step):.2f} along the strongest direction")

# %% [markdown]
# ## 3. The step that gains most
#
# Why should all stretches be the same? It depends on what we limit. A step changes the layer's output. Suppose that **for no input
# of length 1 may the output change by more than $\eta$**, the learning rate: the largest singular value of the step is at most $\eta$.
#
# How much does such a step lower the loss? For a small step, by the sum of the products of its entries with those of the
# gradient, their **inner product** $\langle G, \text{step} \rangle$: each entry contributes slope times distance (chapter 02).
# Shrink our three steps until they just keep the limit, with $\eta = 1$:

# %%
gain = {
    name: (gradient * step / singular_values(step)[0]).sum().item() for name, step in steps.items()
}
print({name: round(number, 2) for name, number in gain.items()})
random = mx.random.normal((10_000, 2, 2), key=mx.random.key(3))
random = random / singular_values(random)[:, :1, None]
most = (gradient * random).sum(axis=(1, 2)).max().item()
print(f"the best of 10,000 random steps: {most:.2f}")
claim("U Vᵀ gains more than the other two steps and any random one", gain["Muon"] > max(most, 3.5))

# %% [markdown]
# **Of all steps that change no output by more than $\eta$, $UV^\top$ lowers the loss most.** You can see why in the middle
# picture of section 2, where the gradient is just the stretches 3 and 1. There a step $X$ gains $3X_{11} + 1X_{22}$, and the
# limit allows each of the two numbers 1 at most. SGD uses 1 and ⅓, Muon 1 and 1.
#
# This is about a small step and the gradient of *this* batch. If the weak direction is nothing but noise, Muon walks along the
# noise.
#
# ## 4. A problem with weak directions
#
# Let a single linear layer $y = Wx$ find a hidden matrix. Its 16 inputs differ in scale: the first is 100 times as large as the
# last. In a second version the *same* inputs are turned first, which mixes large and small into every number.


# %%
def linear_problem(turned):
    """The loss of a weight (16, 16), as a function, on 256 inputs."""
    keys = mx.random.split(mx.random.key(0), 3)
    x = mx.random.normal((256, 16), key=keys[0]) * mx.array(np.geomspace(1, 0.01, 16), mx.float32)
    y = x @ mx.random.normal((16, 16), key=keys[2]).T
    if turned:
        x = x @ exact(mx.random.normal((16, 16), key=keys[1]))
    return lambda weight: mx.square(x @ weight.T - y).sum(axis=-1).mean()


# %% [markdown]
# Four rules, by hand. Each gets the gradient and a dictionary for its memory, and returns the step. `momentum` adds up the
# gradients, and old ones fade by a factor of 0.9 per step. `adamw` is chapter 03's Adam. (The W is for weight decay, a pull of
# all weights towards 0; it is off here.) `muon` averages the gradients, mixes in the newest once more (section 8 says why),
# and makes the result orthogonal.


# %%
def sgd(g, memory):
    return g


def momentum(g, memory):
    memory["sum"] = 0.9 * memory.get("sum", 0) + g
    return memory["sum"]


def adamw(g, memory):
    n = memory["n"] = memory.get("n", 0) + 1
    memory["mean"] = 0.9 * memory.get("mean", 0) + 0.1 * g
    memory["square"] = 0.95 * memory.get("square", 0) + 0.05 * g * g
    scale = mx.sqrt(memory["square"] / (1 - 0.95**n)) + 1e-8
    return memory["mean"] / (1 - 0.9**n) / scale


def muon(g, memory):
    memory["mean"] = 0.9 * memory.get("mean", 0) + 0.1 * g
    return exact(0.9 * memory["mean"] + 0.1 * g)


# %% [markdown]
# Each rule gets 100 steps and the best of seven rates; the rate falls to 0 over the second half. The curves show the lowest loss so far.


# %%
def descend(rule, rate, loss_of):
    """The loss before each of 100 steps, and after the last."""
    weight, memory, losses = mx.zeros((16, 16)), {}, []
    loss_and_grad = mx.value_and_grad(loss_of)
    for n in range(100):
        loss, g = loss_and_grad(weight)
        weight = weight - rate * min(1, 2 * (1 - n / 100)) * rule(g, memory)
        mx.eval(weight, memory)
        losses.append(loss.item())
    return np.nan_to_num([*losses, loss_of(weight).item()], nan=np.inf)  # a rate may blow up


RULES = {"SGD": sgd, "momentum": momentum, "AdamW": adamw, "Muon": muon}
RATES = [10 ** (n / 2) for n in range(-5, 2)]  # 0.003 … 3
toy = {}
for turned in (False, True):
    for name, rule in RULES.items():
        runs = {rate: descend(rule, rate, linear_problem(turned)) for rate in RATES}
        rate = min(runs, key=lambda rate: runs[rate][-1])
        toy[turned, name] = runs[rate]
        print(f"turned: {turned!s:5}  {name:9s} rate {rate:.3f}, loss {runs[rate][-1]:.5f}")
        assert rate not in (RATES[0], RATES[-1]), "a best rate at the edge is not tuned"

# %%
as_they_are, turned = ({name: toy[side, name] for name in RULES} for side in (False, True))
draw.draw_descents({"inputs as they are": as_they_are, "inputs turned": turned})
end = {key: losses[-1] for key, losses in toy.items()}
claim("as they are, AdamW ends near Muon", end[False, "AdamW"] < 10 * end[False, "Muon"])
claim("turned, AdamW is left far behind", end[True, "AdamW"] > 10 * end[True, "Muon"])
same = max(end[True, name] / end[False, name] for name in ("SGD", "momentum", "Muon"))
claim("to the other three, the turn makes little difference", same < 2)

# %% [markdown]
# SGD falls quickly and then crawls: the strong inputs limit its rate, and along the weak ones there is next to no gradient.
# Muon's steps do not shrink with the gradient, so it settles only when the rate goes down.
#
# Now compare the two sides. AdamW keeps a scale for each number, which is exactly what the left problem needs. Turn the inputs,
# and no single number stands for a direction any more. To the others, a turn of the problem only turns their steps.
# **That is the case for orthogonal steps**: what matters are directions of the whole matrix, and those seldom lie along single
# numbers. But the problem was made to show it. It has no noise, and its weak directions matter. Section 11 asks real models.
#
# ## 5. Orthogonal without SVD: Newton–Schulz
#
# An SVD takes many small steps one after the other, which is slow on a GPU, and MLX has none there. But we need only $UV^\top$,
# and for that matrix products suffice. Look at $G G^\top G$. Since $U^\top U$ and $V^\top V$ are a turn and its way back, they
# cancel:
#
# $$ G G^\top G = U S V^\top \; V S U^\top \; U S V^\top = U S^3 V^\top $$
#
# So this product cubes each singular value and leaves the turns alone, without knowing either. Our gradient has 3 and 1.
# What will come out?

# %% tags=["nbval-check-output"]
cubed = gradient @ gradient.T @ gradient
print(show(cubed), "singular values", show(singular_values(cubed)))

# %% [markdown]
# 27 and 1. Likewise, $aG + b\,GG^\top G + c\,GG^\top GG^\top G$ turns each singular value $s$ into
#
# $$ f(s) = as + bs^3 + cs^5 $$
#
# If $f$ brings every $s$ nearer to 1, we only have to apply it a few times. That is a **Newton–Schulz** iteration. The classic
# choice is $1.5s - 0.5s^3$; Muon has other coefficients. Follow three singular values through five rounds:

# %%
#| export train.muon
COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # steep at 0; five steps take 0.01 … 1 to about 0.7 … 1.13


# %%
def rounds(s, coefficients, count=5):
    """s, and what it has become after each of `count` rounds."""
    a, b, c = coefficients
    found = [s]
    for _ in range(count):
        s = a * s + b * s**3 + c * s**5
        found.append(s)
    return found


# %% tags=["nbval-check-output"]
CLASSIC = (1.5, -0.5, 0.0)
for name, coefficients in {"classic": CLASSIC, "Muon's": COEFFICIENTS}.items():
    for s in (0.9, 0.1, 0.01):
        print(f"{name:8s}", *(f"{now:6.3f}" for now in rounds(s, coefficients)))

# %%
draw.draw_rounds(rounds, {"classic": CLASSIC, "Muon's": COEFFICIENTS})
lifted = rounds(np.geomspace(0.01, 1, 1000), COEFFICIENTS)[-1]
claim("five rounds take 0.01 … 1 to 0.68 … 1.14", 0.68 < lifted.min() and lifted.max() < 1.14)

# %% [markdown]
# On the left, the classic curve (dashed) is flat where it meets the grey diagonal, at 1: values near 1 come to rest there.
# Muon's is more than twice as steep at 0, so small values grow faster. But it crosses the diagonal on a steep downward slope,
# so values near 1 are pushed away again and never settle. On the right, five rounds have lifted everything above a hundredth
# to the neighbourhood of 1, while the classic curve has barely moved the small ones. That is the bargain: a step need not
# be exactly orthogonal, but it must not leave the weak directions behind.
#
# Now for matrices. The curve needs singular values between 0 and 1, so we divide by the root of the sum of all squares, which
# no singular value exceeds (section 2). `mx.addmm(C, A, B, beta=b, alpha=c)` is $bC + cAB$ in one operation. A tall matrix is
# transposed first, so that $XX^\top$ is the smaller of the two squares.


# %%
#| export train.muon
def newton_schulz(g: mx.array, steps: int = 5) -> mx.array:
    """The nearest orthogonal matrix to g, roughly: all its singular values become about 1.

    g: (…, rows, columns), of which the last two axes are the matrix; the same shape and type come
    back, computed in float32. Zeros give zeros. Raises CourseError for fewer than two axes.
    """
    if g.ndim < 2:
        raise CourseError(f"newton_schulz got an array of shape {g.shape}; it needs a matrix")
    x = g.astype(mx.float32)
    x = x / (mx.linalg.norm(x, axis=(-2, -1), keepdims=True) + 1e-7)  # singular values at most 1
    return in_rounds(x, [COEFFICIENTS] * steps).astype(g.dtype)


def in_rounds(x: mx.array, rounds: list[tuple[float, float, float]]) -> mx.array:
    """x (…, rows, columns) after a X + b X Xᵀ X + c X Xᵀ X Xᵀ X for each (a, b, c)."""
    tall = x.shape[-2] > x.shape[-1]
    x = x.swapaxes(-1, -2) if tall else x  # the smaller of X Xᵀ and Xᵀ X
    for a, b, c in rounds:
        xx = x @ x.swapaxes(-1, -2)
        powers = mx.addmm(xx, xx, xx, beta=b, alpha=c)  # b X Xᵀ + c X Xᵀ X Xᵀ
        x = mx.addmm(x, powers, x, beta=a)  # a X + powers X
    return x.swapaxes(-1, -2) if tall else x


# %% [markdown]
# Against the SVD, for all kinds of shapes. The **cosine** compares two directions: 1 when they are the same.

# %%
for shape in ((64, 64), (256, 64), (64, 256)):
    g = mx.random.normal(shape, key=mx.random.key(2))
    least = (singular_values(g)[-1] / mx.linalg.norm(g)).item()
    ours, truth = newton_schulz(g), exact(g)
    cosine = (ours * truth).sum() / mx.linalg.norm(ours) / mx.linalg.norm(truth)
    *_, low = high, *_ = singular_values(ours).tolist()
    print(f"{shape!s:9} from {least:.4f} … to {low:.2f} … {high:.2f}, cosine {cosine.item():.3f}")
    assert cosine > 0.95 and high < 1.25

# %% [markdown]
# The square matrix begins far below 0.01, and five rounds are not enough. Three things must hold whatever the matrix: the size
# of a gradient means nothing, turning it turns the result, and no gradient gives no step.

# %%
g, spin = mx.random.normal((32, 16)), exact(mx.random.normal((32, 32)))
assert mx.allclose(newton_schulz(1000 * g), newton_schulz(g), atol=1e-2)
assert mx.allclose(newton_schulz(spin @ g), spin @ newton_schulz(g), atol=1e-2)
assert mx.array_equal(newton_schulz(mx.zeros((4, 3))), mx.zeros((4, 3)))  # and not NaN

# %% [markdown]
# ## 6. What the optimizers make of a real gradient
#
# So much for matrices that we made up. Take a small GPT (two blocks, 64 wide) on the bundled corpus, with a tokenizer of 512
# ids, trained here and not saved. AdamW trains it for 40 steps. At each step we also hand the gradient of one matrix, the last
# block's `c_fc`, to section 4's rules. Which step would each of them take?

# %%
data = open_dataset()
tokenizer = Tokenizer.train(data.documents("train"), 512)
STEPS = budget(400, quick=4)  # section 11 uses all of them
with TokenLoader(data, tokenizer, "train", 8, 128) as loader:
    texts = list(islice(loader, max(STEPS, budget(40, quick=10)) + 16))
small = GPT(GPTConfig(128, vocab_size=512, n_layer=2, n_head=2, n_kv_head=2, n_embd=64))
loss_and_grad = nn.value_and_grad(small, GPT.loss)
plain = partial(optim.AdamW, betas=[0.9, 0.95], weight_decay=0.0, bias_correction=True)
adam = plain(3e-3)

# %%
memories, updates = {name: {} for name in RULES}, {}
for n, batch in enumerate(texts[: budget(40, quick=10)], start=1):
    _, gradients = loss_and_grad(small, *batch)
    g = gradients["transformer"]["h"][1]["mlp"]["c_fc"]["weight"]  # (256, 64)
    updates[n] = {name: rule(g, memories[name]) for name, rule in RULES.items()}
    adam.update(small, gradients)
    mx.eval(small.parameters(), adam.state, updates[n])

# %% [markdown]
# Section 2's measure: what share of each step's squared size lies along its strongest direction? With 64 directions, a perfectly
# even step has 1/64 = 0.016 in each. Guess AdamW's share before you run the cell.

# %%
shown = [9, budget(40, quick=10)]
shares = {n: {name: strongest(step) for name, step in updates[n].items()} for n in shown}
for n in shown:
    print(f"step {n:2d}:", *(f"{name} {share:.2f}  " for name, share in shares[n].items()))
    lopsided = min(shares[n]["momentum"], shares[n]["AdamW"])
    claim(f"step {n}: over half of AdamW's and momentum's step is one direction", lopsided > 0.5)
    claim(f"step {n}: Muon's is below 0.03", shares[n]["Muon"] < 0.03)

# %%
draw.draw_spectra({f"step {n}": updates[n] for n in shown})

# %% [markdown]
# SGD's step is the gradient itself. At step 9 AdamW and momentum spend nearly their whole step on one direction out of 64, at
# step 40 still more than half of it. This is Jordan's argument for Muon: the steps of other optimizers are dominated by a few directions, and the rare ones may
# matter for learning all the same.
#
# Newton–Schulz has to cope with such gradients. Here is what its rounds make of the last one:

# %%
lifted = [singular_values(newton_schulz(g, steps=n)).tolist() for n in range(6)]
print("largest / smallest:", *(f"{values[0] / values[-1]:,.0f}" for values in lifted))
draw.draw_lifted(lifted)

# %% [markdown]
# The lowest line is the gradient itself, divided by its size. Each round lifts the weak directions.
#
# ## 7. What it costs
#
# A product of $(p, q)$ and $(q, r)$ takes $2pqr$ operations, and each round has three products, once per step, however many tokens
# the step has read:


# %%
def newton_schulz_flops(rows, columns):
    short, long = sorted((rows, columns))
    return 5 * (4 * short * short * long + 2 * short**3)


for depth, tokens in ((4, 4_096), (12, 4_096), (12, 524_288), (26, 524_288)):
    config = GPTConfig.from_depth(depth)  # with nanochat's 65,536 ids
    square, longer = (newton_schulz_flops(config.n_embd * n, config.n_embd) for n in (1, 4))
    share = depth * (4 * square + 2 * longer) / (tokens * flops_per_token(config))
    print(f"d{depth:<2d} with {tokens:7,d} tokens per step: {share:6.1%} of forward and backward")

# %% [markdown]
# The cost is per step: half a million tokens hide it.
#
# ## 8. From a direction to a step
#
# ### How long?
#
# An orthogonal matrix says where to go. How far should matrices of different shapes go? Section 3 asked about the worst input, and about lengths. Between layers of different widths, what matters is the size of each number, for an ordinary input: send inputs of size 1 (root mean square) through it, and measure the size of what comes out.


# %%
def output_size(direction):
    """Root mean square of what the matrix makes of random inputs of size 1."""
    x = mx.random.normal((2000, direction.shape[1]), key=mx.random.key(4))
    return mx.sqrt(mx.square(x @ direction.T).mean()).item()


print("rows  columns   size out   · √max(1, rows/columns)   · √max(rows, columns)")
for rows, columns in ((64, 64), (64, 256), (256, 64), (1024, 64)):
    size = output_size(exact(mx.random.normal((rows, columns))))
    scaled, other = size * math.sqrt(max(1, rows / columns)), size * math.sqrt(max(rows, columns))
    print(f"{rows:4d} {columns:8d} {size:10.2f} {scaled:17.2f} {other:25.2f}")
    assert abs(scaled - 1) < 0.05

# %% [markdown]
# Square and wide matrices pass size 1 on. A tall one spreads the same length over more outputs than it has inputs, which leaves
# $\sqrt{\text{columns}/\text{rows}}$ for each. So Muon multiplies by $\sqrt{\max(1, \text{rows}/\text{columns})}$, and a
# learning rate of 0.02 means the same for every shape: a step changes the output of a random input by about 0.02. The last
# column is another scale in use; it needs learning rates of its own.
#
# ### Momentum, as an average
#
# The gradient of one batch is noisy, so Muon averages before it makes anything orthogonal. With the **momentum** $\mu$:
#
# $$ \text{average} \leftarrow \mu \cdot \text{average} + (1-\mu) \cdot \text{gradient} $$
#
# SGD's momentum is a sum: the same without the factor $1-\mu$. While $\mu$ is constant, the two differ by a factor that
# `newton_schulz` ignores. But $\mu$ will change (section 10), and only an average keeps its scale.
#
# **Nesterov** momentum looks one step ahead: it applies the formula a second time with the same gradient, uses that as the
# direction, and does not store it. By hand, with $\mu = 0.8$:

# %% tags=["nbval-check-output"]
print("gradient   average      sum    ahead")
average = total = 0.0
for g in (1.0, 1.0, 1.0, -1.0, -1.0):
    average, total = 0.8 * average + 0.2 * g, 0.8 * total + g
    ahead = 0.8 * average + 0.2 * g
    print(f"{g:8.1f} {average:9.3f} {total:8.3f} {ahead:8.3f}")

# %% [markdown]
# When the gradient turns round, in row 4, the average still points the old way; the look ahead has turned already. That matters
# more here than for SGD: made orthogonal, the average would be a full step in the old direction.
#
# ### The optimizer
#
# An MLX optimizer says what its memory starts with (`init_single`), and what one step makes of one parameter (`apply_single`).
# `state` is the memory for one parameter, `self.state` that of the whole optimizer. A number that will change must be an array
# in `self.state`, where `_maybe_schedule`, a private method of MLX, puts it. A pitfall below shows what happens otherwise.


# %%
#| export train.muon
class Muon(optim.Optimizer):
    """Muon for matrices (…, rows, columns), rows being the outputs; no weight decay.

    The momentum is an average of the gradients; with `nesterov` the step looks ahead of it. What
    `newton_schulz` makes of that is scaled by learning_rate · √max(1, rows / columns).
    Learning rate and momentum are arrays in `state`: set them there, and a compiled step sees it.
    """

    def __init__(
        self,
        learning_rate: float = 0.02,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_steps: int = 5,
    ):
        super().__init__()
        self._maybe_schedule("learning_rate", learning_rate)
        self._maybe_schedule("momentum", momentum)
        self.nesterov, self.ns_steps = nesterov, ns_steps

    def init_single(self, parameter: mx.array, state: dict) -> None:
        """Begin with no momentum. Raises CourseError when the parameter is no matrix."""
        if parameter.ndim < 2:
            raise CourseError(
                f"Muon got a parameter of shape {parameter.shape}; "
                "give it matrices, the rest to AdamW"
            )
        state["average"] = mx.zeros_like(parameter)


# %% [markdown]
# A step has three parts: look ahead, make that orthogonal, move. The first and the last treat one matrix at a time:


# %%
#| export train.muon
@add_to(Muon)
def apply_single(self, gradient: mx.array, parameter: mx.array, state: dict) -> mx.array:
    """Move the average of the gradients on, and look ahead: what is to be made orthogonal."""
    mu = self.state["momentum"].astype(gradient.dtype)
    state["average"] = mu * state["average"] + (1 - mu) * gradient
    return mu * state["average"] + (1 - mu) * gradient if self.nesterov else state["average"]


@add_to(Muon)
def move(self, direction: mx.array, parameter: mx.array, state: dict) -> mx.array:
    """The parameter, moved against the direction."""
    rows, columns = parameter.shape[-2:]
    rate = self.learning_rate * math.sqrt(max(1, rows / columns))
    return (parameter - rate * direction).astype(parameter.dtype)


# %% [markdown]
# The middle part gets all matrices at once. On a GPU, starting an operation costs time however small it is; so there `in_stacks`
# (in `train/stacks.py`, written by hand) stacks all matrices of one shape first.


# %%
#| export train.muon
@add_to(Muon)
def orthogonal(self, matrices: mx.array) -> mx.array:
    """Each matrix (…, rows, columns), made orthogonal."""
    return newton_schulz(matrices, self.ns_steps)


@add_to(Muon)
def directions(self, matrices: list[mx.array]) -> list[mx.array]:
    """What `orthogonal` makes of each matrix; on a GPU at once for all of one shape."""
    if backend.device_kind() == "cpu":
        return [self.orthogonal(matrix) for matrix in matrices]
    return in_stacks(self.orthogonal, matrices)


@add_to(Muon)
def apply_gradients(self, gradients: dict, parameters: dict) -> dict:
    """The parameters of `gradients` after one step."""
    ahead = optim.Optimizer.apply_gradients(self, gradients, parameters)  # apply_single of each
    ready = iter(self.directions([matrix for _, matrix in tree_flatten(ahead)]))
    return tree_map(lambda _, *of: self.move(next(ready), *of), ahead, parameters, self.state)


# %% [markdown]
# MLX has a Muon of its own. With its weight decay of 0.01 switched off, both should take the same steps:

# %%
ours, theirs = Muon(0.02), optim.Muon(0.02, momentum=0.95, weight_decay=0.0)
w = w_theirs = {"w": mx.random.normal((48, 16))}
for key in mx.random.split(mx.random.key(5), 10):
    g = {"w": mx.random.normal((48, 16), key=key)}
    w, w_theirs = ours.apply_gradients(g, w), theirs.apply_gradients(g, w_theirs)
gap = mx.abs(w["w"] - w_theirs["w"]).max().item()
print(f"largest difference after ten steps {gap:.0e}")
assert gap < 1e-3

# %% [markdown]
# They do. Then why write one? To know what is in it, and because of a pitfall. `mx.compile` keeps the Python numbers that a
# function has seen (chapter 00), and MLX's Muon keeps its momentum as one. Take a compiled step, change the momentum to 0, take
# another, and compare with the same two steps uncompiled:


# %%
def two_steps(optimizer, change, compiled):
    """A weight after a step, a change of the momentum, and a step with another gradient."""
    optimizer.init({"w": mx.ones((2, 3))})
    state = [optimizer.state]
    step = lambda g, w: optimizer.apply_gradients({"w": g}, {"w": w})["w"]  # noqa: E731
    step = mx.compile(step, inputs=state, outputs=state) if compiled else step
    w = step(mx.array([[1.0, 2.0, 3.0], [0.0, 1.0, -1.0]]), mx.ones((2, 3)))
    change(optimizer)
    return step(mx.array([[-1.0, 2.0, 0.0], [3.0, 1.0, -1.0]]), w)


ours = partial(two_steps, change=lambda muon: muon.state.update(momentum=mx.array(0.0)))
theirs = partial(two_steps, change=lambda muon: setattr(muon, "momentum", 0.0))
gap = mx.abs(ours(Muon(0.1), compiled=True) - ours(Muon(0.1), compiled=False)).max()
mlx_muon = partial(optim.Muon, 0.1, weight_decay=0.0)
gap_mlx = mx.abs(theirs(mlx_muon(), compiled=True) - theirs(mlx_muon(), compiled=False)).max()
print(f"compiled and uncompiled differ by {gap.item():.4f} (ours), {gap_mlx.item():.4f} (MLX's)")
claim("a compiled step sees the new momentum of ours, not of MLX's", gap < 1e-3 and gap_mlx > 0.01)

# %% [markdown]
# MLX's went on with 0.95 and said nothing.
#
# ## 9. Which parameter goes where
#
# ### Tables are not Muon's
#
# `wte` has the shape of a matrix, but no vector is multiplied by it: each id picks its row. What would Muon do to a table of
# 512 rows in a model 64 wide? Its step has 64 singular values of 1, so the squares of its entries add up to 64 (section 2),
# *whatever the batch holds* (of 64 ids or more). All the rows in use must share those 64:

# %%
far = []
for used in (64, 128, 512):
    g = mx.random.normal((512, 64), key=mx.random.key(6)) * (mx.arange(512) < used)[:, None]
    step = exact(g)  # rows without a gradient stay at zero
    far.append(mx.linalg.norm(step[:used], axis=1).mean().item())
    squares = mx.square(step).sum().item()
    print(f"{used:3d} ids: squares add up to {squares:.0f}, a row moves by {far[-1]:.2f}")
claim("the more ids in the batch, the less each of them moves", far[0] > far[1] > far[2])

# %% [markdown]
# How far an id moves would depend on how many others happen to be in the batch. That makes no sense for rows that are used one
# at a time. AdamW gives each number its own pace. The head *is* multiplied, so the argument does not reach it; that AdamW serves
# it better is experience (Jordan et al.).
#
# ### One place that says it

# %%
#| export train.optim
"""Which optimizer trains which parameter, and how rates and momentum change over a run.

Source: nanochat; the rates of wte and lm_head are those of a model with n_embd 768.
"""

import math
import re
from collections.abc import Callable

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim

from course_lib.host.errors import CourseError
from course_lib.train.muon import Muon

# %%
#| export train.optim
GROUPS = {  # the names of its parameters, as a regular expression
    "matrices": r"transformer\.h\..+\.weight",
    "embedding": r"transformer\.wte\.weight",
    "head": r"lm_head\.weight",
}


def group_of(name: str, parameter: mx.array, groups: dict[str, str] = GROUPS) -> str:
    """Which of the groups trains a parameter. Raises CourseError when none knows its name."""
    for group, names in groups.items():
        if re.fullmatch(names, name):
            return group
    raise CourseError(
        f"no optimizer trains the parameter {name} of shape {parameter.shape}; say in the table "
        "of groups, such as course_lib.train.optim.GROUPS, which one does, or freeze it"
    )


# %% tags=["nbval-check-output"]
try:
    group_of("transformer.wpe.weight", mx.zeros((128, 64)))
except CourseError as error:
    print(error)


# %% [markdown]
# The rates are those of nanochat (October 2025), found at a width of 768. For `wte` and the head they grow in narrower models,
# by $\sqrt{768/n_\text{embd}}$. Muon's stays, since its steps are scaled by shape already. `MultiOptimizer` asks its filters
# in order; what none claims goes to the last optimizer.


# %%
#| export train.optim
def make_optimizer(
    model: nn.Module,
    matrix_lr: float = 0.02,
    embedding_lr: float = 0.2,
    unembedding_lr: float = 0.004,
    muon: Callable[[float], optim.Optimizer] = Muon,
) -> optim.MultiOptimizer:
    """Muon for the matrices of the blocks, AdamW for wte and for lm_head, in the order of GROUPS.

    The rates of the two AdamW are scaled by √(768 / n_embd). muon: makes the first optimizer, of
    its learning rate. Raises CourseError for a parameter that is in no group.
    """
    rates = [rate * math.sqrt(768 / model.config.n_embd) for rate in (embedding_lr, unembedding_lr)]
    return for_groups(model, GROUPS, [muon(matrix_lr), *map(adamw, rates)])


def adamw(rate: float, betas: tuple = (0.8, 0.95), weight_decay: float = 0.0) -> optim.AdamW:
    """AdamW with nanochat's eps, and averages that are corrected for their start at 0."""
    return optim.AdamW(rate, betas, 1e-10, weight_decay, bias_correction=True)


def for_groups(model: nn.Module, groups: dict[str, str], optimizers: list) -> optim.MultiOptimizer:
    """An optimizer for each of the groups, in their order, with the state for the model."""
    filters = [lambda name, p, own=own: group_of(name, p, groups) == own for own in groups]
    optimizer = optim.MultiOptimizer(optimizers, filters[:-1])
    optimizer.init(model.trainable_parameters())
    return optimizer


# %% [markdown]
# Chapter 08's starting values have zeros in the head and in every `c_proj`. Which parameters will move first?

# %% tags=["nbval-check-output"]
newborn = GPT(small.config)
optimizer = make_optimizer(newborn)
loss_and_grad = nn.value_and_grad(newborn, GPT.loss)
for n in range(3):
    before = dict(tree_flatten(newborn.parameters()))
    _, gradients = loss_and_grad(newborn, *texts[n])
    optimizer.update(newborn, gradients)
    after = tree_flatten(newborn.parameters())
    moved = {name for name, weight in after if not mx.array_equal(weight, before[name])}
    print(f"step {n + 1} moves", *sorted({name.split(".")[-2] for name in moved}))
assert all(mx.isfinite(weight).all() for _, weight in after)

# %% [markdown]
# At step 1 a zero head lets no gradient through. Muon gets zeros and returns zeros, not NaN, thanks to the $10^{-7}$ in
# `newton_schulz`.
#
# ## 10. Schedules
#
# One factor multiplies all rates. It is 1 until the last fifth of the steps, the **warmdown**, and then falls to 0 along a line.
# (A **warm-up**, from small to 1 at the start, is off unless you ask for it.) Muon's momentum starts lower. All this is as in
# nanochat (October 2025).


# %%
#| export train.optim
def lr_multiplier(
    it: int,
    num_iterations: int,
    warmup_ratio: float = 0.0,
    warmdown_ratio: float = 0.2,
    final_lr_frac: float = 0.0,
) -> float:
    """What all learning rates are multiplied by at step `it` of 0 … num_iterations.

    It climbs to 1 over the first warmup_ratio of the steps, stays there, and falls along a line to
    final_lr_frac over the last warmdown_ratio of them.
    """
    warmup = round(warmup_ratio * num_iterations)
    warmdown = round(warmdown_ratio * num_iterations)
    if it < warmup:
        return (it + 1) / warmup
    if it <= num_iterations - warmdown:
        return 1.0
    left = (num_iterations - it) / warmdown
    return left + (1 - left) * final_lr_frac


def muon_momentum(it: int) -> float:
    """Muon's momentum at step `it`: from 0.85 to 0.95 over the first 300 steps."""
    share = min(it / 300, 1)
    return (1 - share) * 0.85 + share * 0.95


# %%
draw.draw_schedules(lr_multiplier, muon_momentum)

# %% tags=["nbval-check-output"]
print([round(lr_multiplier(it, 10), 2) for it in range(11)])
assert [lr_multiplier(it, 1000) for it in (0, 800, 1000)] == [1.0, 1.0, 0.0]  # 800 is N - warmdown
assert lr_multiplier(801, 1000) < 1 and lr_multiplier(1000, 1000, final_lr_frac=0.1) == 0.1
assert [round(muon_momentum(it), 6) for it in (0, 150, 300, 10_000)] == [0.85, 0.9, 0.95, 0.95]

# %% [markdown]
# ## 11. On a GPT
#
# Now section 4's question for real models. `wte` and the head get their AdamW in every run; only the optimizer of the
# *matrices* differs. And there is a **control**: "frozen" has a rate of 0, so its matrices never move. An optimizer that does
# not beat it has not made the matrices useful.


# %%
MAKERS = {"frozen": optim.SGD, "SGD": optim.SGD, "AdamW": plain, "Muon": Muon}
MAKERS["momentum"] = partial(optim.SGD, momentum=0.9)


def train(config, batches, kind, rate, seed):
    """A new GPT after a step with each batch."""
    model = GPT(config)
    init_weights(model, seed)
    optimizer = make_optimizer(model, rate, muon=MAKERS[kind])
    rates = [part.learning_rate.item() for part in optimizer.optimizers]
    loss_and_grad = nn.value_and_grad(model, GPT.loss)
    for n, batch in enumerate(batches):
        for part, base in zip(optimizer.optimizers, rates, strict=True):
            part.learning_rate = base * lr_multiplier(n, len(batches), warmdown_ratio=0.5)
        _, gradients = loss_and_grad(model, *batch)
        optimizer.update(model, gradients)
        mx.eval(model.parameters(), optimizer.state)
    return model


def loss_on(model, batches):
    """Nats per token."""
    total = sum(model.loss(*batch, "none").sum().item() for batch in batches)
    return round(total / sum((targets >= 0).sum().item() for _, targets in batches), 4)


# %% [markdown]
# Over the second half of the steps the rates fall to 0. Muon's momentum stays at 0.95; chapter 10 applies `muon_momentum`.
# Neither Muon nor AdamW has weight decay. Each optimizer gets its own search: several rates with seed 0, then the best of
# them with two other seeds (rings below). They are chosen on training data that no run sees, `choosing`, and judged on held-out data. A best rate at the edge of its grid does not count as tuned: one on either side must be worse.


# %%
def search(config, batches, choosing, held_out, grid):
    """A row for each run: all rates of the grid with seed 0, the best with seeds 1 and 2 too."""
    for kind, rates in grid.items():
        chosen = {}
        for seed in range(budget(3, quick=1)):
            for rate in [min(chosen, key=chosen.get)] if seed else rates:
                model = train(config, batches, kind, rate, seed)
                row = {"kind": kind, "rate": rate, "seed": seed, "steps": len(batches)}
                row |= {"choosing": loss_on(model, choosing), "loss": loss_on(model, held_out)}
                chosen.setdefault(rate, row["choosing"])
                yield row


# %%
def at_best(rows):
    """Each kind's losses at its best rate, the seeds in order; no best rate may be at an edge."""
    found = {}
    for kind in dict.fromkeys(row["kind"] for row in rows):
        own = [row for row in rows if row["kind"] == kind]
        rates = [row["rate"] for row in own]
        rate = max(rates, key=rates.count)  # the best was run with the other seeds, too
        if budget(1, quick=0) and any(rates):
            assert min(rates) < rate < max(rates), f"{kind}: the best rate {rate} is at the edge"
        found[kind] = [row["loss"] for row in own if row["rate"] == rate]
        print(f"{kind:9s} rate {rate:<6g}", *found[kind])
    return found


# %% [markdown]
# ### Names
#
# First the names of chapter 04, and a GPT with two blocks, 64 wide: 64 names per step for 150 steps, then 256 for 400.

# %%
names = load_names()
train_names, unseen = split_names(names)
letters = CharTokenizer(names)
tiny = GPTConfig(sequence_len=12, vocab_size=27, n_layer=2, n_head=2, n_kv_head=2, n_embd=64)


def name_batch(names):
    ids, targets, mask = make_batch(names, letters, 12)
    return ids, mx.where(mask == 1, targets, -1)


def name_batches(size, steps):
    stream = batches(train_names[:-1600], size, seed=0)
    return [name_batch(next(stream)) for _ in range(budget(steps, quick=1))]


of_names = [name_batch(train_names[-1600:])], [name_batch(unseen[:2000])]  # choosing, held out

# %%
FROZEN, FEW = {"frozen": [0]}, {"SGD": [0.3, 1, 3, 10], "momentum": [0.1, 0.3, 1]}
TUNED = {"AdamW": [0.0025, 0.005, 0.01, 0.02], "Muon": [0.007, 0.02, 0.04, 0.08]}


def names_64():
    yield from search(tiny, name_batches(64, 150), *of_names, FROZEN | FEW | TUNED)


def names_256():
    yield from search(tiny, name_batches(256, 400), *of_names, FROZEN | TUNED)


searches = {"64 names, 150 steps": stored("muon_names_64", names_64)}
searches["256 names, 400 steps"] = stored("muon_names_256", names_256)

# %%
draw.draw_searches(searches)
on_64, on_256 = (at_best(rows) for rows in searches.values())


# %%
def apart(better, worse):
    """Whether every seed of `better` lies below every seed of `worse`."""
    return max(better) < min(worse)


for kind in ("SGD", "momentum", "AdamW", "Muon"):
    claim(f"64 names: {kind} beats frozen matrices", apart(on_64[kind], on_64["frozen"]))
claim("64 names: SGD is no worse than AdamW", np.mean(on_64["SGD"]) <= np.mean(on_64["AdamW"]))
for size, rows in ((64, on_64), (256, on_256)):
    claim(f"{size} names: all seeds of Muon beat AdamW", apart(rows["Muon"], rows["AdamW"]))
    print(f"Muon leads by {np.mean(rows['AdamW']) - np.mean(rows['Muon']):.4f} nats")

# %% [markdown]
# With 64 names per step, plain SGD with a tuned rate is as good as AdamW; only Muon stands out. With 256 names and more steps,
# its lead over AdamW is about the same.
#
# That is at equal *steps*. A step of Muon costs more. And at equal *time*?

# %%
few = name_batches(256, 3)
seconds = {"AdamW": [], "Muon": []}
for _ in range(budget(25, quick=1)):
    for kind, measured in seconds.items():
        begin = time.perf_counter()
        train(tiny, few, kind, 0.005, seed=0)
        measured.append(time.perf_counter() - begin)
ratio = np.median(seconds["Muon"]) / np.median(seconds["AdamW"])
print(f"with Muon the same steps take {ratio:.2f} times as long")
claim("they take less than 1.3 times as long", ratio < 1.3)


# %%
def names_longer():
    for seed in range(budget(3, quick=1)):
        model = train(tiny, name_batches(256, 520), "AdamW", 0.005, seed)
        yield {"seed": seed, "steps": 520, "loss": loss_on(model, of_names[1])}


longer = [row["loss"] for row in stored("muon_names_longer", names_longer)]
print("AdamW with 30 % more steps:", *longer)
claim("AdamW with 30 % more steps is still behind Muon", apart(on_256["Muon"], longer))

# %% [markdown]
# So here Muon wins at equal time as well.
#
# ### Text
#
# Then the bundled corpus and the model of chapter 08's ladder: four blocks, 128 wide, 512 ids, 400 steps of 1,024 tokens.

# %%
LADDER = GPTConfig(sequence_len=128, vocab_size=512, n_layer=4, n_head=4, n_kv_head=4, n_embd=128)


def on_corpus():
    with TokenLoader(data, tokenizer, "val", 8, 128) as loader:
        unseen_texts = list(islice(loader, budget(32, quick=1)))
    grid = FROZEN | {"AdamW": [0.001, 0.002, 0.004], "Muon": [0.01, 0.02, 0.04]}
    yield from search(LADDER, texts[:STEPS], texts[-16:], unseen_texts, grid)


text_rows = stored("muon_text", on_corpus)
draw.draw_searches({"bundled corpus, 400 steps": text_rows})

# %%
on_text = at_best(text_rows)
print(f"AdamW leads by {np.mean(on_text['Muon']) - np.mean(on_text['AdamW']):.4f} nats")
for kind in ("AdamW", "Muon"):
    claim(f"text: {kind} beats frozen matrices", apart(on_text[kind], on_text["frozen"]))
claim("text: all seeds of AdamW beat all of Muon", apart(on_text["AdamW"], on_text["Muon"]))
for kind, losses in on_text.items():
    record_loss("09", kind, "in the blocks; AdamW elsewhere", "python docs", STEPS, losses)
draw_loss_log("python docs", until="09")

# %% [markdown]
# Training the matrices gains much. But AdamW does it better: its seeds differ by 0.05, and its worst is still 0.06 below Muon's best. Both rates lie inside
# their grids. So Muon won on names and lost on text. Why? Part of the answer: its momentum is 0.95 from the first step on. With less of it at
# first (section 10), Muon draws level in chapter 10. (It was 0.95 on names, too, where it won.)
#
# Why use it, then? Because of what others report for larger models and batches. With a model of the size of GPT-2's smallest,
# Jordan reached the same loss with 3.7 billion tokens in place of 5. Wen et al. tuned both sides with great care and found
# less: 1.4 times the speed at 0.1 billion parameters, 1.1 at 1.2 billion. And Muon stores one number for each weight where
# AdamW stores two.
#
# ## Exercises
#
# Run the cells above first (menu *Run*, *Run All Above Selected Cell*). The solutions are in
# [solutions/09_muon_solutions.ipynb](solutions/09_muon_solutions.ipynb).
#
# ### Exercise 9.1 — until it is exact
#
# 20 minutes, ●●○. Write `polar(g)`: the orthogonal matrix nearest to g, exact to three digits, by products only. (The check
# cannot see whether you use the SVD; don't.) g may be tall or wide, and its largest singular value is at most 1,000 times the
# smallest.
#
# <details><summary>Hint 1</summary>Which of section 5's two curves comes to rest at 1? And what must hold for the singular values before the first round?</details>
#
# <details><summary>Hint 2</summary>Divide by the norm. Repeat x ← 1.5 x − 0.5 X Xᵀ X until X Xᵀ of the shorter side is the identity to 1e-4, or 60
# rounds.</details>


# %% tags=["exercise"]
def polar(g):
    raise NotImplementedError


# %%
check(exercises.polar, polar)


# %% [markdown]
# ### Exercise 9.2 — a test for the scale
#
# 20 minutes, ●●○. A learner's `step(direction, rate)` returns what is subtracted from the weight, and its scale may be wrong.
# Write `scale_error(step, rows, columns)`: how many times too long its step is for a weight (rows, columns), 1.0 when right,
# below 1 when too short. Call it with an orthogonal direction of that shape, and measure. The check allows 10 %.
#
# <details><summary>Hint 1</summary>Section 8 judged a direction by what comes out of the layer, not by the size of the direction itself. Do the same to a whole
# step.</details>
#
# <details><summary>Hint 2</summary>Take `exact` of a random matrix and a rate of your choice. A few thousand random inputs of size 1 go through the step; what
# comes out should have the rate as its root mean square.</details>


# %% tags=["exercise"]
def scale_error(step, rows, columns):
    raise NotImplementedError


# %%
check(exercises.scale_error, scale_error)


# %% [markdown]
# ### Exercise 9.3 — another warmdown
#
# 10 minutes, ●○○. Some runs fall faster at first: the factor is $1 - \sqrt{p}$, where $p$ is the share of the warmdown that is
# over. Write `sqrt_warmdown(it, num_iterations, warmdown_ratio=0.2)` with the same edges as `lr_multiplier`: the warmdown
# rounded to whole steps, 1.0 up to and including step N − warmdown, 0.0 at step N, and 1.0 at every step when the ratio is 0.
#
# <details><summary>Hint 1</summary>At step 85 of 100 a quarter of the warmdown is over. What should come out there?</details>
#
# <details><summary>Hint 2</summary>If the step is at or before N − warmdown, return 1.0 first; below that line warmdown cannot be 0.</details>


# %% tags=["exercise"]
def sqrt_warmdown(it, num_iterations, warmdown_ratio=0.2):
    raise NotImplementedError


# %%
check(exercises.sqrt_warmdown, sqrt_warmdown)

# %% [markdown]
# ## Summary
#
# - A matrix turns, stretches and turns again. SGD follows the long stretches, AdamW scales single numbers, Muon makes all stretches equal.
# - Of all steps that change no output by more than a given length, $UV^\top$ lowers the loss of this batch most.
# - On the real gradients that we looked at, over half of AdamW's and momentum's step was one single direction.
# - Newton–Schulz makes a matrix nearly orthogonal with products alone. Its cost per step is fixed, so large batches hide it.
# - The matrices of the blocks go to Muon, `wte` and the head to AdamW.
# - Compare optimizers at tuned rates, at equal steps *and* time, with seeds and a control.
#
# ## Pitfalls
#
# - A momentum kept as a Python number: a compiled step never sees it change (section 8).
# - MLX's defaults: its `Muon` and `AdamW` have a weight decay of 0.01, and `AdamW` corrects no bias unless told to.
# - Another scale with this scale's rate: √max(rows, columns) makes the steps √columns times longer.
# - Newton–Schulz without the small number below the division: a zero gradient becomes NaN, and the first gradients here are zero.
# - A new optimizer, tuned, against an old one that is not: look for rates at the edge of a grid.
#
# ## Further reading
#
# - [Muon](https://kellerjordan.github.io/posts/muon/), Jordan et al., 2024: where it comes from, with the coefficients.
# - [Old Optimizer, New Norm](https://arxiv.org/abs/2409.20325), Bernstein and Newhouse, 2024: section 3, for many optimizers.
# - [Muon is Scalable for LLM Training](https://arxiv.org/abs/2502.16982), Liu et al., 2025.
# - [Fantastic Pretraining Optimizers and Where to Find Them](https://arxiv.org/abs/2509.02046), Wen et al., 2025: both sides tuned.
#
# **Next:** [10 · Training](10_training.ipynb): the loop around the step.
