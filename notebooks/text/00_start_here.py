# %% [markdown]
# # 00 · Start here
#
# **Goal.** See what your machine can do, and meet, by doing, everything in MLX that the rest of the course uses.
#
# | | |
# |---|---|
# | Needs | Python; no machine learning, no GPU |
# | Time | 60 minutes to read, 35 for the exercises; under 30 seconds to run |
# | Memory | under 0.5 GB |
# | You will build → exported to | functions that describe your machine → `course_lib.backend` |

# %% [markdown]
# ![Map of the course, chapter 00 highlighted: start_here is the first chapter, names comes next](images/map_00.png)
#
# **00** · [01](01_names.ipynb) · [02](02_autograd.ipynb) · [03](03_microgpt.ipynb) · [04](04_batches.ipynb) · [05](05_tokenizer.ipynb) · [06](06_data.ipynb) · [07](07_attention.ipynb) · [08](08_gpt.ipynb) · [09](09_muon.ipynb) · [10](10_training.ipynb) · [11](11_evaluation.ipynb) · [12](12_engine.ipynb) · [13](13_conversations.ipynb) · [14](14_tools_and_tasks.ipynb) · [16](16_chat.ipynb) · [17](17_speedrun.ipynb) · [open this one in Colab](https://colab.research.google.com/github/OWNER/microgpt-to-nanochat/blob/main/notebooks/00_start_here.ipynb) ([how](https://github.com/OWNER/microgpt-to-nanochat/blob/main/docs/machines.md#colab))

# %% [markdown]
# ## How the course works
#
# You will build a **language model**: a program that guesses the next piece of a text. A **model** is a function with many numbers in
# it, its **parameters**. **Training** adjusts them, step by step, until the guesses are good.
#
# **MLX** is a library of arrays like NumPy that also runs on GPUs and computes the gradients that training needs (section 4). PyTorch is
# the best-known library of the kind. Skip the boxes "In PyTorch" if you do not know it.

# %% [markdown]
# A notebook is a page of **cells**: text, like this one, and code. Click on a code cell and press **Shift+Enter** to run it. Go from
# top to bottom, since later cells use what earlier ones made.
#
# Change things. *Kernel → Restart Kernel and Run All Cells* clears what is in memory and starts again. Ctrl+Z, or a fresh copy of the
# file, brings back the text. Work in a folder of your own, which an update of the course does not touch: `uv run course start` copies all
# notebooks to the folder `mine`, and `uv run course progress` lists the exercises that you have solved there.

# %%
hours = 24 * 7
print("a week has", hours, "hours")

# %% [markdown]
# Three conventions:
#
# - A cell that begins with `#| export backend` is also in the package, in `course_lib/backend.py`; later chapters import it from there.
#   Change it here, and the package stays as it is: only its authors' command `course export` copies cells.
# - A cell that raises `NotImplementedError` is an **exercise**: write your code in its place. The cell below checks it: `○` not written,
#   `✗` why, `✓` correct. Solutions are in the folder `solutions`.
# - `assert` lines compare a result with something known to be true. When one fails, something is wrong, and the run stops.
#
# Here is the first exported cell. It holds the imports of `course_lib.backend`.

# %%
#| export backend
"""What this machine is: its device, its memory, its speed, and the number type to compute in."""

import random
import sys
import time

import mlx.core as mx

from course_lib.host import device, fast_matmul
from course_lib.host.errors import CourseError

# %% [markdown]
# The next cell is for this notebook only. `mlx.core` holds the arrays, `mlx.nn` the building blocks of models, `mlx.optimizers`
# what adjusts their parameters.

# %%
import io
import os
import subprocess

import matplotlib.pyplot as plt
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
from mlx.utils import tree_flatten

from course_lib.classroom import check
from course_lib.classroom.exercises import start_here as exercises

BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"


# %% [markdown]
# ## What is your machine?
#
# A **device** is what computes: the processor (CPU), or a graphics processor (GPU) with thousands of small units. MLX reaches the
# GPU of a Mac through **Metal** and one by NVIDIA through **CUDA**. It picks a default when it is imported.

# %%
#| export backend
def device_kind() -> str:
    """Where MLX computes by default: "metal" (a Mac's GPU), "cuda" (an NVIDIA GPU) or "cpu".

    COURSE_PRETEND in the environment can make a CPU pass for a GPU, in tests.
    """
    if mx.default_device() == mx.cpu:
        return device.setting("COURSE_PRETEND", "metal", "cuda") or "cpu"
    return "metal" if mx.metal.is_available() else "cuda"


