# %% [markdown]
# # 02 · Autograd: where gradients come from
#
# **Goal.** Build a small engine that finds derivatives by itself, and let it learn from nothing the table of names that chapter 01 counted.
#
# | | |
# |---|---|
# | Needs | chapters 00 and 01; school algebra; no calculus: what you need is built or tested here |
# | Time | 65 minutes to read, 65 for the exercises; under a minute to run |
# | Memory | under 0.5 GB |
# | You will build → exported to | `Value`, `Tensor`, `topological_order` → `course_lib.names.autograd` |

# %% [markdown]
# ![Map of the course, chapter 02 highlighted: autograd follows names and comes before microgpt](images/map_02.png)
#
# [00](00_start_here.ipynb) · [01](01_names.ipynb) · **02** · [03](03_microgpt.ipynb) · [04](04_batches.ipynb) · [05](05_tokenizer.ipynb) · [06](06_data.ipynb) · [07](07_attention.ipynb) · [08](08_gpt.ipynb) · [09](09_muon.ipynb) · [10](10_training.ipynb) · [11](11_evaluation.ipynb) · [12](12_engine.ipynb) · [13](13_conversations.ipynb) · [14](14_tools_and_tasks.ipynb) · [15](15_reinforcement.ipynb) · [16](16_serving.ipynb) · [17](17_chat.ipynb) · [18](18_speedrun.ipynb) · [19](19_memory.ipynb) · [20](20_processes.ipynb) · [21](21_nanochat_2026.ipynb) · [22](22_weights.ipynb) · [open this one in Colab](https://colab.research.google.com/github/OWNER/microgpt-to-nanochat/blob/main/notebooks/02_autograd.ipynb) ([how](https://github.com/OWNER/microgpt-to-nanochat/blob/main/docs/machines.md#colab))
# %%
#| export names.autograd
"""Two small engines that find derivatives: Value for single numbers, Tensor for arrays.

Reverse-mode automatic differentiation, in the spirit of micrograd.
"""

import math

import numpy as np

from course_lib.names.refusals import check_exp, check_log, check_number, check_power

# %%
import time

import matplotlib.pyplot as plt
import mlx.core as mx

from course_lib.classroom import LiveCurve, add_to, budget, check, claim, record_loss
from course_lib.classroom.draw_graph import draw_graph, draw_product_gradients
from course_lib.classroom.exercises import autograd as exercises
from course_lib.names.bigram import (
    CharTokenizer,
    bigram_counts,
    bigram_loss,
    bigram_probs,
    bigram_sample,
    bigrams,
    load_names,
    split_names,
)

BLUE, ORANGE = "#0072B2", "#D55E00"

# %% [markdown]
# ## 1. A table that nobody counted
#
# In chapter 01 you counted pairs of letters and made a table of probabilities from the counts. Here is another way to fill that
# table. Begin with 27 × 27 zeros as logits. In each step, ask MLX for the gradient of the loss and move all 729 numbers a little
# against it.

# %%
names = load_names()
tokenizer = CharTokenizer(names)
train_names, held_out = split_names(names)
counts = np.array(bigram_counts(train_names, tokenizer), dtype=float)  # (27, 27)
shares = counts / counts.sum()  # of all guesses, how many are this pair
print(f"{counts.sum():,.0f} guesses, {(counts > 0).sum()} of {counts.size} pairs occur")


# %%
def table_loss(table):
    """Mean -ln p over all guesses. table: (27, 27), row = an id, logits of what comes next."""
    return -(mx.array(shares) * mx.log(mx.softmax(table, axis=1))).sum()


loss_and_gradient = mx.value_and_grad(table_loss)
table, mlx_curve = mx.zeros((27, 27)), LiveCurve("nats per guess")
for step in range(budget(200, 20)):
    loss, gradient = loss_and_gradient(table)
    table = table - 50 * gradient  # why 50? See section 10
    mx.eval(table)
    mlx_curve.add(step, loss.item())
mlx_curve.show()
print(f"{mlx_curve.values[0]:.4f} -> {mlx_curve.values[-1]:.4f}")

# %% [markdown]
# (Equal guesses have equal losses, so each $-\ln p$ is computed once and weighted by the **share** of the guesses that are this
# pair. That is only a shortcut: section 11 writes the loss guess by guess, without counts.)
#
# The loss falls from that of a model that knows nothing to nearly that of the counts, though nobody wrote a count into the table.
# What told each of the 729 numbers which way to go? `mx.value_and_grad` did. In this chapter you build what it does; at the end
# your own engine takes these steps again. What do you think will be in the table then?

# %% [markdown]
# ## 2. A derivative is the answer to a nudge
#
# Training asks one question, for every number inside a model: *if I make this number a little bigger, does the loss go up or
# down, and how fast?* The answer is the **derivative** of the loss with respect to that number.
#
# You can measure it. Nudge the number up by a tiny `h`, then down by `h`, and see how much the result moved for each unit of
# nudge.

# %%
def nudge(f, x, h=1e-5):
    """How much f(x) moves for each unit that x moves, measured: (f(x + h) - f(x - h)) / 2h."""
    return (f(x + h) - f(x - h)) / (2 * h)


# %%
def parabola(x):
    return x**2 - 3 * x


for x in (2.0, 0.5):
    print(f"at x = {x} the derivative is {nudge(parabola, x):.6f}")

# %% [markdown]
# Here you can also find it exactly. $(x + h)^2 = x^2 + 2xh + h^2$, and for a tiny $h$ the last term is too small to matter: $x^2$
# moves by $2x$ for each unit. And $3x$ moves by 3. So the derivative of $x^2 - 3x$ is $2x - 3$, which is 1 and −2.

