# %% [markdown]
# # 02 · Autograd: where gradients come from
#
# **Goal.** Build a small engine that finds derivatives by itself, train a network with it, write the same network's
# gradients by hand, and see that both agree with MLX at every step.
#
# | | |
# |---|---|
# | Needs | chapters 00 and 01; school algebra; no calculus: what we need is built or tested here |
# | Time | 90 minutes to read, 65 for the exercises; under a minute to run |
# | Memory | under 1 GB |
# | You will build → exported to | `Value`, `as_value`, `topological_order` → `course_lib.names.autograd` |

# %% [markdown]
# ![Map of the course, chapter 02 highlighted: autograd follows names and comes before microgpt](images/map_02.png)
#
# [00](00_start_here.ipynb) · [01](01_names.ipynb) · **02** · [03](03_microgpt.ipynb) · [04](04_batches.ipynb) · [05](05_tokenizer.ipynb) · [06](06_data.ipynb) · [07](07_attention.ipynb) · [08](08_gpt.ipynb) · [09](09_muon.ipynb) · [10](10_training.ipynb) · [11](11_evaluation.ipynb) · [12](12_engine.ipynb) · [13](13_conversations.ipynb) · [14](14_tools_and_tasks.ipynb) · [16](16_chat.ipynb) · [17](17_speedrun.ipynb) · [open this one in Colab](https://colab.research.google.com/github/OWNER/microgpt-to-nanochat/blob/main/notebooks/02_autograd.ipynb) ([how](https://github.com/OWNER/microgpt-to-nanochat/blob/main/docs/machines.md#colab))

# %%
#| export names.autograd
"""A scalar autograd engine: numbers that know how they were made, and so their derivatives.

Reverse-mode automatic differentiation with one object per number, in the spirit of micrograd.
"""

import math
from numbers import Real

from course_lib.host.errors import CourseError

# %%
import time

import matplotlib.pyplot as plt
import mlx.core as mx
import numpy as np

from course_lib.classroom import LiveCurve, add_to, budget, check
from course_lib.classroom.draw_graph import draw_graph
from course_lib.classroom.exercises import autograd as exercises

rng = np.random.default_rng(2)


# %% [markdown]
# ## A derivative is the answer to a nudge
#
# Training asks one question, for every number inside a model: *if I make this number a little bigger, does the loss go up
# or down, and how fast?* The answer is called the **derivative** of the loss with respect to that number.
#
# You can measure it. Nudge the number up by a tiny `h`, nudge it down by `h`, and see how much the result moved for each
# unit of nudge.

# %%
def nudge(f, x, h=1e-5):
    """How much f(x) moves for each unit that x moves, measured: (f(x + h) - f(x - h)) / 2h."""
    return (f(x + h) - f(x - h)) / (2 * h)


def curve(x):
    return x**2 - 3 * x


print(
    f"at x = 2 the derivative is {nudge(curve, 2.0):.6f}, at x = 0.5 it is {nudge(curve, 0.5):.6f}"
)

# %% [markdown]
# Here you can also find it exactly. $(x + h)^2 = x^2 + 2xh + h^2$, and for a tiny $h$ the last term is too small to
# matter: $x^2$ moves by $2x$ per unit. And $3x$ moves by 3. So the derivative of $x^2 - 3x$ is $2x - 3$. You met `mx.grad` in
# chapter 00; it is our independent check.

# %%
for x in (2.0, 0.5):
    exact, theirs = 2 * x - 3, mx.grad(curve)(mx.array(x)).item()
    print(f"at x = {x}: nudged {nudge(curve, x):.6f}, exact {exact:.6f}, MLX {theirs:.6f}")
    assert abs(nudge(curve, x) - exact) < 1e-6 and abs(theirs - exact) < 1e-6

# %%
xs = np.linspace(-0.5, 3.5, 100)
figure, axes = plt.subplots(figsize=(5, 3))
axes.plot(xs, curve(xs), color="#0072B2", label="$x^2 - 3x$")
for x, style in ((2.0, "--"), (0.5, ":")):
    near, slope = np.array([x - 0.7, x + 0.7]), nudge(curve, x)
    line = curve(x) + slope * (near - x)
    axes.plot(near, line, style, color="#D55E00", label=f"slope {slope:.0f} at {x}")
    axes.plot(x, curve(x), "o", color="#D55E00")
axes.set(xlabel="x", ylabel="f(x)")
axes.legend(frameon=False)
plt.show()

# %% [markdown]
# The derivative is the **slope** of the curve at one point. Where it is positive, go left to get lower; where it is
# negative, go right. Training is that, for thousands of numbers at once. All these derivatives of one loss together are
# called its **gradient**.
#
# Nudging has two faults. It costs two runs of the model *for each number*. And it is never exact, as you see next.

# %%
hs = 10.0 ** np.arange(-14, 0)
true = np.exp(0.5)  # e to the power of x is its own derivative
errors = [abs(nudge(np.exp, 0.5, h) - true) for h in hs]
figure, axes = plt.subplots(figsize=(5, 3))
axes.loglog(hs, np.maximum(errors, 1e-17), "o-", color="#0072B2")
axes.set(xlabel="size of the nudge h", ylabel="error of the slope")
plt.show()

# %% [markdown]
# On the right the nudge is so big that the curve bends under it. On the left it is so small that the rounding of the
# computer's numbers drowns it. Best is an `h` near $10^{-5}$. Nudging is too slow for training, but perfect for
# *checking* gradients that you found another way. This is called a **numerical gradient check**, and this chapter uses it
# often.

# %% [markdown]
# ## The chain rule, with tiny numbers
#
# Take the smallest model there is: for an input $x$, guess $wx + b$, and compare with the right answer $y$. The loss is the
# miss, squared. Do it in four small steps.

# %%
x, w, b, y = 3.0, 2.0, 1.0, 5.0
product = w * x
guess = product + b
miss = guess - y
loss = miss**2
print(f"product {product}, guess {guess}, miss {miss}, loss {loss}")

# %% [markdown]
# Now go backwards, one step at a time. Each step asks only: *how does the result of this step move when one of its parts
# moves?* That is the step's **local slope**.
#
# - `loss = miss**2`: as with $x^2$, the slope is `2 * miss`, here 4.
# - `miss = guess - y`: one more of `guess` is one more of `miss` (slope 1); one more of `y` is one less (slope −1).
# - `guess = product + b`: slope 1 for both.
# - `product = w * x`: one more of `w` adds another `x` (slope `x`); one more of `x` adds another `w` (slope `w`).
#
# The **chain rule** joins them: slopes along a path multiply. If `b` moves `guess` 1 for 1, and `guess` moves `miss` 1 for 1,
# and `miss` moves `loss` 4 for 1, then `b` moves `loss` 1 · 1 · 4 for 1. Below, `d_b` means: the derivative of the loss with
# respect to `b`.