def device_name() -> str:
    """The device's own name, such as "Apple M3 Pro"."""
    return str(mx.device_info(mx.default_device()).get("device_name") or device_kind())


def memory_bytes() -> int:
    """Bytes of the memory of this Mac (CPU and GPU share it), CUDA GPU or Linux machine."""
    info = mx.device_info(mx.default_device())
    return int(info.get("memory_size") or info.get("total_memory") or device.memory_bytes())


def memory_for_arrays() -> int:
    """Bytes that arrays may fill: on a Mac's GPU what Metal recommends; elsewhere all memory."""
    info = mx.device_info(mx.default_device())
    return int(info.get("max_recommended_working_set_size") or memory_bytes())


# %%
print(f"{device_kind()}: {device_name()}, {memory_bytes() / 1e9:.1f} GB")


# %% [markdown]
# Nearly all the work of a language model is the **matrix product** (`@` in Python). For each entry of the result, a row of
# the first matrix and a column of the second are multiplied number by number, and added up.

# %% tags=["nbval-check-output"]
a, b = mx.array([[1.0, 2.0], [3.0, 4.0]]), mx.array([[5.0, 6.0], [7.0, 8.0]])
print((a @ b).tolist())
assert (a @ b)[0, 1].item() == 1 * 6 + 2 * 8  # row 0 of a, column 1 of b


# %% [markdown]
# With $n$ rows and columns there are $n^2$ entries, each with $n$ multiplications and $n$ additions: $2n^3$ operations. Divided by the
# seconds, that is the speed in **GFLOP/s**: billions of operations on decimal (floating-point) numbers each second. You need not
# understand yet how this function measures it.

# %%
#| export backend
def matmul_gflops(n: int = 1024, dtype: mx.Dtype = mx.float32, seconds: float = 0.2) -> float:
    """Measured speed of an (n, n) @ (n, n) product in GFLOP/s: 2 n^3 operations over the best time.

    seconds: how long to go on measuring. Raises CourseError for n below 1.
    """
    if n < 1:
        raise CourseError(f"matmul_gflops was asked for {n} x {n} matrices; n must be at least 1")
    a, b = (mx.random.normal((n, n), key=mx.random.key(seed)).astype(dtype) for seed in (0, 1))

    def seconds_each(count: int) -> float:
        start = time.perf_counter()
        mx.eval([a @ b for _ in range(count)])
        return (time.perf_counter() - start) / count

    mx.eval(a, b)
    seconds_each(1)  # the first product also loads and compiles
    count = max(1, min(32, int(0.005 / seconds_each(1))))  # in one mx.eval, to share its cost
    best, end = seconds_each(count), time.perf_counter() + seconds
    while time.perf_counter() < end:
        best = min(best, seconds_each(count))
    return 2 * n**3 / best / 1e9


# %%
sizes = [32, 64, 128, 256, 512, 1024]
speeds = [matmul_gflops(n) for n in sizes]
fig, ax = plt.subplots(figsize=(5, 3))
ax.plot([str(n) for n in sizes], speeds, "o-", color=BLUE)
ax.set_ylim(0)
ax.set_xlabel("n: rows and columns of each matrix")
ax.set_ylabel("GFLOP/s")
ax.set_title(f"Matrix products on {device_name()}")
plt.show()
print(f"{speeds[-1]:.0f} GFLOP/s at n = {sizes[-1]}")


# %% [markdown]
# Small products reach a low speed: each has a fixed cost besides the arithmetic. That is why chapter 04 trains on many names at once.
# (Other busy programs make the curve ragged.)
#
# A number can be stored in 32 bits (`float32`, 7 digits) or in 16 (`bfloat16`, 2 to 3 digits, the same range). Newer GPUs are made to
# compute faster in `bfloat16`. MLX's CPU backend computes slower in it, so the type depends on the device.

# %%
#| export backend
def compute_dtype() -> mx.Dtype:
    """The number type to compute in: bfloat16 on a GPU; float32 on the CPU, slow in bfloat16.

    COURSE_DTYPE=float32, or bfloat16, in the environment chooses otherwise.
    """
    usual = "float32" if device_kind() == "cpu" else "bfloat16"
    return getattr(mx, device.setting("COURSE_DTYPE", "float32", "bfloat16") or usual)