# %%
xs = np.linspace(-0.5, 3.5, 100)
figure, axes = plt.subplots(figsize=(5, 3))
axes.plot(xs, parabola(xs), color=BLUE, label="$x^2 - 3x$")
for x, style in ((2.0, "--"), (0.5, ":")):
    near, slope = np.array([x - 0.7, x + 0.7]), nudge(parabola, x)
    assert abs(slope - (2 * x - 3)) < 1e-6
    line = parabola(x) + slope * (near - x)
    axes.plot(near, line, style, color=ORANGE, label=f"slope {slope:.0f} at {x}")
    axes.plot(x, parabola(x), "o", color=ORANGE)
axes.set(xlabel="x", ylabel="f(x)")
axes.legend(frameon=False)
plt.show()

# %% [markdown]
# The derivative is the **slope** of the curve at one point. Where it is positive, go left to get lower; where it is negative, go
# right. All the derivatives of one loss together are its **gradient**.
#
# Why not nudge, then? It costs two runs of the model *for each number*: 1,458 runs for one step of the table above. Nor is
# it ever exact: with a large `h` the curve bends on the way; with a tiny one, rounding drowns the slope.

# %%
for h in (1e-1, 1e-5, 1e-13):
    print(f"h = {h:g}: off by {abs(nudge(math.exp, 0.5, h) - math.exp(0.5)):.1e}")

# %% [markdown]
# (The function is $e^x$, its own derivative.) Around $10^{-5}$ is a good size. Nudging is too slow for training but perfect for
# *checking* gradients found in another way: a **numerical gradient check**.
#
# ## 3. The chain rule, with tiny numbers
#
# Take a very small model: for an input $x$, guess $wx + b$ and compare it with the right answer $y$. The loss is the miss,
# squared. Do it in four small steps. Such a run from inputs to loss is called the **forward pass**.

# %%
x, w, b, y = 3.0, 2.0, 1.0, 5.0
product = w * x
guess = product + b
miss = guess - y
loss = miss**2
print(f"product {product}, guess {guess}, miss {miss}, loss {loss}")

# %% [markdown]
# Now go backwards, one step at a time. Each step asks only: *how does the result of this step move when one of its parts moves?*
# That is the step's **local slope**.
#
# - `loss = miss**2`: as with $x^2$, the slope is `2 * miss`, here 4.
# - `miss = guess - y`: one more of `guess` is one more of `miss` (slope 1); one more of `y` is one less (slope −1).
# - `guess = product + b`: slope 1 for both.
# - `product = w * x`: one more of `w` adds another `x` (slope `x`, here 3); one more of `x` adds another `w` (slope 2).
#
# The **chain rule** joins them: slopes along a path multiply. If `b` moves `guess` 1 for 1, and `guess` moves `miss` 1 for 1, and `miss`
# moves `loss` 4 for 1, then `b` moves `loss` 1 · 1 · 4 for 1. Below, `d_b` means: the derivative of the loss with respect to `b`.

# %%
d_loss = 1.0
d_miss = 2 * miss * d_loss
d_guess, d_y = 1 * d_miss, -1 * d_miss
d_product, d_b = 1 * d_guess, 1 * d_guess
d_w, d_x = x * d_product, w * d_product


# %%
def whole(w, x, b, y):
    return (w * x + b - y) ** 2


by_hand, at = [d_w, d_x, d_b, d_y], [w, x, b, y]
for n, name in enumerate("wxby"):
    measured = nudge(lambda moved, n=n: whole(*at[:n], moved, *at[n + 1 :]), at[n])
    print(f"d_{name}: by hand {by_hand[n]:5.1f}, by nudging {measured:9.5f}")
    assert abs(measured - by_hand[n]) < 1e-6


# %% [markdown]
# You have just done **backpropagation** (also called reverse-mode differentiation): start at the end with 1 and walk back,
# multiplying by local slopes. One walk gave all four derivatives. None of it needed cleverness, so a program can do it.
#
# ## 4. A number that remembers
#
# To walk back, you must know the way. So wrap each number in an object that remembers two things: its **parents** (the numbers it
# was made of) and the local slope for each of them. (The functions `check_…` refuse what cannot work.)

# %%
#| export names.autograd
class Value:
    """A number that remembers what it was made of, so that `backward` can find derivatives.

    data: the number; grad: the derivative of the result on which `backward` is called, 0.0 before.
    parents: the Values that it was computed from; slopes: the local derivative for each, floats.
    """

    def __init__(self, data: float, parents: tuple = (), slopes: tuple = ()):
        check_number(data)
        self.data, self.grad = float(data), 0.0
        self.parents, self.slopes = parents, slopes

    def __repr__(self) -> str:
        return f"Value(data={self.data:g}, grad={self.grad:g})"


def as_value(number: "Value | float") -> Value:
    """The number itself if it is a Value, else a new Value of it, so that `value + 1` works."""
    return number if isinstance(number, Value) else Value(number)


# %% [markdown]
# The class grows as you go: `@add_to(Value)` puts a function into it. Each operation computes its result and notes the local
# slopes that you just used by hand. (The slope of a power $a^n$ is $n a^{n-1}$; for $n = 2$ that is the `2 * miss` from above.)

# %%
#| export names.autograd
@add_to(Value)
def __add__(self, other: "Value | float") -> "Value":
    other = as_value(other)
    return Value(self.data + other.data, (self, other), (1.0, 1.0))


@add_to(Value)
def __sub__(self, other: "Value | float") -> "Value":
    other = as_value(other)
    return Value(self.data - other.data, (self, other), (1.0, -1.0))


@add_to(Value)
def __mul__(self, other: "Value | float") -> "Value":
    other = as_value(other)
    return Value(self.data * other.data, (self, other), (other.data, self.data))


@add_to(Value)
def __pow__(self, exponent: float) -> "Value":
    check_power(self.data, exponent)
    slope = exponent * self.data ** (exponent - 1) if exponent else 0.0
    return Value(self.data**exponent, (self,), (slope,))


# %%
x, w, b, y = Value(3.0), Value(2.0), Value(1.0), Value(5.0)
product = w * x
guess = product + b
miss = guess - y
loss = miss**2
print(loss, "was made of", loss.parents, "with slope", loss.slopes)