# %%
d_loss = 1.0
d_miss = 2 * miss * d_loss
d_guess, d_y = 1 * d_miss, -1 * d_miss
d_product, d_b = 1 * d_guess, 1 * d_guess
d_w, d_x = x * d_product, w * d_product


# %%
def whole(w, x, b, y):
    return (w * x + b - y) ** 2


nudged = {
    "w": nudge(lambda w: whole(w, x, b, y), w),
    "x": nudge(lambda x: whole(w, x, b, y), x),
    "b": nudge(lambda b: whole(w, x, b, y), b),
    "y": nudge(lambda y: whole(w, x, b, y), y),
}
for (name, measured), by_hand in zip(nudged.items(), (d_w, d_x, d_b, d_y), strict=True):
    print(f"d_{name}: by hand {by_hand:5.1f}, by nudging {measured:9.5f}")
    assert abs(measured - by_hand) < 1e-6


# %% [markdown]
# You have just done **backpropagation** (also called reverse-mode differentiation): start at the end with 1, and walk back,
# multiplying by local slopes. One walk gave all four derivatives. Nothing in it needed cleverness, so a program can do it.

# %% [markdown]
# ## A number that remembers
#
# To walk back, you must know the way. So wrap each number in an object that remembers two things: its **parents** (the numbers it
# was made of) and the local slope for each of them.

# %%
#| export names.autograd
class Value:
    """A number that remembers what it was made of, so that `backward` can find derivatives.

    data: the number, a float.
    grad: the derivative of the result (on which you call `backward`) with respect to this number;
    0.0 until then.
    parents: the Values that it was computed from; slopes: the local derivative for each, floats.
    Raises CourseError for anything that is not one plain number.
    """

    def __init__(self, data: float, parents: tuple = (), slopes: tuple = ()):
        if not isinstance(data, Real):
            raise CourseError(
                f"a Value holds one plain number, got {data!r}; give an int or a float"
            )
        self.data, self.grad = float(data), 0.0
        self.parents, self.slopes = parents, slopes

    def __repr__(self) -> str:
        return f"Value(data={self.data:g}, grad={self.grad:g})"


def as_value(number: "Value | float") -> Value:
    """The number itself if it is a Value, else a new Value of it, so that `value + 1` works."""
    return number if isinstance(number, Value) else Value(number)


# %% [markdown]
# The class grows as you go: `@add_to(Value)` (from `course_lib.classroom`) puts a function into it. Three operations first.
# Each computes its result and, in the same line, writes down the local slopes that you just used by hand.

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


# %% [markdown]
# A power $a^n$, where $n$ is a plain number, has the slope $n a^{n-1}$ (for $n = 2$ that is the `2 * miss` from above). In
# short:

# %%
@add_to(Value)
def __pow__(self, exponent: float) -> "Value":
    slope = exponent * self.data ** (exponent - 1)
    return Value(self.data**exponent, (self,), (slope,))


# %% [markdown]
# Some powers do not exist, such as $0^{-1}$. So the version for the package is the same with two errors that say so.

# %%
#| export names.autograd
@add_to(Value)
def __pow__(self, exponent: float) -> "Value":
    if not isinstance(exponent, Real):
        raise CourseError(
            f"an exponent must be a plain number, got {exponent!r}; "
            "write a ** b as (b * a.log()).exp()"
        )
    try:
        power = math.pow(self.data, exponent)
        slope = exponent * math.pow(self.data, exponent - 1) if exponent else 0.0
    except (ValueError, OverflowError):
        raise CourseError(
            f"{self.data:g} ** {exponent:g} has no finite value with a finite slope "
            "(and a / b means a * b ** -1); "
            "keep the base away from 0 and, unless the exponent is whole, above it"
        ) from None
    return Value(power, (self,), (slope,))


# %%
x, w, b, y = Value(3.0), Value(2.0), Value(1.0), Value(5.0)
product = w * x
guess = product + b
miss = guess - y
loss = miss**2
print(loss, "was made of", loss.parents, "with slope", loss.slopes)

# %% [markdown]
# Plain numbers may take part, and a mistake gets a sentence that says what to do (`log` and `exp` come below).

# %% tags=["nbval-check-output"]
print(Value(7.0) * 3)
for mistake in (lambda: Value(0.0) ** -1, lambda: Value(2.0) ** Value(3.0), lambda: Value("two")):
    try:
        mistake()
    except CourseError as error:
        print("-", error)


# %% [markdown]
# ## The graph, and the order to walk it
#
# The values and their parents form a **graph**: values are its nodes, and an arrow leads from each parent to what was made
# of it. Nodes without parents, such as `w`, are its **leaves**: white and round below. Results are blue and square.

# %%
names = {w: "w", x: "x", product: "w · x", b: "b", guess: "guess", y: "y", miss: "miss"}
names[loss] = "loss = miss²"
draw_graph(loss, names, grads=False)


# %% [markdown]
# Each arrow carries the local slope that was noted when the value was made. The gradients are still unknown. Fill them in
# yourself, from right to left: start with 1 at `loss`, and multiply along the arrows.
#
# A program must take care of the order. In $ab + a$, the value $a$ is used twice: in the product and in the sum. It must hear
# from *both* before it can tell its own parents. So you need the nodes in **topological order**: every node after its
# parents. In reverse, every node comes after everything that was made of it.
#
# The obvious way: to list a node, list its parents first.

# %%
def recursive_order(node, order):
    """Append the ancestors of `node`, then `node`, to `order`, each once."""
    if node not in order:
        for parent in node.parents:
            recursive_order(parent, order)
        order.append(node)
    return order


print([node.data for node in recursive_order(loss, [])])


# %% [markdown]
# It works, and it has a limit: a function that calls itself goes as deep as the graph. Python allows about a thousand calls
# inside one another.

# %%
def long_chain(length):
    """x + 1 + 1 + … + 1."""
    start = end = Value(0.0)
    for _ in range(length):
        end = end + 1
    return start, end


start, end = long_chain(10_000)
try:
    recursive_order(end, [])
except RecursionError as error:
    print("RecursionError:", error)


# %% [markdown]
# So keep your own list of what is still to do. It is a stack: the last entry is taken first. When you meet a node, put it
# back marked `True`, and put its parents above it. When the `True` entry comes up again, everything above it is done, so
# the node can be listed. (`reversed` only gives the same order as the recursive version.)

# %%
#| export names.autograd
def topological_order(root: Value) -> list[Value]:
    """All values that `root` was made of, each once, after its parents; `root` comes last."""
    order, seen, todo = [], set(), [(root, False)]
    while todo:
        node, parents_listed = todo.pop()
        if parents_listed:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            todo.append((node, True))
            todo.extend((parent, False) for parent in reversed(node.parents))
    return order


# %%
assert topological_order(loss) == recursive_order(loss, []), "not the order of the short version"
order = topological_order(end)
place = {node: index for index, node in enumerate(order)}
for node in order:
    assert all(place[parent] < place[node] for parent in node.parents), "a parent comes too late"