def describe() -> str:
    """A few lines on this machine: device, memory, matrix products, number type."""
    memory = f"{memory_bytes() / 1e9:.1f} GB"
    if memory_for_arrays() < memory_bytes():
        memory += f", {memory_for_arrays() / 1e9:.1f} GB of it for arrays"
    return "\n".join(
        [
            f"device: {device_kind()}, {device_name()}",
            f"memory: {memory}",
            fast_matmul.report(),
            f"compute in: {str(compute_dtype()).split('.')[-1]}",
        ]
    )


# %%
print(describe())
for dtype in (mx.float32, mx.bfloat16):
    print(f"{str(dtype).split('.')[-1]:8} {matmul_gflops(256, dtype):8.0f} GFLOP/s at n = 256")

# %% [markdown]
# Paste these lines when you ask someone for help. Section 9 explains the line `matmul:`.
#
# ## 1. Arrays
#
# An **array** is a block of numbers with a **shape**: `(2, 3)` is two rows of three. If you know NumPy, you know most of it.

# %%
a = mx.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
print(a.shape, a.dtype)
print(a[:, 1])
print(a.sum(axis=0))

# %% [markdown]
# Arrays of different shapes combine by **broadcasting**. The shapes are lined up at the right; a missing axis counts as 1. Then each
# pair of axes must be equal or contain a 1, and the 1 is repeated.

# %% tags=["nbval-check-output"]
column = mx.array([[10], [20]])  # (2, 1)
row = mx.array([1, 2, 3])  # (3,), read as (1, 3)
print((column + row).tolist())

# %% [markdown]
# We compare with NumPy. (`key` says which random numbers you get: section 7.)

# %%
b = mx.random.normal((3, 4), key=mx.random.key(0))
assert np.allclose(a @ b, np.array(a) @ np.array(b), atol=0.02)  # a GPU may round the inputs first
print("the same product:", (a @ b).shape)

# %% [markdown]
# > **In PyTorch** you would write `torch.tensor(...)`, `dim=0` and `keepdim=True`; here it is `mx.array(...)`, `axis=0` and
# > `keepdims=True`, as in NumPy. A list of decimal numbers becomes `float32` in both.
#
# Two surprises. NumPy has no `bfloat16`, so the way to NumPy leads through `float32`:

# %%
half = mx.ones((3,), dtype=mx.bfloat16)
try:
    np.array(half)
except ValueError as error:
    print("ValueError:", error)
print(np.array(half.astype(mx.float32)))

# %% [markdown]
# And an array cannot be picked apart with a mask of True and False, because the shape of the result would depend on the numbers.
# `mx.where(condition, a, b)` keeps the shape: it takes from `a` where the condition is True, else from `b`. Either may be one number.

# %% tags=["nbval-check-output"]
x = mx.array([-2, -1, 0, 1, 2])
try:
    x[x > 0]
except ValueError:
    print("x[x > 0] raises ValueError")
print(mx.where(x > 0, x, 0).tolist())

# %% [markdown]
# ## 2. Lazy evaluation
#
# MLX does not compute when you write `a @ b`. It notes what is to be done, in a **graph** of operations, and computes when somebody
# needs the numbers. You can see that with a clock.

# %%
a = mx.random.normal((512, 512), key=mx.random.key(0)) / 512**0.5
mx.eval(a @ a)  # the first product also loads and compiles

start = time.perf_counter()
y = a
for _ in range(10):
    y = y @ a
noted = time.perf_counter() - start
mx.eval(y)
computed = time.perf_counter() - start - noted


# %%
def bars(values, unit, title):
    """A bar with its number for each {label: value}."""
    fig, ax = plt.subplots(figsize=(5, 1.9))
    drawn = ax.barh(list(values), list(values.values()), color=BLUE, height=0.55)
    ax.bar_label(drawn, [f"{value:.3g}" for value in values.values()], padding=4)
    ax.margins(x=0.15)
    ax.invert_yaxis()
    ax.set_xlabel(unit)
    ax.set_title(title)
    plt.show()


times = {"for loop": 1e3 * noted, "mx.eval": 1e3 * computed}
bars(times, "milliseconds", "Ten matrix products")
print(f"mx.eval took {computed / noted:.0f} times as long as the loop")


# %% [markdown]
# The loop only took notes. `mx.eval(y)` did the work. Anything that needs a number triggers the work as well: `print(y)`, `y.item()`,
# `y.tolist()`, `np.array(y)`, `if y > 0:`.
#
# > **In PyTorch** each line computes at once (on a GPU it is queued at once), so you would time a line as it stands. Here, put
# > `mx.eval` inside what you time, or you time the taking of notes.
#
# ### The trap: a loop without `mx.eval`
#
# This function counts the operations that wait in the graph of an array. It asks MLX for a drawing of the graph and counts the
# boxes, all but those that only repeat a number (`Broadcast`).