# %% [markdown]
# ## 5. The graph, and the order to walk it
#
# The values and their parents form a **graph**: values are its nodes; an arrow leads from each parent to what was made of it.
# Nodes without parents, such as `w`, are its **leaves**: white and round below. Results are blue and square.

# %%
labels = {w: "w", x: "x", product: "w · x", b: "b", guess: "guess", y: "y", miss: "miss"}
labels[loss] = "loss = miss²"
draw_graph(loss, labels, grads=False)


# %% [markdown]
# Each arrow carries the local slope that was noted when the value was made. The gradients are still unknown. Fill them in
# yourself from right to left: start with 1 at `loss` and multiply along the arrows. The answer comes in section 6.
#
# A program has to take care of the order. In $ab + a$, the value $a$ is used twice: in the product and in the sum. It has to collect
# both contributions before it passes anything on to its own parents. So you need the nodes in **topological order**: every node after
# its parents. Walked in reverse, every node comes after everything that was made of it. The obvious way: to list a node, list its parents first.

# %%
def parents_first(node, order):
    """Append what `node` was made of, then `node` itself, to `order`, each once."""
    if node not in order:
        for parent in node.parents:
            parents_first(parent, order)
        order.append(node)
    return order


# %%
print([labels[node] for node in parents_first(loss, [])])


# %% [markdown]
# A function that calls itself goes as deep as the graph, but Python stops after about a thousand nested calls. So the package's
# version keeps its own list of what is still to do. The order is the same; you can skip how.

# %%
#| export names.autograd
def topological_order(root: "Value | Tensor") -> list:
    """All nodes that `root` was made of, each once, after its parents; `root` comes last."""
    order, seen, todo = [], set(), [(root, False)]
    while todo:
        node, parents_listed = todo.pop()
        if parents_listed:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            todo.append((node, True))  # comes up again when everything above it is done
            todo.extend((parent, False) for parent in reversed(node.parents))
    return order


# %%
assert topological_order(loss) == parents_first(loss, [])

# %% [markdown]
# ## 6. Backward
#
# Walk the order in reverse. The dictionary `flow` holds, for each node, the sum of what has been reported to it so far. (Its keys are
# the nodes themselves. Two Values are different keys even when they hold the same number.) When a node's turn comes, that sum
# is complete: it is the node's gradient. The node then reports `slope * gradient` to each of its parents.

# %%
#| export names.autograd
@add_to(Value)
def backward(self) -> None:
    """For every value v that this one was made of, add d(this)/d(v) to `v.grad`.

    Gradients accumulate: a second call doubles them. Set `grad = 0.0` before each training step.
    """
    flow = {self: 1.0}
    for node in reversed(topological_order(self)):
        gradient = flow.pop(node)
        node.grad += gradient
        for parent, slope in zip(node.parents, node.slopes, strict=True):
            flow[parent] = flow.get(parent, 0.0) + slope * gradient


# %%
loss.backward()
draw_graph(loss, labels)
assert (w.grad, x.grad, b.grad, y.grad) == (d_w, d_x, d_b, d_y), "not what you had by hand"

# %% [markdown]
# Are these your numbers? The gradient of a box is that of the box its arrow points to, times the slope on the arrow.
#
# ### Why the `+`
#
# A value may be used twice, as $a$ in $ab + a$. Then it moves the result along two paths; the two effects **add up**.

# %%
a, b = Value(2.0), Value(3.0)
ab = a * b
result = ab + a
result.backward()
draw_graph(result, {a: "a", b: "b", ab: "a · b", result: "a · b + a"})
assert abs(a.grad - nudge(lambda a: a * 3.0 + a, 2.0)) < 1e-6

# %% [markdown]
# Two arrows leave `a`: one with slope 3 through the product, one with slope 1 straight to the result. Its gradient is 3 + 1 = 4.
#
# There are two additions in `backward`. The one in `flow` adds up the paths within one walk. An engine without it keeps only the
# last report: a common bug and a quiet one, since everything still runs. You catch it in exercise 2.2. The `+=` on `node.grad`
# adds up separate walks: calling `backward` twice doubles the gradients.

# %% tags=["nbval-check-output"]
result.backward()
print(a)


# %% [markdown]
# ## 7. The other operations
#
# Most need no rule of their own: they are made of the ones you have. Python calls the methods with an `r` in front when the *left*
# side is a plain number, as in `1 - value`.

# %%
#| export names.autograd
@add_to(Value)
def __neg__(self) -> "Value":
    return self * -1


@add_to(Value)
def __truediv__(self, other: "Value | float") -> "Value":
    return self * as_value(other) ** -1


@add_to(Value)
def __radd__(self, other: float) -> "Value":
    return self + other


@add_to(Value)
def __rsub__(self, other: float) -> "Value":
    return as_value(other) - self


@add_to(Value)
def __rmul__(self, other: float) -> "Value":
    return self * other


@add_to(Value)
def __rtruediv__(self, other: float) -> "Value":
    return as_value(other) / self


@add_to(Value)
def __rpow__(self, other: float) -> "Value":
    return as_value(other) ** self


# %% [markdown]
# Four functions need a rule. The first three slopes are from a table of derivatives; test them by nudging.
#
# | result | local slope | the slope in words |
# |---|---|---|
# | $e^a$ (`exp`) | $e^a$, the result itself | the higher, the steeper |
# | $\ln a$ (`log`) | $1 / a$ | the bigger $a$ is, the less one more matters |
# | $\tanh a$ (`tanh`) | $1 - \tanh^2 a$ | steep near 0, flat far from it |
# | $\max(a, 0)$ (`relu`) | 1 where $a > 0$, else 0 | a positive number moves the result one for one, any other not at all |

# %%
#| export names.autograd
@add_to(Value)
def exp(self) -> "Value":
    check_exp(self.data)
    power = math.exp(self.data)
    return Value(power, (self,), (power,))