print(len(topological_order(loss)), "nodes behind loss,", len(order), "behind the chain:")
print("1 start, 10,000 ones and 10,000 sums")


# %% [markdown]
# ## Backward
#
# Walk the order in reverse. The dictionary `flow` holds, for each node, the sum of what has been reported to it so far. When
# a node's turn comes, that sum is complete: it is the node's gradient. The node then reports `slope * gradient` to each of
# its parents.

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
draw_graph(loss, names)

# %% [markdown]
# Compare with your own numbers. The gradient of a box is the gradient of the box that its arrow points to, times the slope
# on that arrow.

# %%
assert (w.grad, x.grad, b.grad, y.grad) == (d_w, d_x, d_b, d_y), "not what you had by hand"
end.backward()
print("d_w, d_x, d_b, d_y as by hand; a chain of 10,000 additions has slope", start.grad)
assert start.grad == 1.0

# %% [markdown]
# ## Why the `+`
#
# A value may be used twice, as $a$ in $ab + a$. Then it moves the result along two paths, and the two effects **add up**.

# %%
a, b = Value(2.0), Value(3.0)
ab = a * b
result = ab + a
result.backward()
draw_graph(result, {a: "a", b: "b", ab: "a · b", result: "a · b + a"})
assert abs(a.grad - nudge(lambda a: a * 3.0 + a, 2.0)) < 1e-6

# %% [markdown]
# Two arrows leave `a`: one with slope 3 through the product, one with slope 1 straight to the result. Its gradient is
# 3 + 1 = 4.
#
# There are two additions in `backward`. The one in `flow` adds up the paths within one walk. An engine without it keeps only
# the last report: a common bug of hand-made engines, and a quiet one, since everything still runs. Exercise 2.2 makes you
# catch it. The `+=` on `node.grad` adds up separate walks, so calling `backward` twice doubles the gradients.

# %% tags=["nbval-check-output"]
result.backward()
print(a)


# %% [markdown]
# ## The other operations
#
# Most need no rule of their own: they are made of the ones you have. Python calls the methods with an `r` in front when the
# *left* side is a plain number, as in `1 - value`.

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
    return as_value(other) ** self  # an error that says what to write instead


# %% [markdown]
# Four functions do need a rule. The first three slopes are from a table of derivatives; we do not derive them, we test them
# by nudging.
#
# | result | local slope | the slope in words |
# |---|---|---|
# | $e^a$ (`exp`) | $e^a$, the result itself | the higher, the steeper |
# | $\ln a$ (`log`) | $1 / a$ | the bigger $a$ is, the less one more matters |
# | $\tanh a$, which squeezes any number to between −1 and 1 | $1 - \tanh^2 a$ | 1 in the middle, almost 0 at both ends |
# | $\max(a, 0)$ (`relu`) | 1 where $a > 0$, else 0 | a positive number moves the result one for one, any other not at all |

# %%
#| export names.autograd
@add_to(Value)
def exp(self) -> "Value":
    """e to the power of this; raises CourseError where that is too large (above about 709)."""
    try:
        power = math.exp(self.data)
    except OverflowError:
        raise CourseError(
            f"exp({self.data:g}) is too large for a float; "
            "subtract the largest number from all of them first"
        ) from None
    return Value(power, (self,), (power,))


@add_to(Value)
def log(self) -> "Value":
    """Natural logarithm; raises CourseError at 0 and below."""
    if self.data <= 0:
        raise CourseError(f"log needs a number above 0, got {self.data:g}; check what computes it")
    return Value(math.log(self.data), (self,), (1 / self.data,))


@add_to(Value)
def tanh(self) -> "Value":
    """Hyperbolic tangent, between -1 and 1."""
    squeezed = math.tanh(self.data)
    return Value(squeezed, (self,), (1 - squeezed**2,))


@add_to(Value)
def relu(self) -> "Value":
    """The number where it is positive, else 0; the slope at 0 is 0."""
    off = self.data <= 0
    return Value(0.0 if off else self.data, (self,), (0.0 if off else 1.0,))


# %% [markdown]
# That is the whole engine. Check its rules by nudging: build a function on Values, and compare its gradient with the
# measured slope.

# %%
def two_slopes(rule, number):
    """The slope of `rule` at `number`: by the engine, and by nudging."""
    a = Value(number)
    rule(a).backward()
    return a.grad, nudge(lambda x: rule(Value(x)).data, number)


