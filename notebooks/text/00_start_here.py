# %% [markdown]
# # 00 · Start here
#
# **Goal.** You see what your machine can do, and meet, by doing, everything in MLX that the rest of the course uses.
#
# | | |
# |---|---|
# | Needs | Python; no machine learning, no GPU |
# | Time | 40 minutes to read and do the exercises, under 30 seconds to run |
# | Memory | under 0.5 GB |
# | You will build → exported to | functions that describe your machine → `course_lib.backend` |

# %% [markdown]
# ![Map of the course, chapter 00 highlighted: start_here is the first chapter, names comes next](images/map_00.svg)

# %% [markdown]
# ## How the course works
#
# A notebook is a page of **cells**: text, like this one, and code. Click on a code cell and press **Shift+Enter**: it runs, and
# the next one is selected. Run them from top to bottom, since later cells use what earlier ones made.
#
# Change things. A notebook is a good place to break something; *Kernel → Restart Kernel and Run All Cells* mends it.

# %%
hours = 24 * 7
print("a week has", hours, "hours")

# %% [markdown]
# Four conventions:
#
# - A cell that begins with `#| export backend` is copied into the package, here into `course_lib/backend.py`. Later chapters
#   import it from there, so what you build once you never build again.
# - A cell that raises `NotImplementedError` is an **exercise**. The cell below it checks your answer: `○` not written, `✗` why, `✓`
#   correct. Solutions are in the folder `solutions`.
# - `assert` lines compare a result with something known to be true. When one fails, something is wrong, and it stops.
# - `budget(1000, 10)` is a number of steps: 1000 for you, 10 in the automatic tests.
#
# (Authors edit the notebooks as text files in the folder `text`. You need not.)
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
# The next cell is for this notebook only. `mlx.core` holds the arrays, `mlx.nn` the layers, `mlx.optimizers` what changes the
# weights of a model during training.

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
    """Where MLX computes by default: "metal" (a Mac's GPU), "cuda" (an NVIDIA GPU) or "cpu"."""
    if mx.default_device() == mx.cpu:
        return "cpu"
    return "metal" if mx.metal.is_available() else "cuda"


def device_name() -> str:
    """The device's own name, such as "Apple M3 Pro"."""
    return str(mx.device_info(mx.default_device()).get("device_name") or device_kind())


def memory_bytes() -> int:
    """Memory for arrays in bytes: a Mac's (CPU and GPU share it), a CUDA GPU's own, or a Linux machine's."""
    info = mx.device_info(mx.default_device())
    return int(info.get("memory_size") or info.get("total_memory") or device.memory_bytes())


# %%
print(f"{device_kind()}: {device_name()}, {memory_bytes() / 1e9:.1f} GB")


# %% [markdown]
# Nearly all the work of a language model is the **matrix product** (`@` in Python). For two matrices with $n$ rows and $n$ columns
# it takes $n^3$ multiplications and as many additions, $2n^3$ operations. Divided by the seconds, that is the speed, in
# **GFLOP/s**: billions of operations on decimal numbers (floating-point operations) each second.

# %%
#| export backend
def matmul_gflops(n: int = 1024, dtype: mx.Dtype = mx.float32, seconds: float = 0.2) -> float:
    """Measured speed of an (n, n) @ (n, n) product in GFLOP/s: 2 n^3 operations over the best time seen.

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
    count = max(1, min(32, int(0.005 / seconds_each(1))))  # enough at once to hide the start of one
    best, end = seconds_each(count), time.perf_counter() + seconds
    while time.perf_counter() < end:
        best = min(best, seconds_each(count))
    return 2 * n**3 / best / 1e9


# %%
sizes = [32, 64, 128, 256, 512, 1024]
speeds = [matmul_gflops(n) for n in sizes]
fig, ax = plt.subplots(figsize=(5, 3))
ax.loglog(sizes, speeds, "o-", color=BLUE)
ax.set_xticks(sizes, [str(n) for n in sizes])
ax.minorticks_off()
ax.set_xlabel("n: rows and columns of each matrix")
ax.set_ylabel("GFLOP/s")
ax.set_title(f"Matrix products on {device_name()}")
plt.show()
print(f"{speeds[-1]:.0f} GFLOP/s at n = {sizes[-1]}")


# %% [markdown]
# Small products are slow: starting one costs time, whatever its size. That is why chapter 04 trains on many names at once. (Other
# programs that keep your machine busy make the curve ragged.)
#
# A number can be stored in 32 bits (`float32`, 7 digits) or in 16 (`bfloat16`, 2 to 3 digits, the same range). GPUs compute faster in
# `bfloat16`. MLX's CPU backend computes slower in it, so the type depends on the device.

# %%
#| export backend
def compute_dtype() -> mx.Dtype:
    """The number type to compute in: bfloat16 on a GPU, float32 on the CPU, where MLX's bfloat16 is slow."""
    return mx.float32 if device_kind() == "cpu" else mx.bfloat16