@add_to(Value)
def log(self) -> "Value":
    check_log(self.data)
    return Value(math.log(self.data), (self,), (1 / self.data,))


@add_to(Value)
def tanh(self) -> "Value":
    squeezed = math.tanh(self.data)
    return Value(squeezed, (self,), (1 - squeezed**2,))


@add_to(Value)
def relu(self) -> "Value":
    """The number where it is positive, else 0; the slope at 0 is 0."""
    off = self.data <= 0
    return Value(0.0 if off else self.data, (self,), (0.0 if off else 1.0,))


# %% [markdown]
# That is the whole engine. It has two independent witnesses: nudging and MLX.

# %%
rules = {
    "a * a - a": lambda a: a * a - a,
    "1 - a": lambda a: 1 - a,
    "1 / a": lambda a: 1 / a,
    "a ** 3": lambda a: a**3,
    "exp": lambda a: a.exp(),
    "log": lambda a: a.log(),
    "tanh": lambda a: a.tanh(),
    "relu, on": lambda a: a.relu(),
    "relu, off": lambda a: (a - 1).relu(),
}
for name, rule in rules.items():
    a = Value(0.7)
    rule(a).backward()
    measured = nudge(lambda x, rule=rule: rule(Value(x)).data, 0.7)
    print(f"{name:>9}: engine {a.grad:9.6f}, nudged {measured:9.6f}")
    assert abs(a.grad - measured) < 1e-8, name


# %%
def compare(name, mine, theirs, tolerance=1e-3):
    """Print the largest difference between two arrays of numbers; stop when they are not close."""
    mine, theirs = np.array(mine), np.array(theirs)
    assert mine.shape == theirs.shape, f"{name}: shape {mine.shape} is compared with {theirs.shape}"
    difference = np.abs(mine - theirs).max()
    print(f"{name:>10} {mine.shape!s:>8}  largest difference: {difference:.1e}")
    assert difference <= tolerance * np.abs(theirs).max(), f"{name}: not close"


# %%
def mixed(a, b, exp, log, relu):
    return exp(a * b) / (2 - a) + relu(a**3 - b) * log(b + 1)


a, b = Value(1.2), Value(0.7)
mixed(a, b, Value.exp, Value.log, Value.relu).backward()
in_mlx = mx.grad(lambda a, b: mixed(a, b, mx.exp, mx.log, lambda x: mx.maximum(x, 0)), (0, 1))
compare("mixed", (a.grad, b.grad), in_mlx(mx.array(1.2), mx.array(0.7)))

# %% [markdown]
# The `(0, 1)` asks for the gradients of arguments 0 and 1. A difference below $10^{-6}$ is rounding: MLX computes with about 7 digits
# (`float32`), Python's floats have about 16.
#
# ## 8. A row of the table learns
#
# Back to the names, first with a single row and small numbers. Say that after some letter you have seen *a* five times, *i* twice
# and *o* once. The row has three logits, all zero at first. The loss is that of chapter 01, the mean of $-\ln p$. With the
# softmax in it, the logarithm of the fraction becomes a difference:
#
# $$-\ln p_y = -\ln \frac{e^{z_y}}{\sum_j e^{z_j}} = \ln S - z_y, \qquad S = \sum_j e^{z_j}$$
#
# Written in logits like this it is also called **cross-entropy**.

# %%
seen = [5, 2, 1]  # a, i, o
logits = [Value(0.0), Value(0.0), Value(0.0)]


def row_loss(logits):
    """Mean of ln S - z_y over the guesses that were seen."""
    log_total = sum(z.exp() for z in logits).log()
    losses = [log_total - z for z in logits]
    return sum(n * loss for n, loss in zip(seen, losses, strict=True)) / sum(seen)


# %%
loss = row_loss(logits)
print(f"loss {loss.data:.4f}, ln 3 = {math.log(3):.4f}")
assert abs(loss.data - math.log(3)) < 1e-12

# %% [markdown]
# Why $\ln 3$? Equal logits give equal probabilities, a third each, so *every* guess costs $-\ln \frac13 = \ln 3$, whatever was seen. With
# 27 equal logits it is $\ln 27 = 3.2958$. That is the promise of chapter 01: the first loss of a model that knows nothing.
#
# Now the gradient. Before you run the cell: which of the three logits should go up?

# %%
loss.backward()
said = np.array([1 / 3, 1 / 3, 1 / 3])
true = np.array(seen) / 8
for letter, z, p, share in zip("aio", logits, said, true, strict=True):
    print(f"{letter}: said {p:.3f} - true {share:.3f} = {p - share:6.3f}; engine {z.grad:6.3f}")
assert np.allclose([z.grad for z in logits], said - true)

# %% [markdown]
# The engine's gradient is **what the model said, minus what was true**. Why? Take one guess with the right letter $y$; its loss is $\ln S - z_y$.
#
# - The slope of $\ln S$ is $1 / S$, and the slope of $S$ for the logit $z_i$ is $e^{z_i}$. Multiply: $e^{z_i} / S$, which is $p_i$. (Here
#   $\frac13$ for each.)
# - The part $-z_y$ adds −1 for the right letter, and nothing for the others.
#
# So one guess gives $p_i - 1$ for the right letter and $p_i$ for the others. The mean over the eight guesses makes the 1 a share: for *a*,
# $\frac13 - \frac58$. A step goes *against* the gradient, so bars that hang down push their logit up:

# %%
figure, axes = plt.subplots(figsize=(5.5, 2.6))
spots = np.arange(3)
axes.bar(spots - 0.27, said, 0.25, color=BLUE, label="said: p")
axes.bar(spots, true, 0.25, color="white", edgecolor="black", hatch="//", label="true: share")
axes.bar(spots + 0.27, said - true, 0.25, color=ORANGE, hatch="..", label="p - share")
axes.axhline(0, color="black", linewidth=0.8)
axes.set_xticks(spots, ["a", "i", "o"])
axes.set_xlabel("next letter")
axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
plt.show()