rules = {
    "a * a + a": lambda a: a * a + a,
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
    engine, nudged = two_slopes(rule, 0.7)
    print(f"{name:>9}: engine {engine:9.6f}, nudged {nudged:9.6f}")
    assert abs(engine - nudged) < 1e-8, name

# %%
xs = np.linspace(-3, 3, 121)
figure, both = plt.subplots(1, 2, figsize=(7, 2.6))
for axes, name in zip(both, ("tanh", "relu"), strict=True):
    values = [getattr(Value(x), name)() for x in xs]
    axes.plot(xs, [value.data for value in values], color="#0072B2", label=name)
    slopes = [value.slopes[0] for value in values]
    axes.plot(xs, slopes, "--", color="#D55E00", label="its slope")
    axes.set(xlabel="a", ylim=(-1.2, 3.2))
    axes.legend(frameon=False, loc="upper left")
plt.show()

# %% [markdown]
# Where tanh is flat, its slope (dashed) is near 0. ReLU has two slopes only, and jumps from one to the other at 0.


# %% [markdown]
# ## Against MLX
#
# Nudging is close; MLX computes gradients by rules, as you do. So the two should agree to the last digits, but not always in
# the last one: $(a + b) + c$ and $a + (b + c)$ may round differently. So we always look at three things: is it **exactly** the
# same (a bonus), is it **close** (a must: `compare` stops if not), and how large is the greatest **difference**?

# %%
def compare(name, mine, theirs, tolerance=1e-12):
    """Print one line on how two arrays of numbers differ; stop when they are not close."""
    mine, theirs = np.array(mine), np.array(theirs)
    assert mine.shape == theirs.shape, f"{name}: shape {mine.shape} is compared with {theirs.shape}"
    difference = np.abs(mine - theirs).max()
    exact = bool(difference == 0)
    close = bool(difference <= tolerance * max(1.0, np.abs(theirs).max()))
    print(f"{name:>8} {mine.shape!s:>8}  exact: {exact!s:5}  close: {close!s:5}", end="  ")
    print(f"max difference: {difference:.1e}")
    assert close, f"{name}: not close"


# %% [markdown]
# MLX computes in float32 unless told otherwise: about 7 digits. Python's floats are float64: about 16. To compare fairly, MLX
# must use float64 too, and it does so only on the CPU. Hence `with mx.stream(mx.cpu)`, which sends the work there on any machine.
# One more catch: `mx.exp` takes a float32 short cut even then (at the time of writing; see
# [this report](https://github.com/ml-explore/mlx/issues/3047)). So here we write $e^x$ as a power, `exp64`. Are the others safe?

# %%
def float64(numbers):
    """The numbers as an MLX array of float64."""
    return mx.array(np.array(numbers), dtype=mx.float64)


def exp64(x):
    """e to the power of x in full float64."""
    return mx.power(float64(math.e), x)


functions = {"exp": mx.exp, "log": mx.log, "tanh": mx.tanh}
with mx.stream(mx.cpu):
    for name, function in (functions | {"exp64": exp64}).items():
        right = getattr(math, name.removesuffix("64"))(0.3)
        print(f"{name:>5} is off by {abs(function(float64(0.3)).item() - right):.1e}")


# %% [markdown]
# Only `exp` is off by more than a last digit. Now an expression that uses everything, in both. `argnums=(0, 1)` asks for the gradients of
# arguments 0 and 1, here `a` and `b`.

# %%
def with_mlx(a, b):
    return mx.tanh(a * b) / (2 - a) + mx.maximum(a**3 - b, 0) * mx.log(b + 1) - exp64(-a)


a, b = Value(1.2), Value(0.7)
mixed = (a * b).tanh() / (2 - a) + (a**3 - b).relu() * (b + 1).log() - (-a).exp()
mixed.backward()
with mx.stream(mx.cpu):
    result, (grad_a, grad_b) = mx.value_and_grad(with_mlx, argnums=(0, 1))(
        float64(1.2), float64(0.7)
    )
    compare("result", mixed.data, result)
    compare("grad a", a.grad, grad_a)
    compare("grad b", b.grad, grad_b)

# %% [markdown]
# ## A neuron learns
#
# Now use it, on 20 points in two classes (you see them below, after training). A **neuron** multiplies each input by a
# **weight**, adds a **bias**, and squeezes the sum with tanh. We want it to say +1 for one class and −1 for the other.

# %%
points = np.concatenate(
    [rng.normal((-0.9, -0.5), 0.55, (10, 2)), rng.normal((0.9, 0.7), 0.55, (10, 2))]
)
targets = [-1] * 10 + [1] * 10


def draw_points(axes, points, is_second):
    """Circles for one class, crosses for the other."""
    for second, marker, color in ((False, "o", "#0072B2"), (True, "X", "#D55E00")):
        chosen = points[np.array(is_second) == second]
        label = "second class" if second else "first class"
        style = {"marker": marker, "color": color, "edgecolor": "white", "s": 55}
        axes.scatter(*chosen.T, **style, label=label, zorder=3)
    axes.set(xlabel="first input", ylabel="second input")
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))


# %%
weights, bias = [Value(0.1), Value(-0.4)], Value(0.0)


def neuron(inputs):
    total = bias
    for weight, x in zip(weights, inputs, strict=True):
        total = total + weight * x
    return total.tanh()


def mean_squared_miss():
    misses = [neuron(point) - target for point, target in zip(points, targets, strict=True)]
    return sum(miss**2 for miss in misses) / len(misses)


print("loss before training:", mean_squared_miss())

# %% [markdown]
# **Gradient descent**: find the gradient, move every weight a small step *against* it, and repeat. How small is the
# **learning rate**, here 0.1. Note the first two lines of the loop: gradients add up, so each step must begin at zero.

# %%
curve_of_loss = LiveCurve("mean squared miss")
for step in range(40):
    for parameter in (*weights, bias):
        parameter.grad = 0.0
    loss = mean_squared_miss()
    loss.backward()
    for parameter in (*weights, bias):
        parameter.data -= 0.1 * parameter.grad
    curve_of_loss.add(step, loss.data)
curve_of_loss.show()
assert curve_of_loss.values[-1] < 0.3 * curve_of_loss.values[0]

# %% [markdown]
# The loss falls fast, then slowly: near the bottom the slopes are small, and so are the steps.
#
# Since $\tanh 0 = 0$, the neuron changes its mind where $w_1 x_1 + w_2 x_2 + \text{bias} = 0$. For two inputs that is a
# straight line.

# %%
w1, w2, c = (parameter.data for parameter in (*weights, bias))
figure, axes = plt.subplots(figsize=(5, 3))
draw_points(axes, points, np.array(targets) > 0)
axes.axline((0, -c / w2), slope=-w1 / w2, linestyle="--", color="black")
plt.show()
said = [neuron(point).data for point in points]
correct = sum((out > 0) == (target > 0) for out, target in zip(said, targets, strict=True))
print(f"{correct} of {len(targets)} points on the correct side")
assert correct >= 18


# %% [markdown]
# The line (dashed) runs between the two crowds. Where the classes mix, a straight line must leave a point or two on the wrong
# side.

# %% [markdown]
# ## A network, for what no line can separate
#
# Two crescents, bent into each other.