def describe() -> str:
    """A few lines on this machine: device, memory, matrix products, number type."""
    return "\n".join(
        [
            f"device: {device_kind()}, {device_name()}",
            f"memory: {memory_bytes() / 1e9:.1f} GB",
            fast_matmul.report(),
            f"compute in: {str(compute_dtype()).split('.')[-1]}",
        ]
    )


# %%
print(describe())
for dtype in (mx.float32, mx.bfloat16):
    print(f"{str(dtype).split('.')[-1]:8} {matmul_gflops(256, dtype):8.0f} GFLOP/s at n = 256")

# %% [markdown]
# Paste these lines when you ask someone for help. The line `matmul:` is explained near the end of this chapter.
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
# Arrays of different shapes combine when each axis is equal or 1: the 1 is repeated. This is called **broadcasting**.

# %% tags=["nbval-check-output"]
column = mx.array([[10], [20]])  # (2, 1)
row = mx.array([1, 2, 3])  # (3,), read as (1, 3)
print((column + row).tolist())

# %% [markdown]
# We check against NumPy, which has done this for twenty years.

# %%
b = mx.random.normal((3, 4), key=mx.random.key(0))
assert np.allclose(a @ b, np.array(a) @ np.array(b), atol=0.02)  # some GPUs keep 3 digits
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
# `mx.where(condition, a, b)` chooses between two arrays of the same shape instead.

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
def bars(values, unit, title, log=False):
    """A bar with its number for each {label: value}; log: each step of the axis is ten times the last."""
    fig, ax = plt.subplots(figsize=(5, 1.9))
    drawn = ax.barh(list(values), list(values.values()), color=BLUE, height=0.55)
    ax.bar_label(drawn, [f"{value:.3g}" for value in values.values()], padding=4)
    if log:
        ax.set_xscale("log")
        ax.set_xlim(min(values.values()) / 10, max(values.values()) * 10)
    else:
        ax.margins(x=0.15)
    ax.invert_yaxis()
    ax.set_xlabel(unit + (" (each step is ten times the last)" if log else ""))
    ax.set_title(title)
    plt.show()


bars(
    {"for loop": 1e3 * noted, "mx.eval": 1e3 * computed},
    "milliseconds",
    "Ten matrix products",
    log=True,
)


# %% [markdown]
# The loop only took notes. `mx.eval(y)` did the work. So did, or would, everything that needs a number: `print(y)`, `y.item()`,
# `y.tolist()`, `np.array(y)`, `if y > 0:`.
#
# > **In PyTorch** each line computes at once (on a GPU it is queued at once), so you would time a line as it stands. Here, put
# > `mx.eval` inside what you time, or you time the taking of notes.
#
# ### The trap: a loop without `mx.eval`
#
# This function counts the operations that wait in the graph of an array. It asks MLX for a drawing of the graph and counts the
# boxes.

# %%
def waiting(array):
    """Number of operations that must run before `array` has numbers."""
    drawing = io.StringIO()
    mx.export_to_dot(drawing, array)
    return drawing.getvalue().count("rectangle")


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
# Without `mx.eval` the graph, and the memory that it holds, grows with every step. So each training loop of this course ends its
# step with `mx.eval`.
#
# ## 3. One memory
#
# On a Mac the CPU and the GPU share one memory. An MLX array does not live on a device; each *operation* says where it runs. A
# **stream** is a queue of operations on one device. We use the same array on two streams: CPU and GPU if you have one, else
# two queues of the CPU.

# %%
first = mx.default_stream(mx.cpu)
second = mx.new_stream(mx.cpu) if device_kind() == "cpu" else mx.default_stream(mx.gpu)
a = mx.random.normal((256, 256), key=mx.random.key(0))

product = mx.matmul(a, a, stream=second)
total = mx.add(product, a, stream=first)  # MLX waits for `product` here, by itself
assert mx.allclose(total, a @ a + a, atol=1e-3)
print(first, "and", second, "used the same array")


# %% [markdown]
# > **In PyTorch** you would call `model.to("cuda")` and `x.to("cuda")`, and get an error for the one that you forgot. In MLX there is
# > nothing to move. (On CUDA, MLX copies behind the scenes when it must.)
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
# `mx.grad` takes a function and returns another: its gradient, exact, without a step. Apply it twice and you have the second
# derivative, $6x$.

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
# The models of this course use one bend, the **squared ReLU**: $0$ for negative numbers, $x^2$ for positive ones. (ReLU, "rectified
# linear unit", is the same without the square.)