# %% [markdown]
# Train it: **gradient descent**, as in chapter 00. Gradients add up, so each step begins by setting them to zero.

# %%
curve = LiveCurve("nats per guess")
for step in range(budget(150, 20)):
    for z in logits:
        z.grad = 0.0
    loss = row_loss(logits)
    loss.backward()
    for z in logits:
        z.data -= 1.0 * z.grad  # learning rate 1.0
    curve.add(step, loss.data)
curve.show()

# %%
learned = np.exp([z.data for z in logits])
print("probabilities", (learned / learned.sum()).round(3), "| shares", true)
print("e^logit, with o as 1:", (learned / learned[2]).round(2))
claim("the row has learned the shares", np.abs(learned / learned.sum() - true).max() < 0.001)

# %% [markdown]
# 5 to 2 to 1: the logits have become the **logarithms of the counts**, up to a number that is the same for all three. (Add a
# number to all logits, and $e^z$ grows by the same factor above and below the fraction: softmax cannot see it.) It could not end
# anywhere else: the gradient is zero only where $p$ equals the share.

# %% [markdown]
# ## 9. From numbers to arrays
#
# An object for every number is slow: one loss of the whole table would make thousands. So real engines keep one object for each
# **array**, called a **tensor** in PyTorch. The walk stays the same; only the report to a parent changes. A gradient now has
# **the same shape as its array**. Three rules say what is reported.
#
# 1. **Entry by entry** (`exp`, `log`, `*`): multiply by the local slope, entry by entry.
# 2. **Broadcast forward, sum backward.** An entry that was repeated n times collects n reports, which are added up: the `+` of `flow` again.
# 3. **Matrix product.** `C = A @ B` has two gradients. You can find both with numbers.
#
# ### Both gradients of a matrix product
#
# $$\begin{pmatrix} 1 & 2 \end{pmatrix} \begin{pmatrix} 3 & 4 & 5 \\ 6 & 7 & 8 \end{pmatrix} = \begin{pmatrix} 1 \cdot 3 + 2 \cdot 6 & \; 1 \cdot 4 + 2 \cdot 7 & \; 1 \cdot 5 + 2 \cdot 8 \end{pmatrix}$$
#
# Say that the loss moves by 1, 10 and 100 for each unit of the three results: `dC` = (1, 10, 100).
#
# **`dA`.** The 1 in `A` is in all three results, with slopes 3, 4 and 5: it collects 3·1 + 4·10 + 5·100 = 543. The 2 collects
# 6·1 + 7·10 + 8·100 = 876. Each is a row of `B` times `dC`, so `dA = dC @ B.T`.
#
# **`dB`.** The 3 in `B` is in the first result only, with slope 1, so it gets 1·1. The 4 gets 1·10, the 5 gets 1·100. The second row gets
# 2·1, 2·10 and 2·100. So `dB = A.T @ dC`.

# %%
A, B = np.array([[1.0, 2.0]]), np.array([[3.0, 4.0, 5.0], [6.0, 7.0, 8.0]])
dC = np.array([[1.0, 10.0, 100.0]])
draw_product_gradients(A, B, dC)
print("dA", (dC @ B.T).tolist())
print("dB", (A.T @ dC).tolist())

# %% [markdown]
# With more rows in `A`, each row makes a row of `C` from the same `B`; the reports to `B` add up, which `A.T @ dC` also does. You
# need not memorise the formulas: as long as n, m and k all differ, the shapes (n, m), (m, k) and (n, k) fit together in one way only.
# Does your own engine agree? It knows nothing of matrices:

# %%
a = [Value(number) for number in A[0]]
b = [[Value(number) for number in row] for row in B]
results = [a[0] * b[0][k] + a[1] * b[1][k] for k in range(3)]
sum(c * d for c, d in zip(results, dC[0], strict=True)).backward()
assert [v.grad for v in a] == (dC @ B.T)[0].tolist() == [543, 876]
assert [[v.grad for v in row] for row in b] == (A.T @ dC).tolist()


# %% [markdown]
# ### An array that remembers
#
# `Tensor` is `Value` with arrays. In place of a slope, it notes a function for each parent: the gradient of the result goes in,
# the report comes out. Python writes such a function without a name as `lambda d: …`, where `d` is what goes in. A sum reports
# the same to each entry. The two products are rules 3 and 1 in code:

# %%
#| export names.autograd
class Tensor:
    """An array that remembers what it was made of: `Value` for whole arrays.

    data: float64, any shape; grad: its gradient, the same shape, zeros until `backward`.
    parents: the Tensors it was computed from; reports: for each, a function from the gradient of
    this array to what the parent is told.
    """

    def __init__(self, data, parents: tuple = (), reports: tuple = ()):
        self.data = np.array(data, dtype=float)
        self.grad = np.zeros_like(self.data)
        self.parents, self.reports = parents, reports

    def sum(self, axis: int | None = None) -> "Tensor":
        """Sum over an axis, which stays with size 1; over all entries if none is given."""
        total = self.data.sum(axis=axis, keepdims=axis is not None)
        return Tensor(total, (self,), (lambda d: np.broadcast_to(d, self.data.shape),))


@add_to(Tensor)
def __matmul__(self, other: "Tensor") -> "Tensor":
    dA, dB = (lambda d: d @ other.data.T), (lambda d: self.data.T @ d)
    return Tensor(self.data @ other.data, (self, other), (dA, dB))


@add_to(Tensor)
def __mul__(self, other: "Tensor") -> "Tensor":
    reports = (lambda d: d * other.data), (lambda d: d * self.data)
    return Tensor(self.data * other.data, (self, other), reports)


# %% [markdown]
# The other operations that a loss needs, each in a line or two:

# %%
#| export names.autograd
@add_to(Tensor)
def __add__(self, other: "Tensor") -> "Tensor":
    return Tensor(self.data + other.data, (self, other), (lambda d: d, lambda d: d))