# %%
def waiting(array):
    """Number of operations that must run before `array` has numbers."""
    drawing = io.StringIO()
    mx.export_to_dot(drawing, array)
    boxes = [line for line in drawing.getvalue().splitlines() if "rectangle" in line]
    return sum('"Broadcast"' not in box for box in boxes)


x = mx.array(1.0)
y = x * 0.5 + 1
print("before:", waiting(y), "operations wait")
mx.eval(y)
print("after: ", waiting(y), "operations wait")


# %% [markdown]
# Now a loop in which each step needs the last one, as in training.

# %%
def graph_sizes(steps, evaluate):
    """Operations waiting after each step of a loop."""
    x, sizes = mx.array(1.0), []
    for _ in range(steps):
        x = x * 0.5 + 1
        if evaluate:
            mx.eval(x)
        sizes.append(waiting(x))
    return sizes


without, with_eval = graph_sizes(30, evaluate=False), graph_sizes(30, evaluate=True)
assert without[-1] == 60 and set(with_eval) == {0}
fig, ax = plt.subplots(figsize=(5, 3))
ax.plot(range(1, 31), without, "--", color=ORANGE, label="without mx.eval")
ax.plot(range(1, 31), with_eval, "-", color=BLUE, label="mx.eval in each step")
ax.set_xlabel("step")
ax.set_ylabel("operations waiting")
ax.legend()
plt.show()

# %% [markdown]
# Without `mx.eval` the graph grows with every step. So each training loop of this course ends its step with `mx.eval`.
#
# ## 3. One memory
#
# On a Mac the CPU and the GPU share one memory. So you never send an array to a device; each *operation* says where it runs. A
# **stream** is a queue of operations on one device: `Stream(Device(cpu, 0), 1)` is queue 1 of CPU 0. We use the same array on two
# streams: CPU and GPU if you have one, else two queues of the CPU.

# %%
first = mx.default_stream(mx.cpu)
second = mx.new_stream(mx.cpu) if device_kind() == "cpu" else mx.default_stream(mx.gpu)
a = mx.random.normal((256, 256), key=mx.random.key(0))

product = mx.matmul(a, a, stream=second)
total = mx.add(product, a, stream=first)  # MLX waits for `product` here, by itself
assert mx.allclose(total, a @ a + a, atol=1e-3)
print(first, "and", second, "used the same array")


# %% [markdown]
# > **In PyTorch** you would call `model.to("cuda")` and `x.to("cuda")`, and get an error for the one that you forgot. In MLX you write
# > nothing. (NVIDIA GPUs have their own memory; MLX copies when it must.)
#
# ## 4. Gradients
#
# The **derivative** of $f$ at $x$ says how fast $f(x)$ changes when $x$ does. For $f(x) = x^3$ it is $3x^2$: at $x = 2$, one small step
# to the right raises $f$ by 12 times that step. Training needs the derivative with respect to every number of a model; all of
# them together are the **gradient**. First by hand, with a small step $h$:

# %%
def cube(x):
    return x**3


h = 0.01
by_hand = (cube(2.0 + h) - cube(2.0 - h)) / (2 * h)
print(f"by hand {by_hand:.4f}, closed form {3 * 2.0**2:.4f}")

# %% [markdown]
# `mx.grad` takes a function and returns another: its gradient, exact, without a step. The function gets an `mx.array` and must
# return a single number. Apply `mx.grad` twice and you have the second derivative, $6x$.

# %%
slope = mx.grad(cube)
curvature = mx.grad(slope)
for x in (-1.0, 0.5, 2.0):
    assert abs(slope(mx.array(x)).item() - 3 * x**2) < 1e-3
    assert abs(curvature(mx.array(x)).item() - 6 * x) < 1e-3
print(
    "slope at 2:", slope(mx.array(2.0)).item(), " curvature at 2:", curvature(mx.array(2.0)).item()
)


# %% [markdown]
# > **In PyTorch** you would set `x.requires_grad_()`, call `y.backward()`, read `x.grad`, and remember `zero_grad()` before the next
# > round. In MLX a gradient is the *result of a function*: nothing is stored on the array, so nothing has to be cleared.
#
# ### Squared ReLU
#
# A model is a chain of straight lines, for many numbers at once. Two straight lines in a row are one straight line again, unless there is
# a bend between them. Ours is the **squared ReLU**: $0$ for negative numbers, $x^2$ for positive ones. (ReLU, "rectified linear
# unit", is the same without the square.) `mx.vmap` applies its gradient, a function of one number, to each entry of `x`.