# %%
def squared_relu(x):
    """0 where x is negative, x squared elsewhere; any shape."""
    return mx.maximum(x, 0) ** 2


x = mx.linspace(-2, 2, 81)
gradient = mx.vmap(mx.grad(squared_relu))(x)  # vmap: the function, for each entry of x
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
# A **module** is a part of a model: it holds arrays that training changes, its **parameters**, and says in `__call__` what it
# computes. It finds parameters wherever you put them: in attributes, in other modules, in plain lists.

# %%
class Stack(nn.Module):
    """Two layers in a plain list, and three arrays."""

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
# and an **optimizer** that moves each parameter a little against its gradient. We fit a line to 40 points that scatter around
# $y = 2x + 1$.

# %%
noise_key, point_key = mx.random.split(mx.random.key(0))
x = mx.random.uniform(-1, 1, (40, 1), key=point_key)
y = 2 * x + 1 + 0.2 * mx.random.normal((40, 1), key=noise_key)


def loss_fn(model, x, y):
    """Mean of the squared distances between the model's line and the points."""
    return ((model(x) - y) ** 2).mean()


# %% [markdown]
# `nn.value_and_grad(model, loss_fn)` makes a function that returns both the loss and the gradient of every parameter.

# %%
mx.random.seed(0)
line = nn.Linear(1, 1)  # one weight and one bias: weight * x + bias
optimizer = optim.SGD(learning_rate=0.5)  # SGD: parameter - learning_rate * gradient
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
# The line turns towards the points, and the loss falls until only the scatter is left. For a line there is a closed form (least
# squares), so we can check where it ended.

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
# A computer's random numbers follow from a start number. In MLX that is a **key**: the same key gives the same numbers, every time.
# `mx.random.split` makes new keys from one.

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
    """Seed the random numbers of Python, MLX and (where it is loaded) NumPy; returns an MLX key made from `seed`.

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
# > **In PyTorch** you would call `torch.manual_seed`, and pass a `torch.Generator` where it matters. A key does the same, but it is a
# > value: using it does not change it, so use each key once.
#
# ## 8. Compiling
#
# `mx.compile` runs your Python function once, with stand-ins for its arrays, keeps the graph, and joins operations that work entry by
# entry into one. We take a function with many of those.

# %%
def rounds(x):
    """Six rounds of a squared ReLU; any shape, numbers from -1 to 1."""
    for _ in range(6):
        x = mx.maximum(0.9 * x + 0.1, 0) ** 2
    return x


compiled = mx.compile(rounds)
x = mx.linspace(-1, 1, 20_000)
start = time.perf_counter()
mx.eval(compiled(x))
print(f"first call: {time.perf_counter() - start:.2f} s")

assert mx.allclose(compiled(x), rounds(x), atol=1e-5)
print("operations:", waiting(rounds(x)), "->", waiting(compiled(x)))


# %% [markdown]
# The numbers are the same, and many operations have become few. For that, MLX wrote a small program and compiled it during the first
# call. On a Linux CPU it calls the C++ compiler `g++`: half a second for a small function, up to 13 seconds for a large one. The
# result stays in the temp folder, so when you run this notebook again, the first call is fast too. (Without `g++`, MLX runs the
# function as it is.)

# %%
def best_time(function, x, repeats=30):
    """Shortest time of a call in seconds, the evaluation included."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        mx.eval(function(x))
        times.append(time.perf_counter() - start)
    return min(times)


times = {"plain": 1e3 * best_time(rounds, x), "compiled": 1e3 * best_time(compiled, x)}
bars(times, "milliseconds", "Six rounds on 20,000 numbers")

# %% [markdown]
# Fewer operations mean fewer trips through memory, and fewer starts. How much that brings depends on the function and the machine; some
# functions get slower. So measure, as here, before you keep a compiled one.
#
# > **In PyTorch** you would write `torch.compile(model)`. Here you compile a *function*, most often the whole training step.
#
# ### The trap: what a compiled function has captured
#
# The Python body runs once (again only for arguments of another shape or type). A Python number that it saw then stays in the graph
# for good.

# %%
bodies_run = 0
temperature = 1.0


@mx.compile
def cooled(x):
    """x divided by the temperature."""
    global bodies_run
    bodies_run += 1
    return x / temperature


print("temperature 1.0:", cooled(mx.array(6.0)).item())
temperature = 0.5
print("temperature 0.5:", cooled(mx.array(6.0)).item(), "<- should be 12")
print("the Python body ran", bodies_run, "time")
assert cooled(mx.array(6.0)).item() == 6.0