@add_to(Tensor)
def __sub__(self, other: "Tensor") -> "Tensor":
    return Tensor(self.data - other.data, (self, other), (lambda d: d, lambda d: -d))


@add_to(Tensor)
def exp(self) -> "Tensor":
    power = np.exp(self.data)
    return Tensor(power, (self,), (lambda d: d * power,))


@add_to(Tensor)
def log(self) -> "Tensor":
    return Tensor(np.log(self.data), (self,), (lambda d: d / self.data,))


@add_to(Tensor)
def relu(self) -> "Tensor":
    return Tensor(np.maximum(self.data, 0), (self,), (lambda d: d * (self.data > 0),))


# %% [markdown]
# Rule 2 is implemented once, for all operations: a report that is larger than its parent is summed along the axes on which the parent
# was repeated.

# %%
#| export names.autograd
def sum_to(gradient: np.ndarray, shape: tuple) -> np.ndarray:
    """The gradient of an array of this shape that was broadcast: summed where it was repeated."""
    extra = tuple(range(gradient.ndim - len(shape)))  # axes the array did not have, on the left
    gradient = gradient.sum(axis=extra)  # with () for no axes it stays as it is
    repeated = tuple(axis for axis, size in enumerate(shape) if size == 1)
    return gradient.sum(axis=repeated, keepdims=True)


# %% tags=["nbval-check-output"]
report = np.array([[1.0, 2.0, 3.0], [10.0, 20.0, 30.0]])
for shape in [(2, 3), (3,), (1, 3), (2, 1), ()]:
    summed = sum_to(report, shape)
    print(f"report {report.shape}, parent {shape!s:6} -> {summed.shape!s:6} {summed.tolist()}")

# %% [markdown]
# A parent of shape (3,) or (1, 3) was the same in each row, so the rows are added. One of shape (2, 1) was the same in each column,
# so the columns are. Now the walk: that of `Value`, with `report(gradient)` in place of `slope * gradient`.

# %%
#| export names.autograd
@add_to(Tensor)
def backward(self) -> None:
    """Add the derivative of this to the `grad` of every Tensor that it was made of."""
    flow = {self: np.ones_like(self.data)}
    for node in reversed(topological_order(self)):
        gradient = flow.pop(node)
        node.grad += gradient
        for parent, report in zip(node.parents, node.reports, strict=True):
            told = sum_to(report(gradient), parent.data.shape)
            flow[parent] = flow.get(parent, 0.0) + told


# %% [markdown]
# Test it on a network that reads *emma*. Each letter is a row of 26 zeros and a 1 at its place (**one-hot**), so `X @ E` picks
# rows of `E`. After the squared ReLU of chapter 00, a second matrix makes 27 logits. Chapter 03's model has the same parts.

# %%
ids = tokenizer.encode("emma")
X, Y = np.eye(27)[ids[:-1]], np.eye(27)[ids[1:]]  # (5, 27) each: what is read, what comes next
rng = np.random.default_rng(2)
E, b, U = rng.normal(0, 0.5, (27, 8)), rng.normal(0, 0.5, 8), rng.normal(0, 0.1, (8, 27))

tensors = [Tensor(array) for array in (E, b, U)]
hidden = (Tensor(X) @ tensors[0] + tensors[1]).relu()  # (5, 8): b is broadcast to 5 rows
logits = (hidden * hidden) @ tensors[2]  # (5, 27)
ln_S = logits.exp().sum(axis=1).log()  # (5, 1)
loss = ((ln_S - logits) * Tensor(Y / 5)).sum()  # (5, 1) - (5, 27): ln_S is broadcast to 27 columns
loss.backward()
print(f"loss {loss.data:.4f}, near ln 27 = {math.log(27):.4f}")


# %%
def network_loss(E, b, U):
    logits = mx.maximum(mx.array(X) @ E + b, 0) ** 2 @ U
    return -(mx.array(Y) * mx.log(mx.softmax(logits, axis=1))).sum() / 5


theirs = mx.grad(network_loss, (0, 1, 2))(mx.array(E), mx.array(b), mx.array(U))
for name, tensor, gradient in zip("EbU", tensors, theirs, strict=True):
    compare(f"d{name}", tensor.grad, gradient, tolerance=0.02)  # a GPU may round products more

# %% [markdown]
# All three rules are right. Which rows of `dE` are not zero?

# %%
touched = np.abs(tensors[0].grad).sum(axis=1) > 0
print("rows with a gradient:", *np.array([*tokenizer.chars, "•"])[touched])

# %% [markdown]
# Only those of the letters that were read: the others had no part in this loss.
#
# ## 10. The names, with your own engine
#
# Now the table of section 1 again: 729 zeros, the same 119,450 guesses, and nothing but your own code.

# %%
table = Tensor(np.zeros((27, 27)))


def names_loss(table):
    """Mean of ln S - z_y over all guesses of the training names."""
    losses = table.exp().sum(axis=1).log() - table  # (27, 1) - (27, 27)
    return (losses * Tensor(shares)).sum()


loss = names_loss(table)
loss.backward()
print(f"first loss {loss.data:.6f}, ln 27 = {math.log(27):.6f}")
print(f"largest gradient {np.abs(table.grad).max():.3f}")
assert abs(loss.data - math.log(27)) < 1e-12

# %%
began, losses = time.perf_counter(), []
steps = budget(5000, 50)
for _ in range(steps):
    table.grad[:] = 0.0
    loss = names_loss(table)
    loss.backward()
    table.data -= 50 * table.grad
    losses.append(float(loss.data))
seconds = time.perf_counter() - began
print(f"{losses[0]:.4f} -> {losses[-1]:.4f}")

# %% [markdown]
# (A rate of 50 looks huge, but each gradient is only a share of all guesses, the largest 0.03.) What does counting reach on the same names?