# %%
def squared_relu(x):
    """0 where x is negative, x squared elsewhere; any shape."""
    return mx.maximum(x, 0) ** 2


x = mx.linspace(-2, 2, 81)
gradient = mx.vmap(mx.grad(squared_relu))(x)
assert mx.allclose(squared_relu(x), nn.relu2(x))
assert mx.allclose(gradient, mx.where(x > 0, 2 * x, 0))
assert mx.grad(squared_relu)(mx.array(0.0)).item() == 0

# %%
fig, ax = plt.subplots(figsize=(5, 3))
ax.plot(x.tolist(), squared_relu(x).tolist(), "-", color=BLUE, label="max(x, 0)²")
ax.plot(x.tolist(), gradient.tolist(), "--", color=ORANGE, label="its gradient")
ax.axvline(0, color="black", linewidth=0.5)
ax.set_xlabel("x")
ax.legend()
plt.show()


# %% [markdown]
# The gradient is $0$ on the left, $2x$ on the right, and $0$ at $x = 0$ itself: the curve leaves zero without a corner. A plain ReLU jumps
# from slope 0 to slope 1 there.
#
# > **In PyTorch** you would write `F.relu(x).square()`.
#
# ## 5. Modules
#
# A **module** is a part of a model: it holds parameters, and says in `__call__` what it computes. The one that you will use most is
# the linear **layer**: `nn.Linear(2, 3)` turns rows of 2 numbers into rows of 3. It is the straight line for many numbers.

# %% tags=["nbval-check-output"]
layer = nn.Linear(2, 3)
x = mx.ones((4, 2))
assert mx.allclose(layer(x), x @ layer.weight.T + layer.bias, atol=0.02)
print("weight", layer.weight.shape, "bias", layer.bias.shape, "result", layer(x).shape)


# %% [markdown]
# The shape of `weight` is (outputs, inputs), hence the transpose `.T`. A module of your own finds parameters wherever you put them: in
# attributes, in other modules, in plain lists.

# %%
class Stack(nn.Module):
    """Two layers in a plain list, two arrays and a string."""

    def __init__(self):
        super().__init__()
        self.layers = [nn.Linear(2, 3), nn.Linear(3, 1)]
        self.scale = mx.ones((3,))
        self._table = mx.arange(10)
        self.name = "a string is not a parameter"

    def __call__(self, x):  # (N, 2) -> (N, 1)
        return self.layers[1](squared_relu(self.layers[0](x)) * self.scale)


stack = Stack()
for name, array in tree_flatten(stack.parameters()):
    print(f"{name:16} {array.shape}")

# %% [markdown]
# `tree_flatten` turns the nested parameters into pairs of name and array. An attribute that begins with `_` is no parameter: that is
# where tables go that must not be trained.

# %%
names = [name for name, _ in tree_flatten(stack.parameters())]
assert "layers.1.weight" in names and "scale" in names
assert "_table" not in names and "name" not in names

# %% [markdown]
# > **In PyTorch** a plain list hides its layers, so you would write `nn.ModuleList`; a plain tensor is no parameter, so you would write
# > `nn.Parameter`; and a table would be a buffer. In MLX it is the other way round: every array is a parameter unless its name begins
# > with `_`.
#
# ## 6. Training, whole
#
# Three things make a training step: a **loss** (one number that says how wrong the model is), its gradient for every parameter,
# and an **optimizer** that moves each parameter a little *against* its gradient, which points to where the loss grows. We fit a line to
# 40 points that scatter around $y = 2x + 1$.

# %%
noise_key, point_key = mx.random.split(mx.random.key(0))
x = mx.random.uniform(-1, 1, (40, 1), key=point_key)
y = 2 * x + 1 + 0.2 * mx.random.normal((40, 1), key=noise_key)


def loss_fn(model, x, y):
    """Mean of the squared distances between the model's line and the points."""
    return ((model(x) - y) ** 2).mean()


# %% [markdown]
# `nn.value_and_grad(model, loss_fn)` makes a function that returns both the loss and the gradient of every parameter. The simplest
# optimizer is **SGD** (stochastic gradient descent): it subtracts from each parameter its gradient times the **learning rate**. What an
# optimizer remembers between steps is its `state`; SGD has little to remember, later ones more.