# %%
def crescents(count, rng):
    """`count` points, half in each of two crescents: inputs (count, 2) and class ids (count,)."""
    angle = rng.uniform(-0.5, np.pi + 0.5, count // 2)
    upper = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    lower = np.stack([1 - np.cos(angle), 0.3 - np.sin(angle)], axis=1)
    inputs = np.concatenate([upper, lower]) + rng.normal(0, 0.1, (count, 2))
    return inputs, np.repeat([0, 1], count // 2)


def best_line(inputs, labels):
    """The best straight line, by trial: points it gets right, its direction, a place on it."""
    best = (0, None, None)
    for angle in np.linspace(0, 2 * np.pi, 360):
        ahead = np.array([np.cos(angle), np.sin(angle)])
        for place in inputs:  # the line through this point; the second class lies ahead of it
            correct = ((inputs @ ahead >= place @ ahead) == (labels == 1)).sum()
            if correct > best[0]:
                best = (correct, np.array([-ahead[1], ahead[0]]), place)
    return best


X, labels = crescents(40, rng)
correct_by_line, direction, place = best_line(X, labels)
figure, axes = plt.subplots(figsize=(5, 3))
draw_points(axes, X, labels == 1)
axes.axline(place, place + direction, linestyle=":", color="black")
plt.show()
print(f"the best straight line has {correct_by_line} of {len(X)} points on the correct side")

# %% [markdown]
# The dotted line is the best that a straight line can do, and points at the tips of both crescents are on the wrong side.
#
# So we change the model. The parts are those of the language model in the next chapter, at toy size.
#
# | what changed | why |
# |---|---|
# | one neuron → 8 neurons side by side (the **hidden layer**), then 2 more that read those 8 | one neuron gives one straight border; several together give a border with bends |
# | tanh → **squared ReLU**, $\max(u, 0)^2$ | tanh is flat for large sums, and a flat place teaches nothing; this has a slope wherever it is on. The later models use it too |
# | ±1 and squared miss → 2 **logits**, softmax, negative log-likelihood | works for any number of classes: 2 here, 27 in chapter 03 (26 letters and the end of a name) |
#
# **Logits** and **softmax** are those of chapter 01: a raw score $z_i$ for each class $i$, and $p_i = e^{z_i} / \sum_j e^{z_j}$
# makes probabilities of them. The negative log-likelihood of the right class $y$ is
#
# $$-\ln p_y = -\ln \frac{e^{z_y}}{\sum_j e^{z_j}} = \ln \sum_j e^{z_j} - z_y$$
#
# since the logarithm of a fraction is a difference of logarithms. It is also called **cross-entropy**.

# %%
start_weights = {
    "W1": rng.normal(0, 0.7, (2, 8)),  # (inputs, hidden)
    "b1": np.full(8, 0.1),
    "W2": rng.normal(0, 0.35, (8, 2)),  # (hidden, classes)
    "b2": np.zeros(2),
}


def as_values(array):
    """Numbers of an array as Values, in nested lists of the same shape."""
    return [as_values(row) for row in array] if np.ndim(array) else Value(array)


params = {name: as_values(array) for name, array in start_weights.items()}
flat = params["b1"] + params["b2"]  # one list of all parameters
for row in params["W1"] + params["W2"]:
    flat = flat + row
print(len(flat), "parameters")


# %%
def linear(inputs, weights, biases):
    """Sums of input · weight, plus biases. inputs: n; weights: n rows of m; biases, result: m."""
    outputs = []
    for column, bias in enumerate(biases):
        total = bias
        for x, row in zip(inputs, weights, strict=True):
            total = total + x * row[column]
        outputs.append(total)
    return outputs


def logits_of(point, params):
    hidden = [u.relu() ** 2 for u in linear(point, params["W1"], params["b1"])]
    return linear(hidden, params["W2"], params["b2"])


def cross_entropy(logits, label):
    largest = max(z.data for z in logits)  # a float, not a Value
    return sum((z - largest).exp() for z in logits).log() + largest - logits[label]


def network_loss(params):
    losses = []
    for point, label in zip(X, labels, strict=True):
        losses.append(cross_entropy(logits_of(point, params), label))
    return sum(losses) / len(losses)


# %% [markdown]
# We subtract the largest logit so that `exp` cannot overflow. Top and bottom of the fraction shrink by the same factor, so
# the probabilities stay. After the logarithm we add it back.

# %%
def grads_of(values):
    """The gradients of nested lists of Values, as an array of the same shape."""
    return np.array([grads_of(v) for v in values]) if isinstance(values, list) else values.grad


loss = network_loss(params)
loss.backward()
value_grads = {name: grads_of(values) for name, values in params.items()}
print(f"loss {loss.data:.4f}; {len(topological_order(loss))} nodes in the graph of one step")


# %% [markdown]
# Thousands of nodes for forty points. Their gradients get two independent checks further down. First, train.

# %%
steps = budget(400, 40)
value_curve = LiveCurve("cross-entropy", total=steps)
for step in range(steps):
    for parameter in flat:
        parameter.grad = 0.0
    loss = network_loss(params)
    loss.backward()
    for parameter in flat:
        parameter.data -= 0.3 * parameter.grad
    value_curve.add(step, loss.data)
value_curve.show()
assert value_curve.values[-1] < 0.7 * value_curve.values[0]

# %% [markdown]
# The loss falls fast for a few steps, then slowly and steadily.
#
# To see what it learned, ask it about every place in the picture. The logit of the second class minus that of the first
# says which class a place gets; the border is where the difference is 0.

# %%
def lead(points):
    """Logit of the second class minus logit of the first, for each point: (count,)."""
    answers = [logits_of(point, params) for point in points]
    return np.array([second.data - first.data for first, second in answers])


across, up = np.meshgrid(np.linspace(-1.5, 2.5, 40), np.linspace(-1.1, 1.5, 30))
leads = lead(np.stack([across.ravel(), up.ravel()], axis=1)).reshape(across.shape)
figure, axes = plt.subplots(figsize=(5, 3))
axes.contourf(across, up, leads > 0, levels=[-0.5, 0.5, 1.5], colors=["#dcebf7", "#fbe3d3"])
axes.contour(across, up, leads, levels=[0], colors="black", linestyles="--")
axes.axline(place, place + direction, linestyle=":", color="black")
draw_points(axes, X, labels == 1)
plt.show()
correct = ((lead(X) > 0) == (labels == 1)).sum()
print(f"network: {correct} of {len(X)}; best straight line: {correct_by_line} of {len(X)}")
assert correct > budget(correct_by_line, 20)

# %% [markdown]
# The network's border (dashed) bends between the crescents, where the straight line (dotted) cannot. Each hidden neuron
# switches on along a line of its own; squared and added up, they make a curve.

# %% [markdown]
# ## The same backward pass by hand, in NumPy
#
# `Value` keeps an object for each number. Nobody trains that way: real code keeps whole arrays, and the backward pass works
# on arrays too. Write it once by hand and no gradient will be a mystery again. We go back to the same starting weights.
#
# First forward, one step per line, with the shape in a comment. N = 40 points, 2 inputs, H = 8 hidden, C = 2 classes. A class is
# written as a row with a 1 at its place (**one-hot**), so that `Y * logp` picks the right class.

# %%
W1, b1, W2, b2 = (start_weights[name].copy() for name in ("W1", "b1", "W2", "b2"))
Y = np.eye(2)[labels]  # (N, C) one-hot: row 0 or row 1 of the identity matrix for each label
N = len(labels)

u = X @ W1 + b1  # (N, H)
r = np.maximum(u, 0)  # (N, H)
hidden = r**2  # (N, H)
logits = hidden @ W2 + b2  # (N, C)
shifted = logits - logits.max(axis=1, keepdims=True)  # (N, C)
exps = np.exp(shifted)  # (N, C)
total = exps.sum(axis=1, keepdims=True)  # (N, 1)
p = exps / total  # (N, C) probabilities
logp = np.log(p)  # (N, C)
loss = -(Y * logp).sum() / N  # one number
print(f"loss {loss:.4f}, the engine had {value_curve.values[0]:.4f}")

# %% [markdown]
# Now backward. `du` is short for `d_u`: the derivative of the loss with respect to `u`. It has **the same shape as `u`**, one
# derivative for each number. That is your best check at every line. Three rules carry it all:
#
# 1. **Element by element** (`log`, `exp`, squares): multiply by the local slope, element by element.
# 2. **Broadcast forward, sum backward.** NumPy *broadcasts* `b1`, shape (H,): it adds it to each of the N rows. A number that
#    was used N times collects N reports, so its gradient is their sum. It is the `+` of `Value` again.
# 3. **Matrix product.** For `M = A @ B`: `dA = dM @ B.T` and `dB = A.T @ dM`.
#
# Rule 3 is rule 2 once more: $M_{ik} = \sum_j A_{ij} B_{jk}$, so $A_{ij}$ reaches every $M_{ik}$ of its row with slope
# $B_{jk}$, and the reports add up to $\sum_k dM_{ik} B_{jk}$. You need not memorise it. The shapes are (n, m), (m, k) and
# (n, k), and as long as n, m and k all differ, only one product has the right shape.

# %%
A, B = np.array([[1.0, 2.0]]), np.array([[3.0, 4.0, 5.0], [6.0, 7.0, 8.0]])
dM = np.array([[1.0, 10.0, 100.0]])  # (1, 3), as A @ B
print("dA", dM @ B.T, "because 3·1 + 4·10 + 5·100 = 543 and 6·1 + 7·10 + 8·100 = 876")


def product_loss(A):  # a loss whose gradient with respect to the product is exactly dM
    return (mx.array(dM) * (A @ mx.array(B))).sum()


assert (dM @ B.T == np.array(mx.grad(product_loss)(mx.array(A)))).all()

# %% [markdown]
# Walk back through softmax, from the loss to the logits, one small step at a time:
#
# | forward | local slope | backward |
# |---|---|---|
# | `loss` $= -\sum Y \cdot \text{logp} / N$ | $-Y / N$ for each `logp` | `dlogp` |
# | `logp` $= \ln p$ | $1 / p$ | `dp` |
# | `p` = `exps` / `total` | for `total`: $-\text{exps} / \text{total}^2$, a power with $n = -1$ | `dtotal`: one `total` serves all columns, so their reports are summed |
# | the same `p`, and `total` | for `exps`: $1 / \text{total}$ in `p`, and 1 in `total` | `dexps`: `exps` is used twice, so there are two reports to add |
# | `exps` $= e^{\text{shifted}}$ | `exps` itself | `dlogits`: the shift does not change `p`, so `shifted` stands for the logits |

# %%
dlogp = -Y / N  # (N, C)
dp = dlogp / p  # (N, C)
dtotal = (dp * -exps / total**2).sum(axis=1, keepdims=True)  # (N, 1)
dexps = dp / total + dtotal  # (N, C) dtotal is broadcast to all columns
dlogits_long = dexps * exps  # (N, C)

# %% [markdown]
# Five lines, and almost everything cancels. Take one point with right class $y$. Its loss is $\ell = \ln S - z_y$, with
# $S = \sum_j e^{z_j}$. The slope of $\ln S$ is $1/S$, and the slope of $S$ with respect to the logit $z_i$ is $e^{z_i}$. Multiply:
#
# $$\frac{\partial \ell}{\partial z_i} = \frac{e^{z_i}}{S} - [i = y] = p_i - [i = y]$$
#
# Here $\partial \ell / \partial z_i$ is the derivative of $\ell$ when only $z_i$ moves, and $[i = y]$, from the part $-z_y$, is 1
# for the right class and 0 for the others. In words: **what the model said, minus what was true**. With one-hot rows it is
# `p - Y`; the mean over N points divides it by N.

# %%
dlogits = (p - Y) / N  # (N, C)
compare("dlogits", dlogits, dlogits_long)
assert np.abs(dlogits.sum(axis=1)).max() < 1e-12, "a row sums to 0: one gains, the others lose"

# %% [markdown]
# See it for the first point. The step goes *against* the gradient: the negative bar of `p - Y` pushes the logit of the right
# class up, the positive bar pushes the other one down, both as far as the model was off.

# %%
figure, axes = plt.subplots(figsize=(5, 2.6))
spots = np.arange(2)
axes.bar(spots - 0.27, p[0], 0.25, color="#0072B2", label="said: p")
axes.bar(spots, Y[0], 0.25, color="white", edgecolor="black", hatch="//", label="true: Y")
axes.bar(spots + 0.27, p[0] - Y[0], 0.25, color="#D55E00", hatch="..", label="p - Y")
axes.axhline(0, color="black", linewidth=0.8)
axes.set(ylabel="probability")
axes.set_xticks(spots, ["first class", "second class"])
axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
plt.show()

# %% [markdown]
# The rest is the three rules. The slope of $r^2$ is $2r$; the slope of ReLU is 1 where $u > 0$ and else 0. Together,
# squared ReLU has the slope $2 \max(u, 0)$: no jump at 0.

# %%
dW2 = hidden.T @ dlogits  # (H, N) @ (N, C) = (H, C)
db2 = dlogits.sum(axis=0)  # (C,) one bias for all N rows: sum
dhidden = dlogits @ W2.T  # (N, C) @ (C, H) = (N, H)
dr = 2 * r * dhidden  # (N, H)
du = (u > 0) * dr  # (N, H)
dW1 = X.T @ du  # (2, N) @ (N, H) = (2, H)
db1 = du.sum(axis=0)  # (H,)

# %% [markdown]
# Eight lines in all, `dlogits` included. Are they right? The first independent check is the engine, which knows nothing of
# matrices.

# %%
for name, mine in {"W1": dW1, "b1": db1, "W2": dW2, "b2": db2}.items():
    compare(f"d{name}", mine, value_grads[name])


# %% [markdown]
# ## The nodes inside against MLX, with probes
#
# `mx.grad` gives derivatives with respect to a function's *arguments*. But `u` or `p` are made inside. The trick: add an
# array of zeros, a **probe**, at that place, and make it an argument. It changes nothing, since it is zero. But nudging the
# probe is the same as nudging `u`, so **the gradient of the probe is the gradient of `u`**.

# %%
def inside(x, probe):
    middle = x**2 + probe  # the place that we want to know about
    return 5 * middle


print("d result / d middle:", mx.grad(inside, argnums=1)(mx.array(3.0), mx.array(0.0)).item())


# %% [markdown]
# So write the network in MLX with a probe at each node (`shifted` stands for the logits and needs none), and ask for all
# gradients at once.

# %%
def probed_loss(params, probes, X, Y):
    u = X @ params["W1"] + params["b1"] + probes["u"]
    r = mx.maximum(u, 0) + probes["r"]
    hidden = r**2 + probes["hidden"]
    logits = hidden @ params["W2"] + params["b2"] + probes["logits"]
    largest = mx.stop_gradient(logits.max(axis=1, keepdims=True))  # plain numbers for the gradient
    exps = exp64(logits - largest) + probes["exps"]
    total = exps.sum(axis=1, keepdims=True) + probes["total"]
    p = exps / total + probes["p"]
    logp = mx.log(p) + probes["logp"]
    return -(Y * logp).sum() / len(Y)


# %%
mine = {"logp": dlogp, "p": dp, "total": dtotal, "exps": dexps, "logits": dlogits}
mine |= {"hidden": dhidden, "r": dr, "u": du}
my_params = {"W2": dW2, "b2": db2, "W1": dW1, "b1": db1}
with mx.stream(mx.cpu):  # float64 lives on the CPU
    probes = {name: float64(np.zeros_like(gradient)) for name, gradient in mine.items()}
    weights64 = {name: float64(array) for name, array in start_weights.items()}
    gradients_of = mx.grad(probed_loss, argnums=(0, 1))  # of params and of probes
    their_params, theirs = gradients_of(weights64, probes, float64(X), float64(Y))
    for name in mine:
        compare(f"d{name}", mine[name], theirs[name])
    for name in my_params:
        compare(f"d{name}", my_params[name], their_params[name])


# %% [markdown]
# Twelve lines, all close; the differences, where there are any, are a matter of rounding. Then train with your own
# gradients. Gather them in one function.

# %%
def numpy_step(params, X, Y, learning_rate=0.3):
    """A step of gradient descent by hand: changes `params` in place, returns the loss before it."""
    W1, b1, W2, b2 = params.values()
    u = X @ W1 + b1
    r = np.maximum(u, 0)
    hidden = r**2
    logits = hidden @ W2 + b2
    exps = np.exp(logits - logits.max(axis=1, keepdims=True))
    p = exps / exps.sum(axis=1, keepdims=True)
    dlogits = (p - Y) / len(Y)
    du = 2 * r * (dlogits @ W2.T)  # no (u > 0) needed: r is already 0 there
    grads = (X.T @ du, du.sum(axis=0), hidden.T @ dlogits, dlogits.sum(axis=0))
    for param, grad in zip(params.values(), grads, strict=True):
        param -= learning_rate * grad
    return -np.log((p * Y).sum(axis=1)).mean()


# %% [markdown]
# ## What MLX does instead
#
# `Value` has a node for each *number*, and you call `backward` on a result. MLX has a node for each *array*, and you ask for
# the derivative of a *function*: `mx.value_and_grad(f)` gives a new function, which returns the value of `f` and its
# gradients. When you call that, MLX runs `f` once, notes its operations, and adds the backward operations from a table of
# rules like yours. `mx.eval` computes the lot, on the GPU where there is one.

# %%
def mlx_loss(params, X, Y):
    hidden = mx.maximum(X @ params["W1"] + params["b1"], 0) ** 2
    logits = hidden @ params["W2"] + params["b2"]
    return (mx.logsumexp(logits, axis=1) - (logits * Y).sum(axis=1)).mean()  # ln S - z_y


loss_and_grads = mx.value_and_grad(mlx_loss)


def mlx_step(params, X, Y, learning_rate=0.3):
    """One step of gradient descent: changes `params` in place, returns the loss before it."""
    loss, grads = loss_and_grads(params, X, Y)
    for name in params:
        params[name] = params[name] - learning_rate * grads[name]
    mx.eval(loss, params)
    return loss


# %% [markdown]
# Three lines of forward, and no backward to write (`mx.logsumexp` is $\ln S$, safe from overflow). For a model that is an `nn.Module`, `nn.value_and_grad(model, loss)` does the
# same with the model's parameters; you saw it in chapter 00. Now NumPy and MLX from the weights that `Value` started with:

# %%
numpy_params = {name: array.copy() for name, array in start_weights.items()}
mlx_params = {name: mx.array(array, dtype=mx.float32) for name, array in start_weights.items()}
X32, Y32 = mx.array(X, dtype=mx.float32), mx.array(Y, dtype=mx.float32)
numpy_losses = [numpy_step(numpy_params, X, Y) for _ in range(steps)]
mlx_losses = [mlx_step(mlx_params, X32, Y32).item() for _ in range(steps)]
compare("NumPy", numpy_losses, value_curve.values, tolerance=1e-9)
compare("MLX", mlx_losses, value_curve.values, tolerance=1e-2)  # float32, and a GPU may round more

# %%
figure, axes = plt.subplots(figsize=(5, 3))
axes.plot(value_curve.values, color="#0072B2", linewidth=6, alpha=0.35, label="Value (float64)")
axes.plot(numpy_losses, color="black", linewidth=1.5, label="NumPy by hand (float64)")
axes.plot(mlx_losses, ":", color="#D55E00", linewidth=2.5, label="MLX (float32)")
axes.set(xlabel="step", ylabel="cross-entropy")
axes.legend(frameon=False)
plt.show()


# %% [markdown]
# Three engines, one curve.

# %% [markdown]
# ## How slow is it?
#
# Time one training step of each engine: the crescents (40 points, 8 hidden neurons), and then a network with 2,000 points and
# 512 hidden neurons.

# %%
def seconds_per_step(step, repeats):
    """The fastest of a few calls: what the step costs when nothing else disturbs it."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        step()
        times.append(time.perf_counter() - began)
    return min(times)


def time_arrays(weights, X, labels):
    """Seconds per step of NumPy and of MLX, both in float32."""
    repeats = budget(60, 10)
    in_numpy = {name: array.astype(np.float32) for name, array in weights.items()}
    X, Y = X.astype(np.float32), np.eye(2, dtype=np.float32)[labels]
    in_mlx = {name: mx.array(array) for name, array in in_numpy.items()}
    X_mlx, Y_mlx = mx.array(X), mx.array(Y)
    return {
        "NumPy": seconds_per_step(lambda: numpy_step(in_numpy, X, Y), repeats),
        "MLX": seconds_per_step(lambda: mlx_step(in_mlx, X_mlx, Y_mlx), repeats),
    }


large_weights = {
    "W1": rng.normal(0, 0.7, (2, 512)),
    "b1": np.zeros(512),
    "W2": rng.normal(0, 0.01, (512, 2)),
    "b2": np.zeros(2),
}
small = time_arrays(start_weights, X, labels)
large = time_arrays(large_weights, *crescents(2000, rng))

# %% [markdown]
# `Value` is too slow to wait for on the large network. So let it do 40 of the 2,000 points, and take 50 times as long as an
# estimate. (Its time is without the update of the weights, and it computes in float64.)

# %%
large_params = {name: as_values(array) for name, array in large_weights.items()}
small["Value"] = seconds_per_step(lambda: network_loss(params).backward(), 5)
large["Value"] = 50 * seconds_per_step(lambda: network_loss(large_params).backward(), 2)
nodes = len(topological_order(network_loss(large_params))) * 50
print(f"Value's graph of the large network would have about {nodes / 1e6:.0f} million nodes")
for size, times in (("small", small), ("large", large)):
    for name in ("NumPy", "MLX"):
        print(f"{size}: Value takes {times['Value'] / times[name]:,.0f} times as long as {name}")
assert small["Value"] > 5 * small["NumPy"]

# %%
figure, axes = plt.subplots(figsize=(6, 3.2))
looks = {"Value": ("#D55E00", "//"), "NumPy": ("#0072B2", ""), "MLX": ("#009E73", "..")}
for n, (name, (color, hatch)) in enumerate(looks.items()):
    seconds = (small[name], large[name])
    look = {"color": color, "hatch": hatch, "edgecolor": "white", "label": name}
    bars = axes.bar(np.arange(2) + 0.27 * (n - 1), seconds, 0.25, **look)
    if name == "Value":  # an estimate: outlined only
        bars[1].set(facecolor="white", edgecolor=color, linestyle="--", hatch="")
    notes = [f"{s * 1e3:.2g} ms" if s < 0.1 else f"{s:.2g} s" for s in seconds]
    axes.bar_label(bars, notes, fontsize=8)
axes.set(yscale="log", ylabel="seconds per step (log)", ylim=(None, 50 * large["Value"]))
axes.set_xticks([0, 1], ["40 points, 8 hidden", "2,000 points, 512 hidden\n(Value: estimate)"])
axes.legend(frameon=False, ncols=3)
plt.show()


# %% [markdown]
# The axis is logarithmic: each labelled mark is ten times the one below. The dashed bar is the estimate. `Value` pays for an object, a few tuples and an entry in a
# dictionary for *every multiplication*. NumPy and MLX pay once for an array operation, and then run through the numbers in
# compiled code.
#
# On the small network NumPy is often faster than MLX: MLX builds a graph anew at each step, and that overhead does not
# depend on the size of the arrays. On the large one it hardly counts. If your machine has a GPU, the last bar is the one to
# watch: large arrays are what it is made for. Chapter 04 comes back to the overhead of small ones.

# %% [markdown]
# ## Exercises
#
# Run the cells above first (menu *Run*, *Run All Above Selected Cell*). The solutions are in
# [solutions/02_autograd_solutions.ipynb](solutions/02_autograd_solutions.ipynb).
#
# The checks print ○ (not written yet), ✗ and the reason, or ✓.

# %% [markdown]
# ### Exercise 2.1 — a new operation (10 minutes, ●○○)
#
# The **sigmoid** $s(a) = 1 / (1 + e^{-a})$ squeezes a number between 0 and 1. Write it as *one* node: its only parent is `a`,
# and its local slope is $s \cdot (1 - s)$. It must also work for −1000 and 1000, where `math.exp(1000)` would overflow.
#
# <details><summary>Hint</summary>
#
# For negative $a$ use the other form of the same number, $e^{a} / (1 + e^{a})$. Then `math.exp` never sees a large positive
# number. Return `Value(s, (a,), (slope,))`.
#
# </details>

# %% tags=["exercise"]
def sigmoid(a):
    """The sigmoid of a Value, as one new Value."""
    raise NotImplementedError


# %%
check(exercises.sigmoid, sigmoid, Value)


# %% [markdown]
# ### Exercise 2.2 — catch the quiet bug (10 minutes, ●○○)
#
# Somebody wrote the backward pass below. Find the bug. Then prove it: write `trap(a, b)`, which makes an expression of two
# Values for which `careless_backward` gives a **wrong** gradient for `a` and a **right** one for `b`, whatever the numbers
# are. (The numbers will not be 0.)
#
# <details><summary>Hint</summary>
#
# Compare with `backward` line by line: which of its two additions is missing? It matters only for a value that reaches the
# result along two paths. So let `a` be a parent twice, as in `a * a` (a power counts once), and `b` once.
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
# ### Exercise 2.3 — back through a mean (15 minutes, ●●○)
#
# Forward, each row of `x`, shape (N, D), loses its mean: `y = x - x.mean(axis=1, keepdims=True)`. You are given `dy`, shape
# (N, D). Find `dx`, of the same shape.
#
# <details><summary>Hint</summary>
#
# `x` is used twice: directly, and inside the mean. The mean goes to all D numbers of its row with slope −1, so it
# collects `-dy.sum(axis=1, keepdims=True)`. Each `x` is in the mean with slope 1/D. Add both reports.
#
# </details>

# %% tags=["exercise"]
def centre_backward(dy):
    """dx for y = x - x.mean(axis=1, keepdims=True). dy and the result: (N, D)."""
    raise NotImplementedError


# %%
check(exercises.centre_backward, centre_backward)


# %% [markdown]
# ### Exercise 2.4 — RMSNorm backwards (30 minutes, ●●●)
#
# The next chapter's model keeps its numbers at a steady size with **RMSNorm**: it divides each row by its root mean square,
#
# $$ y = \frac{x}{\sqrt{\operatorname{mean}(x^2) + \varepsilon}} $$
#
# where the mean runs over the D numbers of a row, and the tiny $\varepsilon$ keeps a row of zeros from a division by zero. Given
# `x` and `dy`, both (N, D), find `dx`.
#
# <details><summary>Hint</summary>
#
# Name the steps: `m = mean(x²) + eps` (N, 1), `s = m ** -0.5` (N, 1), `y = x * s` (N, D). Walk back from `y` to `s`, to `m`,
# to `x`. One `s` serves its whole row, so `ds = (dy * x).sum(axis=1, keepdims=True)`, of shape (N, 1). The slope of a power
# gives `dm = ds * (-0.5 * m ** -1.5)`. And `x` collects from two places: from `y` (slope `s`) and from `m` (slope `2x / D`).
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
# - A value that remembers its parents and slopes can find all gradients in one walk, in reverse topological order.
# - On arrays there are three rules: multiply by local slopes element by element, sum where the forward pass broadcast, and `dA = dC @ B.T`, `dB = A.T @ dC`.
# - Softmax with negative log-likelihood has the gradient `p - Y`: what was said minus what was true.
# - MLX does the same with one node for each array operation, as a transform of functions: `mx.value_and_grad(f)`.
#
# ## Pitfalls
#
# - **Overwriting a report in place of adding it.** Right for a value that is used once; wrong, without a word, for one that is used twice.
# - **Gradients not set to zero** between steps. With `Value` (and in PyTorch) they add up. MLX returns new gradients from each call, so there is nothing to reset.
# - **A gradient of another shape than its array.** A `sum` forgotten, or one too many: NumPy may broadcast the update and hide it (`param -= grad` stops only where `grad` is the larger). Assert the shape.
# - **The mean forgotten.** A mean over N in the loss is a factor 1/N in every gradient.
# - **`exp` of large logits.** Subtract the largest first; the probabilities stay the same.
# - **A gradient check in float32, or with `h` too small.** Then rounding drowns the slope. Use float64 and `h` near $10^{-5}$.
# - **float64 on a GPU.** MLX has float64 on the CPU only; work with it inside `with mx.stream(mx.cpu)`.
#
# ## Further reading
#
# - Andrej Karpathy, [micrograd](https://github.com/karpathy/micrograd): the engine that made this kind of chapter popular.
# - Christopher Olah, [Calculus on Computational Graphs](https://colah.github.io/posts/2015-08-Backprop/): why backward beats forward when there is one result and many inputs.
# - Baydin and others, [Automatic Differentiation in Machine Learning: a Survey](https://arxiv.org/abs/1502.05767).
# - MLX, [Function Transforms](https://ml-explore.github.io/mlx/build/html/usage/function_transforms.html).
# - So and others, [Primer](https://arxiv.org/abs/2109.08668): where squared ReLU comes from.
#
# **Next:** [03 · microGPT](03_microgpt.ipynb)