# %%
counted = counts / counts.sum(axis=1, keepdims=True)  # (27, 27) probabilities of chapter 01
counted_loss = bigram_loss(mx.array(counted), train_names, tokenizer)
figure, axes = plt.subplots(figsize=(6, 3))
axes.semilogx(range(1, steps + 1), losses, color=BLUE, label="your engine")
axes.axhline(math.log(27), color="gray", linestyle=":", label=f"knows nothing: {math.log(27):.3f}")
axes.axhline(counted_loss, color=ORANGE, linestyle="--", label=f"counted: {counted_loss:.3f}")
axes.set(xlabel="step", ylabel="training loss, nats per guess")
axes.legend(frameon=False)
plt.show()
claim("gradient descent ends where counting does", 0 < losses[-1] - counted_loss < 0.0005)

# %% [markdown]
# It falls to the loss of the counts and no lower: there the gradient is zero (section 8).
#
# So what is in the table? Section 8 says: logarithms of counts. Shift each row to make its $e^z$ add up to 1 (which changes no
# probability), then compare each logit with the logarithm of the counted share.

# %%
shifted = table.data - np.log(np.exp(table.data).sum(axis=1, keepdims=True))
pairs = counts > 0
figure, axes = plt.subplots(figsize=(4.6, 4.2))
log_shares = np.log(counted[pairs])
dots = axes.scatter(log_shares, shifted[pairs], c=counts[pairs], norm="log", cmap="viridis_r", s=14)
axes.plot([-9, 0], [-9, 0], color="gray", linewidth=0.8, zorder=0)
axes.set(xlabel="logarithm of the counted probability", ylabel="logit learned")
figure.colorbar(dots, label="how often the pair was seen")
plt.show()
often = counts >= 20
gap = np.abs(shifted - np.log(np.maximum(counted, 1e-9)))[often].max()
claim("each pair that was seen 20 times or more lies on the line", gap < 0.02)
below = (shifted < np.log(np.maximum(counted, 1e-9)))[pairs & (counts <= 2)]
claim("most of those seen once or twice lie a little below it", below.mean() > 0.6)

# %% [markdown]
# A point for each pair of letters that was seen, nearly all on one line: **gradient descent has found the counts**. (Why do rare pairs lie a little
# below? Counting says 0 for the pairs that were never seen. To get there, a logit would have to sink to $-\infty$. It only comes
# nearer, so these pairs keep some probability. Rare pairs miss it most.) Is that bad on new names?

# %%
learned = mx.array(np.exp(shifted))
smoothed = bigram_probs(train_names, tokenizer)
tables = {"counted": mx.array(counted), "counted + 1": smoothed, "learned": learned}
held_out_loss = {  # of the first eight guesses, as in the log
    name: bigram_loss(probs, held_out, tokenizer, max_len=8) for name, probs in tables.items()
}
for name, loss in held_out_loss.items():
    print(f"{name:>11}: held-out loss {loss:.4f}")
gap = abs(held_out_loss["learned"] - held_out_loss["counted + 1"])
claim("on new names the learned table is as good as the smoothed counts", gap < 0.001)

# %%
record_loss(
    "02",
    "bigram, by gradient",
    "729 logits, from zeros",
    corpus="names",
    steps=steps,
    loss=held_out_loss["learned"],
    parameters=729,
    seconds=seconds,
)

# %% [markdown]
# Not bad: a pair that was never seen makes the plain counts' loss infinite. The learned table never says never. It stopped on the way to 0,
# and stopping in time does the work of smoothing.
# Do both tables write the same names?

# %%
keys = mx.random.split(mx.random.key(42), 8)
print("counted:", *(bigram_sample(smoothed, tokenizer, key) for key in keys))
print("learned:", *(bigram_sample(learned, tokenizer, key) for key in keys))

# %% [markdown]
# ## 11. And MLX?
#
# Section 1 had the same loss. Did it have the same gradient and the same curve? And what if you take one guess at a time, with no
# counts anywhere?

# %%
now, after = mx.array(bigrams(train_names, tokenizer)).T  # (119450,) each: an id, and the next


def guess_by_guess(table):
    return -mx.log(mx.softmax(table, axis=1))[now, after].mean()


half = Tensor(table.data / 2)  # another table, with gradients far from 0
names_loss(half).backward()
compare("by shares", half.grad, mx.grad(table_loss)(mx.array(half.data)))
compare("by guesses", half.grad, mx.grad(guess_by_guess)(mx.array(half.data)))

# %%
first = min(steps, len(mlx_curve.values))
compare("curve", losses[:first], mlx_curve.values[:first])
print(f"rows of a table for eight letters: {27**8:,}")

# %% [markdown]
# They all agree. So there is no magic in `mx.value_and_grad`: when you call it, MLX runs your function once, records its
# operations, and walks them back with a table of rules like yours, one node for each array, on a GPU if there is one. You call
# `backward` on a *result*; MLX differentiates a *function* and returns new gradients from each call, so there is nothing to set
# to zero.
#
# | what changed | why | what it bought |
# |---|---|---|
# | from counts to gradient steps | it works for any model whose loss you can write down | the same held-out loss, 2.613; stopping in time replaces smoothing |
#
# The loss is no better, but much is now in reach. The table can do no more: it sees one letter. To look back eight letters, it
# would need $27^8$ rows, 282 billion, most of them never used. But a model with fewer numbers, which *computes* its logits from
# eight letters, can be trained with exactly the loop above. That is chapter 03.

# %% [markdown]
# ## Exercises
#
# Run the cells above first (menu *Run*, *Run All Above Selected Cell*). The solutions are in
# [solutions/02_autograd_solutions.ipynb](solutions/02_autograd_solutions.ipynb).