# %% [markdown]
# The way out: what changes is an argument, and an array. Chapter 04 shows how to pass a model and its optimizer.

# %%
@mx.compile
def cooled_by(x, temperature):
    """x divided by the temperature."""
    return x / temperature


print([cooled_by(mx.array(6.0), mx.array(t)).item() for t in (1.0, 0.5)])
assert cooled_by(mx.array(6.0), mx.array(0.5)).item() == 12.0

# %% [markdown]
# ## 9. Why matrix products were slow on Linux, and are not any more
#
# Programs do not write matrix products themselves; they call a library called **BLAS**. On a Mac, MLX has Metal and Apple's own. The
# Linux package of MLX for the CPU brings a simple BLAS: correct, one number at a time. NumPy brings OpenBLAS, which works in
# blocks that fit the processor's cache, several numbers an instruction, on all cores.
#
# `import course_lib` lends OpenBLAS to MLX. A library finds the functions of another in a table of addresses in memory; we overwrite
# the three addresses of BLAS's matrix products, check a few small products, and put the old addresses back if one is wrong.
# (`course_lib/host/fast_matmul.py` has the details.) What it came to on your machine:

# %%
print(fast_matmul.report())


# %% [markdown]
# With `COURSE_FAST_BLAS=0` in its environment, a process leaves MLX as it is. We measure both ways in processes of their own.

# %%
def gflops_in_a_new_process(fast_blas):
    """Speed of a product with n = 512 in a fresh process."""
    code = "from course_lib import backend; print(backend.matmul_gflops(512))"
    environment = {**os.environ, "COURSE_FAST_BLAS": fast_blas}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    return float(done.stdout)


before, now = gflops_in_a_new_process("0"), gflops_in_a_new_process("1")
bars(
    {"MLX as it comes": before, "with course_lib": now},
    "GFLOP/s",
    "Matrix products, n = 512",
    log=True,
)
print(f"{now / before:.1f} times as fast")


# %% [markdown]
# On a Linux CPU that is otherwise idle you see a large factor. On a Mac or with CUDA the bars are about equal: nothing had to be done.
#
# ## Exercises
#
# Each has a stub and a check. The stubs raise `NotImplementedError`, and the checks say `○` until you write them.

# %% [markdown]
# ### Exercise 0.1 — standardise
#
# 5 minutes, ●○○
#
# Write `standardise(x)` for `x` of shape `(N, D)`: move and scale each column so that its mean is 0 and its standard deviation is 1.
# No loops.
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
# Write `softcap(x, cap=15.0)`: nearly `x` while `x` is small, never beyond `cap` or `-cap`, smooth everywhere. Its gradient must be 1 at
# 0 and 0 far out. Big language models put this on their last layer; you meet it again in chapter 08.
#
# <details><summary>Hint</summary>
#
# `mx.tanh` does it for a cap of 1. Shrink first, stretch afterwards.
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
# *before* its update, as a list of Python floats. Then try it on `Stack()`.
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
# - `mx.compile` runs the Python body once; what changes must be an argument.
#
# ## Pitfalls
#
# - **Timing without `mx.eval`** measures the taking of notes.
# - **A loop without `mx.eval`** works for a while, and then memory ends.
# - **A table stored as `self.cos`** is trained, counted and saved with the model; `self._cos` is not.
# - **The same key used twice** gives the same numbers twice: split it.
# - **A Python number inside a compiled function** is frozen, and so is a learning rate that is not an array.
# - **A busy Linux machine.** The threads of OpenBLAS wait for each other; when other programs hold the cores, a product can take a
#   hundred times as long. `OPENBLAS_NUM_THREADS=1` in the environment, set before you start JupyterLab, makes it use one thread.
# - **An index beyond the end** raises no error in MLX, and what you read there has no meaning: check lengths yourself.
#
# ## Further reading
#
# - [MLX: quick start](https://ml-explore.github.io/mlx/build/html/usage/quick_start.html) and
#   [lazy evaluation](https://ml-explore.github.io/mlx/build/html/usage/lazy_evaluation.html)
# - [MLX: compilation](https://ml-explore.github.io/mlx/build/html/usage/compile.html), with more on captured state
# - [NumPy: broadcasting](https://numpy.org/doc/stable/user/basics.broadcasting.html)
# - [OpenBLAS](http://www.openmathlib.org/OpenBLAS/)
#
# The exercises are solved in [solutions/00_start_here.ipynb](solutions/00_start_here.ipynb).
#
# **Next:** [01 · Names](01_names.ipynb)