# %%
mx.random.seed(0)
line = nn.Linear(1, 1)  # one weight and one bias: weight * x + bias
optimizer = optim.SGD(learning_rate=0.5)
loss_and_grad = nn.value_and_grad(line, loss_fn)

losses, lines = [], []
for _ in range(20):
    lines.append((line.weight.item(), line.bias.item()))
    loss, grads = loss_and_grad(line, x, y)
    optimizer.update(line, grads)
    mx.eval(line.parameters(), optimizer.state)
    losses.append(loss.item())
lines.append((line.weight.item(), line.bias.item()))
print(f"loss {losses[0]:.3f} -> {losses[-1]:.3f}")

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(8, 3))
left.scatter(x.flatten().tolist(), y.flatten().tolist(), s=12, color="gray", label="points")
for step, style, color in ((0, ":", ORANGE), (2, "--", GREEN), (20, "-", BLUE)):
    weight, bias = lines[step]
    left.plot(
        [-1, 1], [bias - weight, bias + weight], style, color=color, label=f"after {step} steps"
    )
left.set_xlabel("x")
left.set_ylabel("y")
left.legend(fontsize=8)
right.plot(range(1, 21), losses, "o-", markersize=3, color=BLUE)
right.set_xlabel("step")
right.set_ylabel("loss")
plt.tight_layout()
plt.show()

# %% [markdown]
# The line turns towards the points, and the loss falls until it is level: no line goes through points that scatter. The best one for
# these 40 is near $2x + 1$, not on it. There is a closed form for it (least squares), so we can check where training ended.

# %%
weight, bias = np.polyfit(np.array(x).ravel(), np.array(y).ravel(), deg=1)
print(f"trained      {line.weight.item():.3f} x + {line.bias.item():.3f}")
print(f"closed form  {weight:.3f} x + {bias:.3f}")
assert abs(line.weight.item() - weight) < 0.02 and abs(line.bias.item() - bias) < 0.02

# %% [markdown]
# > **In PyTorch** the step would be `optimizer.zero_grad()`, `loss = loss_fn(model(x), y)`, `loss.backward()`, `optimizer.step()`. Here
# > it is `loss, grads = loss_and_grad(...)`, `optimizer.update(model, grads)`, `mx.eval(...)`.
#
# ## 7. Randomness
#
# A computer's random numbers follow from a start number. In MLX that is a **key**: the same key gives the same numbers, every time. So
# use each key once; `mx.random.split` makes new keys from one.

# %%
key = mx.random.key(7)
one, other = mx.random.split(key)
assert mx.array_equal(mx.random.normal((3,), key=key), mx.random.normal((3,), key=key))
assert not mx.array_equal(mx.random.normal((3,), key=one), mx.random.normal((3,), key=other))
print("key 7, twice:", mx.random.uniform(key=key).item(), mx.random.uniform(key=key).item())


# %% [markdown]
# Functions that take no key, such as the start values of `nn.Linear`, use one that MLX keeps; `mx.random.seed` sets it. Python and
# NumPy have generators of their own. One function for all of them:

# %%
#| export backend
def seed_everything(seed: int) -> mx.array:
    """Seed Python's, MLX's and (where it is loaded) NumPy's random numbers; returns an MLX key.

    Raises CourseError unless 0 <= seed < 2^32.
    """
    if not 0 <= seed < 2**32:
        raise CourseError(f"the seed is {seed}; it must be a whole number from 0 to 4294967295")
    random.seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed)
    mx.random.seed(seed)
    return mx.random.key(seed)


# %%
draws = []
for _ in range(2):
    seed_everything(42)
    draws.append((random.random(), float(np.random.rand()), mx.random.uniform().item()))
assert draws[0] == draws[1]
print("the same three numbers twice:", [round(number, 3) for number in draws[0]])


# %% [markdown]
# > **In PyTorch** you would call `torch.manual_seed`, or pass a `torch.Generator`, which changes with each use. A key does not.
#
# ## 8. Compiling
#
# `mx.compile` runs your Python function once, with stand-ins for its arrays, keeps the graph, and joins operations that work entry by
# entry into one.

# %%
def rounds(x):
    """Six rounds of a squared ReLU; any shape, numbers from -1 to 1."""
    for _ in range(6):
        x = mx.maximum(0.9 * x + 0.1, 0) ** 2
    return x


compiled = mx.compile(rounds)
numbers = mx.linspace(-1, 1, 20_000)
mx.eval(numbers)
start = time.perf_counter()
mx.eval(compiled(numbers))
print(f"first call: {time.perf_counter() - start:.2f} s")