# %% [markdown]
# ### Exercise 2.1 — a new operation
#
# 10 minutes, ●○○
#
# The **sigmoid** $s(a) = 1 / (1 + e^{-a})$ squeezes a number between 0 and 1. Write it as *one* node: its only parent is `a`, and its
# local slope is $s \cdot (1 - s)$. It must also work for −1000 and 1000, where `math.exp(1000)` would overflow.
#
# <details><summary>Hint 1</summary>
#
# Look at how `exp` of section 7 makes its `Value`. For the overflow: the same number has another form, $e^{a} / (1 + e^{a})$.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Use the first form for $a \ge 0$ and the second for $a < 0$; then `math.exp` never sees a large positive number. Return
# `Value(s, (a,), (slope,))`: both are tuples, so mind the commas.
#
# </details>

# %% tags=["exercise"]
def sigmoid(a):
    """The sigmoid of a Value, as one new Value."""
    raise NotImplementedError


# %%
check(exercises.sigmoid, sigmoid, Value)


# %% [markdown]
# ### Exercise 2.2 — catch the quiet bug
#
# 10 minutes, ●○○
#
# Somebody wrote the backward pass below. Find the bug. Then prove it: write `trap(a, b)`, which makes an expression of two Values for
# which `careless_backward` gives a **wrong** gradient for `a` and a **right** one for `b`, whatever the numbers are. (They will
# not be 0.)
#
# <details><summary>Hint 1</summary>
#
# Compare it with `backward` line by line. Which of the two additions is missing?
#
# </details>
# <details><summary>Hint 2</summary>
#
# It matters only for a value that reaches the result along two paths. So `a` must be a parent twice (a power counts once), `b` only once.
#
# </details>

# %%
def careless_backward(root):
    """Someone's backward pass. It runs, and it is wrong."""
    flow = {root: 1.0}
    for node in reversed(topological_order(root)):
        node.grad += flow[node]
        for parent, slope in zip(node.parents, node.slopes, strict=True):
            flow[parent] = slope * flow[node]


# %% tags=["exercise"]
def trap(a, b):
    """An expression of a and b on which careless_backward is wrong for a and right for b."""
    raise NotImplementedError


# %%
check(exercises.trap, trap, Value)


# %% [markdown]
# ### Exercise 2.3 — back through a mean
#
# 15 minutes, ●●○
#
# Forward, each row of `x`, shape (N, D), loses its mean: `y = x - x.mean(axis=1, keepdims=True)`. You are given `dy`, shape (N, D), as a NumPy
# array. Find `dx`, of the same shape.
#
# <details><summary>Hint 1</summary>
#
# Along how many paths does an entry of `x` reach `y`? What does the mean of a row collect from the D entries of `y`?
#
# </details>
# <details><summary>Hint 2</summary>
#
# Directly, with slope 1. And through the mean: it goes into all D entries of its row with slope −1, so rule 2 gives it a sum of `dy` along the row; and each
# entry of `x` is in the mean with slope 1/D. Add the two.
#
# </details>

# %% tags=["exercise"]
def centre_backward(dy):
    """dx for y = x - x.mean(axis=1, keepdims=True). dy and the result: (N, D)."""
    raise NotImplementedError


# %%
check(exercises.centre_backward, centre_backward)


# %% [markdown]
# ### Exercise 2.4 — RMSNorm backwards
#
# 30 minutes, ●●●
#
# The next chapter's model keeps its numbers at a steady size with **RMSNorm**: it divides each row by its root mean square,
#
# $$ y = \frac{x}{\sqrt{\operatorname{mean}(x^2) + \varepsilon}} $$
#
# where the mean runs over the D numbers of a row, and the tiny $\varepsilon$ keeps a row of zeros from a division by zero. Given `x` and
# `dy`, both (N, D), find `dx`.
#
# <details><summary>Hint 1</summary>
#
# Name the steps: `m = mean(x²) + eps` (N, 1), `s = m ** -0.5` (N, 1), `y = x * s` (N, D). Walk back one step at a time and write
# the shape next to each line. Which of the three is used twice?
#
# </details>
# <details><summary>Hint 2</summary>
#
# One `s` serves its whole row, so `ds` is a sum of `dy * x` along the row. `s` is a power of `m`, with slope `-0.5 * m ** -1.5`. And `x` collects from two
# places: from `y`, and, through its square, from the mean in `m`.
#
# </details>

# %% tags=["exercise"]
def rms_norm_backward(x, dy, eps=1e-5):
    """dx for y = x / sqrt(mean(x²) + eps) over the last axis. x, dy and the result: (N, D)."""
    raise NotImplementedError


# %%
check(exercises.rms_norm_backward, rms_norm_backward)

# %% [markdown]
# ## Summary
#
# - A derivative says how much a result moves for each unit of nudge. The chain rule multiplies local slopes along a path and adds up over paths.
# - A value that remembers its parents and slopes can find all gradients in one walk in reverse topological order.
# - On arrays there are three rules: multiply by local slopes entry by entry, sum where the forward pass broadcast, and `dA = dC @ B.T`, `dB = A.T @ dC`.
# - Softmax with cross-entropy has the gradient `p - share`: what was said minus what was true.
# - A table of logits that starts at zero has the loss ln 27, and gradient descent turns it into the logarithms of the counts.
#
# ## Pitfalls
#
# - **Overwriting a report in place of adding it.** Right for a value that is used once, silently wrong for one that is used twice (exercise 2.2).
# - **Gradients not set to zero** between steps. With your engines, and in PyTorch, they add up.
# - **A gradient of another shape than its array.** A forgotten `sum` may hide in a broadcast; `sum_to` is there for that.
# - **`exp` of large logits** overflows near 710. Subtract the largest logit of the row first: the probabilities stay. `mx.softmax` and `mx.logsumexp` do.
# - **A gradient check with `h` too small or in float32.** Then rounding drowns the slope.
#
# ## Further reading
#
# - Andrej Karpathy, [micrograd](https://github.com/karpathy/micrograd), a small engine like yours.
# - Christopher Olah, [Calculus on Computational Graphs](https://colah.github.io/posts/2015-08-Backprop/).
# - MLX, [Function Transforms](https://ml-explore.github.io/mlx/build/html/usage/function_transforms.html).
#
# **Next:** [03 · microGPT](03_microgpt.ipynb)