assert mx.allclose(compiled(numbers), rounds(numbers), atol=1e-5)
print("operations:", waiting(rounds(numbers)), "->", waiting(compiled(numbers)))


# %% [markdown]
# The numbers are the same, and six rounds of four operations have become a few. For that, MLX compiled a small program during the first
# call. On a Linux CPU it calls the C++ compiler `g++`: a second or so, ten and more for a large function. The result stays in the temp
# folder for the next run. (Without `g++`, MLX runs the function as it is.)

# %%
def best_time(function, x, repeats=30):
    """Shortest time of a call in seconds, the evaluation included."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        mx.eval(function(x))
        times.append(time.perf_counter() - start)
    return min(times)


times = {"plain": 1e3 * best_time(rounds, numbers), "compiled": 1e3 * best_time(compiled, numbers)}
bars(times, "milliseconds", "Six rounds on 20,000 numbers")

# %% [markdown]
# Fewer operations mean fewer trips through memory. How much that brings depends on the function and the machine; some functions get
# slower. So measure, as here, before you keep a compiled one.
#
# > **In PyTorch** you would write `torch.compile(model)`. Here you compile a *function*, most often the whole training step.
#
# ### The trap: what a compiled function has captured
#
# The Python body runs once (again only for arguments of another shape or type). A Python number that it saw then stays in the graph
# for good.

# %%
bodies_run = 0
divisor = 1.0


@mx.compile
def divided(x):
    """x divided by the divisor."""
    global bodies_run
    bodies_run += 1
    return x / divisor


print("divisor 1.0:", divided(mx.array(6.0)).item())
divisor = 0.5
print("divisor 0.5:", divided(mx.array(6.0)).item(), "<- should be 12")
print("the Python body ran", bodies_run, "time")
assert divided(mx.array(6.0)).item() == 6.0


# %% [markdown]
# The way out: what changes is an argument, and an array. (A Python number as an argument gives the right result, but MLX compiles again
# for each new number.) Chapter 04 shows how to pass a model and its optimizer.

# %% tags=["nbval-check-output"]
@mx.compile
def divided_by(x, divisor):
    """x divided by the divisor."""
    global bodies_run
    bodies_run += 1
    return x / divisor


for kind in (float, mx.array):
    bodies_run = 0
    results = [divided_by(mx.array(6.0), kind(number)).item() for number in (1.0, 0.5, 0.25)]
    print(f"{kind.__name__:5} {results}, runs of the body: {bodies_run}")

# %% [markdown]
# ## 9. Optional: why matrix products were slow on Linux, and are not any more
#
# On a CPU, matrix products come from a library called **BLAS**. A Mac has Apple's. The Linux package of MLX brings a simple one: correct,
# one number at a time. A better one is OpenBLAS, which NumPy uses too: several numbers an instruction, on all cores.
#
# `import course_lib` lends OpenBLAS to MLX. A library finds the functions of another in a table of addresses in memory; we overwrite
# three of them, check a few small products, and put the old addresses back if one is wrong (`course_lib/host/fast_matmul.py`).

# %%
print(fast_matmul.report())


# %% [markdown]
# (The name in brackets is OpenBLAS's word for a set of instructions, not for your processor.) With `COURSE_FAST_BLAS=0` in its
# environment, a process leaves MLX as it is. We measure both ways in new processes.

# %%
def gflops_in_a_new_process(fast_blas):
    """Speed of a product with n = 512 in a fresh process."""
    code = "from course_lib import backend; print(backend.matmul_gflops(512))"
    environment = {**os.environ, "COURSE_FAST_BLAS": fast_blas}
    return float(subprocess.check_output([sys.executable, "-c", code], env=environment))


before, now = gflops_in_a_new_process("0"), gflops_in_a_new_process("1")
speeds = {"MLX as it comes": before, "with course_lib": now}
bars(speeds, "GFLOP/s", "Matrix products, n = 512")
print(f"{now / before:.1f} times as fast")


# %% [markdown]
# On an idle Linux CPU you see a large factor. On a Mac or with CUDA the bars are about equal: nothing had to be done.
#
# ## Exercises
#
# Run the cells above first (menu *Run*, *Run All Above Selected Cell*). The solutions are in
# [solutions/00_start_here_solutions.ipynb](solutions/00_start_here_solutions.ipynb).
#
# ### Exercise 0.1 — standardise
#
# 5 minutes, ●○○
#
# Write `standardise(x)` for `x` of `N` rows and `D` columns: move and scale each column so that its mean is 0 and its standard
# deviation is 1. No loops.
#
# <details><summary>Hint</summary>
#
# `x.mean(axis=0)` has shape `(D,)`. Broadcasting lines it up with the columns of `x`. `mx.std` takes `axis` too.
#
# </details>

# %% tags=["exercise"]
def standardise(x):
    """x (N, D) with each column moved and scaled to mean 0 and standard deviation 1."""
    raise NotImplementedError


# %%
check(exercises.standardise, standardise)


# %% [markdown]
# ### Exercise 0.2 — count the parameters
#
# 5 minutes, ●○○
#
# Write `count_parameters(model)`: how many numbers the parameters of a module hold, wherever they are. You will use it in chapter 03.
#
# <details><summary>Hint</summary>
#
# `tree_flatten(model.parameters())` gives pairs of name and array; an array has `.size`.
#
# </details>

# %% tags=["exercise"]
def count_parameters(model):
    """Number of numbers in all parameters of the module."""
    raise NotImplementedError


# %%
check(exercises.count_parameters, count_parameters)


# %% [markdown]
# ### Exercise 0.3 — a soft cap
#
# 10 minutes, ●●○
#
# With `mx.tanh`, write `softcap(x, cap=15.0)`: nearly `x` while `x` is small, never beyond `cap` or `-cap`, smooth everywhere. Its
# gradient must be 1 at 0 and 0 far out. Some big language models end in it; you meet it again in chapter 08.
#
# <details><summary>Hint</summary>
#
# $\tanh$ alone does it for a cap of 1. Shrink first, stretch afterwards.
#
# </details>

# %% tags=["exercise"]
def softcap(x, cap=15.0):
    """x, squeezed smoothly into the range from -cap to cap; any shape."""
    raise NotImplementedError


# %%
check(exercises.softcap, softcap)


# %% [markdown]
# ### Exercise 0.4 — your own training loop
#
# 15 minutes, ●●●
#
# Write `fit(model, x, y, steps, learning_rate)`: train any module with SGD and `loss_fn` from section 6, and return the loss of each step,
# *before* its update, as a list of Python floats. Then try it on the module of section 5; the loss should fall:
#
# ```python
# x = mx.random.uniform(-1, 1, (40, 2))
# print(fit(Stack(), x, 2 * x[:, :1] + 1, steps=20, learning_rate=0.1))
# ```
#
# <details><summary>Hint</summary>
#
# The loop of section 6 is nearly it. `nn.value_and_grad` takes the model that it should find the gradient for.
#
# </details>

# %% tags=["exercise"]
def fit(model, x, y, steps, learning_rate):
    """Train `model` to turn x into y; the losses, one a step, each before that step's update."""
    raise NotImplementedError


# %%
check(exercises.fit, fit)

# %% [markdown]
# ## Summary
#
# - A notebook builds a module of `course_lib`; this one built `course_lib.backend`.
# - MLX takes notes and computes at `mx.eval`; a training loop evaluates in every step.
# - `mx.grad` and `nn.value_and_grad` turn functions into gradient functions; nothing is stored on the arrays.
# - Every array of an `nn.Module` is a parameter, unless its name begins with `_`.
# - `mx.compile` runs the Python body once; what changes must be an argument, and an array.
#
# ## Pitfalls
#
# - **A loop without `mx.eval`** works for a while, and then memory runs out.
# - **A table stored as `self.cos`** is trained, counted and saved with the model; `self._cos` is not.
# - **A Python number inside a compiled function** is frozen, and so is a learning rate that is not an array.
# - **A busy Linux machine.** The threads of OpenBLAS wait for each other, so a product can take a hundred times as long. Set
#   `OPENBLAS_NUM_THREADS=1` in the environment before you start JupyterLab, and it uses one thread.
# - **An index beyond the end** raises no error in MLX, and what you read there has no meaning: check lengths yourself.
#
# ## Further reading
#
# - [MLX: quick start](https://ml-explore.github.io/mlx/build/html/usage/quick_start.html) and
#   [lazy evaluation](https://ml-explore.github.io/mlx/build/html/usage/lazy_evaluation.html)
# - [MLX: compilation](https://ml-explore.github.io/mlx/build/html/usage/compile.html), with more on captured state
# - [NumPy: broadcasting](https://numpy.org/doc/stable/user/basics.broadcasting.html)
#
# **Next:** [01 · Names](01_names.ipynb)
