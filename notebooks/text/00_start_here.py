# %% [markdown]
# # 00 · Start here
#
# **Goal.** Watch a language model learn to write names, see what it does at each letter, and pick up the few tools that the next chapters need.
#
# | | |
# |---|---|
# | Needs | Python; no machine learning, no GPU |
# | Time | 50 minutes to read, 35 for the exercises; under a minute to run |
# | Memory | under 0.5 GB |
# | You will build → exported to | in the appendix: functions that describe your machine → `course_lib.backend` |

# %% [markdown]
# ![Map of the course, chapter 00 highlighted: start_here is the first chapter, names comes next](images/map_00.png)
#
# **00** · [01](01_names.ipynb) · [02](02_autograd.ipynb) · [03](03_microgpt.ipynb) · [04](04_batches.ipynb) · [05](05_tokenizer.ipynb) · [06](06_data.ipynb) · [07](07_attention.ipynb) · [08](08_gpt.ipynb) · [09](09_muon.ipynb) · [10](10_training.ipynb) · [11](11_evaluation.ipynb) · [12](12_engine.ipynb) · [13](13_conversations.ipynb) · [14](14_tools_and_tasks.ipynb) · [15](15_reinforcement.ipynb) · [16](16_serving.ipynb) · [17](17_chat.ipynb) · [18](18_speedrun.ipynb) · [19](19_memory.ipynb) · [20](20_processes.ipynb) · [21](21_nanochat_2026.ipynb) · [22](22_weights.ipynb) · [open this one in Colab](https://colab.research.google.com/github/OWNER/microgpt-to-nanochat/blob/main/notebooks/00_start_here.ipynb) ([how](https://github.com/OWNER/microgpt-to-nanochat/blob/main/docs/machines.md#colab))

# %% [markdown]
# ## 1. From noise to names
#
# This page is a **notebook**: text, like this, and **cells** of code. Click on the cell below and press **Shift+Enter** to run
# it. It makes a language model that has learned nothing yet and lets it write eight names. (What it imports comes from chapters
# 01 to 04, where you build its model. Names such as `budget` and `claim` are explained in section 2.)

# %%
from course_lib.classroom import LiveCurve, budget, check, claim
from course_lib.classroom.first_model import bets, train, untrained_model, write

model = untrained_model()
print(*write(model, 8))

# %% [markdown]
# Noise. Now show it real names, 32 at a time, and let it adjust itself a little each time. After 10, 100 and 400 such steps it
# writes its eight names again with the same luck as before. Nothing changes but what it has learned.

# %%
curve = LiveCurve("how badly it guesses", total=400, window=20)
samples = {0: write(model, 8)}


def watch(step, loss):
    """Called after each step: draws the curve, and lets the model write now and then."""
    curve.add(step, loss)
    if step in (10, 100, 400):
        samples[step] = write(model, 8)


train(model, budget(400, quick=10), on_step=watch)
curve.show()
for step, written in samples.items():
    print(f"after {step:3} steps:", *written)

# %% [markdown]
# The pale line is the loss of each step, the thick one the mean of the last 20: down means better guesses. From noise to names, in seconds. Nobody told the model what a vowel is, or how long names are. Has it learned the list by heart? Let it
# write 200 names and look them up in the list.

# %%
from course_lib.host.paths import data_dir

names = set((data_dir() / "names.txt").read_text().split())
written = write(model, 200, seed=2)
new = [name for name in written if name not in names]
print(f"{len(new)} of {len(written)} are not in the list:", *new[:12])
claim("most of what it writes is not in the list: it makes names up", len(new) > len(written) / 2)

# %% [markdown]
# ## 2. What is a language model?
#
# A **language model** guesses what comes next in a text. Given a beginning, it returns a probability for every possible next
# piece. Ours knows 27 pieces: the 26 letters and "the name ends here". Take the beginning *emm*. Which letter would you bet on?
# Here is what the model bets:

# %%
import matplotlib.pyplot as plt

BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"


def draw_bets(start):
    """Bars: the probability that the model gives to each next letter after `start`."""
    probabilities = bets(model, start)
    fig, ax = plt.subplots(figsize=(7, 2.2))
    ax.bar(list(probabilities), list(probabilities.values()), color=BLUE)
    ax.set_xlabel("next letter (• = the name ends)")
    ax.set_ylabel("probability")
    ax.set_title(f"What comes after {start}?")
    plt.show()


draw_bets("emm")

# %% [markdown]
# To write a name, the model draws a letter at random with these probabilities, appends it and guesses again until it draws the
# end. (Above, it was made to prefer the likely letters a little; chapter 03 shows how.) That is all it does, and all that ChatGPT
# does. ChatGPT's pieces are parts of words; it takes many more of them into account, and its model is far larger. By the end of
# this course you will have built a small one that you can talk to.
#
# Try another beginning: change *emm* in the cell above and run the cell again.

# %% [markdown]
# Some words for what you have seen; each comes back in its chapter.
#
# - A **model** is a function with many adjustable numbers in it, its **parameters**. Ours has thousands, ChatGPT has billions.
# - It is a **neural network**: a chain of simple steps, mostly multiplying and adding, each with parameters of its own.
# - **Training** adjusts the parameters a little at each step to make the guesses better. The **loss** is one number for how bad
#   they are; it is the curve above. Using a trained model is called **inference**.
# - **GPT** means Generative Pre-trained Transformer: *generative*, it writes; *pre-trained*, it learns from plain text before
#   it learns any special task; *transformer* is the name of the kind of network, which you build in chapter 03.
# - The **context length** is how many pieces it can look back on: 12 here.
# - What you choose before training, such as 400 steps, or 32 names at a time (the **batch size**), is called a **hyperparameter**.

# %% [markdown]
# Your way from here: chapter 01 builds the simplest model of names, which only counts. Chapter 02 shows how training knows in
# which direction to adjust a number. Chapter 03 builds a GPT of the same kind as the one above, only smaller. Chapter 04 makes it
# fast and looks inside. (Chapters 15 and 18 are still to come.)
#
# The rest of this chapter is your toolbox. The tools come from **MLX**, a library of arrays like NumPy that also runs on GPUs and
# computes the gradients that training needs. PyTorch is the best-known library of the kind. Skip the boxes "In PyTorch" if you do not
# know it.

# %% [markdown]
# ### How to work with these notebooks
#
# Go from top to bottom: later cells use what earlier ones made. Change things and see what happens. *Kernel → Restart Kernel and
# Run All Cells* clears what is in memory and starts again; Ctrl+Z undoes an edit. An `assert` line compares a result with
# something known to be true and stops the run if they differ.
#
# Work in a folder of your own, which an update of the course does not touch. In a terminal (`uv` is the program that installed what the course needs), `uv run course start` copies all notebooks to the folder
# `mine`, and `uv run course progress` lists the exercises that you have solved there.

# %% [markdown]
# ### Words of this course
#
# These come back in every chapter:
#
# - `budget(400, quick=10)` is 400 here. In **quick mode**, which the course's tests switch on with `COURSE_QUICK=1`, it is 10: everything runs, with few steps.
# - `claim("…", holds)` prints the sentence with a `✓`, or stops the run when the numbers say otherwise. Quick mode does not judge it.
# - `LiveCurve` draws a curve that grows while a cell trains.
# - `check(…)` looks at your answer to an exercise and says what is wrong with it.
# - A cell that begins with `#| export names.bigram` is also part of the package: `course_lib/names/bigram.py`. Later chapters import it from there. If you change such a cell, only your notebook changes.
# - The **loss log** is a table, `data/loss_log.csv`, with one row for each model: its size, its steps, its loss. Its rows are from the authors' runs; yours leave it alone.

# %% [markdown]
# ## 3. Arrays
#
# An **array** is a block of numbers with a **shape**. With one axis it is called a **vector**, with two a **matrix**: `(2, 3)` is two rows
# of three. If you know NumPy, you know most of this section.

# %% tags=["nbval-check-output"]
import mlx.core as mx

a = mx.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
print(a.shape, a.dtype)
print("one number:", a[1, 2].item(), "| a column:", a[:, 1].tolist())
print("sums down the columns:", a.sum(axis=0).tolist())

# %% [markdown]
# A `float32` is a number of 32 bits, which keeps about seven digits. `.item()` and `.tolist()` return plain Python numbers.
#
# Arrays of row and column numbers pick many entries at once. Chapter 01 looks up the probabilities of thousands of letter pairs
# this way.

# %% tags=["nbval-check-output"]
rows, columns = mx.array([0, 0, 1]), mx.array([2, 0, 1])
print(a[rows, columns].tolist(), "are a[0, 2], a[0, 0] and a[1, 1]")

# %% [markdown]
# (Take care: unlike a list, an MLX array raises no error for an index beyond its end. What you read there has no meaning.)
#
# Arrays of different shapes combine by **broadcasting**. The shapes are lined up at the right, and a missing axis counts as 1.
# Each pair of sizes must be equal or contain a 1; whatever has the 1 is repeated.

# %% tags=["nbval-check-output"]
column = mx.array([[10], [20]])  # (2, 1)
row = mx.array([1, 2, 3])  # (3,), read as (1, 3)
print((column + row).tolist())

# %% [markdown]
# Multiply two vectors number by number and add up: that is their **dot product**. The **matrix product** `A @ B` takes the dot
# product of each row of `A` with each column of `B`. This one operation does nearly all the work of a language model.

# %% tags=["nbval-check-output"]
A, B = mx.array([[1.0, 2.0], [3.0, 4.0]]), mx.array([[5.0, 6.0], [7.0, 8.0]])
print((A @ B).tolist())
assert (A @ B)[0, 1].item() == 1 * 6 + 2 * 8  # row 0 of A, column 1 of B

# %% [markdown]
# One surprise if you come from NumPy: you cannot index an array with a Boolean mask, because the shape of the result would depend on the
# numbers. `mx.where(condition, a, b)` keeps the shape: it takes from `a` where the condition is True, else from `b`.

# %% tags=["nbval-check-output"]
x = mx.array([-2, -1, 0, 1, 2])
try:
    x[x > 0]
except ValueError:
    print("x[x > 0] raises ValueError")
print(mx.where(x > 0, x, 0).tolist())

# %% [markdown]
# > **In PyTorch** arrays are called **tensors**. You would write `torch.tensor(...)`, `dim=0` and `keepdim=True`; here it is
# > `mx.array(...)`, `axis=0` and `keepdims=True`, as in NumPy. Python's floats become `float32` in both.
#
# ## 4. Lazy evaluation
#
# MLX does not compute when you write `a @ b`. It records the operation in a **graph** and computes only when the numbers are
# needed. You can see that with a clock.

# %%
import time

a = mx.random.normal((512, 512)) / 512**0.5
mx.eval(a @ a)  # the first product also loads and compiles

start = time.perf_counter()
y = a
for _ in range(10):
    y = y @ a
recorded = time.perf_counter() - start
mx.eval(y)
computed = time.perf_counter() - start - recorded


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


times = {"for loop": 1e3 * recorded, "mx.eval": 1e3 * computed}
bars(times, "milliseconds", "Ten matrix products")
claim("the products were computed by mx.eval, not by the loop", computed > 3 * recorded)


# %% [markdown]
# The loop only recorded the work; `mx.eval(y)` did it. Anything that needs a number also triggers the work: `print(y)`,
# `y.item()`, `y.tolist()`, `if y > 0:`.
#
# > **In PyTorch** each line computes at once (or is queued at once on a GPU), so you would time a line as it stands. Here, put
# > `mx.eval` inside what you time, or you time the recording.
#
# ### The trap: a loop without `mx.eval`
#
# `waiting` counts the operations that must run before an array has numbers: MLX can draw an array's graph, and `waiting` counts the boxes
# in the drawing.

# %%
from course_lib.classroom.draw_graph import waiting

x = mx.array(1.0)
y = x * 0.5 + 1
print("before:", waiting(y), "operations wait")
mx.eval(y)
print("after: ", waiting(y), "operations wait")


# %% [markdown]
# Now a loop in which each step needs the result of the last one, as in training. How many operations wait after 30 steps?

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
# Without `mx.eval` the graph grows with every step until memory runs out. (A training loop that reads
# its loss with `loss.item()` does not grow without end, since that computes the loss and what it was made of. But the last update
# still waits, and a timer stopped there reads too low.) So every training loop of this course calls `mx.eval` in each step.
#
# ## 5. Random numbers
#
# A computer's random numbers follow from a starting number. In MLX that is a **key**: the same key gives the same numbers, every
# time. So use each key once, unless you want the same numbers again; `mx.random.split` makes new keys from one. The model above
# wrote its eight names with the same keys each time: that was its "same luck".

# %%
key = mx.random.key(7)
one, other = mx.random.split(key)
print("key 7, twice:", mx.random.uniform(key=key).item(), mx.random.uniform(key=key).item())
print("its children:", mx.random.uniform(key=one).item(), mx.random.uniform(key=other).item())

# %% [markdown]
# `mx.random.uniform` spreads its numbers evenly between two ends. `mx.random.normal` draws from the bell curve around 0. The
# **standard deviation** says how widely a set of numbers is spread: it is the square root of the mean squared distance from the
# mean. For the bell curve it is 1.

# %%
drawn = mx.random.normal((10_000,), key=key)
print(f"mean {drawn.mean().item():.3f}, standard deviation {mx.std(drawn).item():.3f}")
by_hand = mx.sqrt(((drawn - drawn.mean()) ** 2).mean())
assert abs(by_hand.item() - mx.std(drawn).item()) < 1e-4

# %% [markdown]
# Called without a key, these functions use a global one that MLX keeps; `mx.random.seed` sets it.
#
# > **In PyTorch** you would call `torch.manual_seed`, or pass a `torch.Generator`, which changes with each use. A key does not.
#
# ## 6. Gradients
#
# The **derivative** of $f$ at $x$ says how fast $f(x)$ changes when $x$ does. For $f(x) = x^3$ it is $3x^2$: at $x = 2$, a small
# step to the right raises $f$ by 12 times that step. Training needs the derivative of the loss with respect to every parameter of
# a model; all of them together are the **gradient**. First by hand, with a small step $h$:

# %%
def cube(x):
    return x**3


h = 0.01
by_hand = (cube(2.0 + h) - cube(2.0 - h)) / (2 * h)
print(f"by hand {by_hand:.4f}, by the formula {3 * 2.0**2:.4f}")

# %% [markdown]
# `mx.grad` takes a function and returns another: its gradient, which is exact and needs no $h$. The function gets an `mx.array`
# and must return a single number. How that can work is the subject of chapter 02.

# %%
slope = mx.grad(cube)
for x in (-1.0, 0.5, 2.0):
    print(f"at {x:4}: {slope(mx.array(x)).item():.4f}")
    assert abs(slope(mx.array(x)).item() - 3 * x**2) < 1e-3

# %% [markdown]
# > **In PyTorch** you would set `x.requires_grad_()`, call `y.backward()`, read `x.grad`, and remember `zero_grad()` before the next
# > round. In MLX a gradient is the *result of a function*: nothing is stored on the array, so nothing has to be cleared.
#
# ## 7. A complete training run
#
# The names model has thousands of parameters. Here is the same idea with only two: a line $wx + b$ through 40 points that scatter
# around $2x + 1$. The loss is the mean of the squared distances between the line and the points.

# %%
noise_key, point_key = mx.random.split(mx.random.key(0))
x = mx.random.uniform(-1, 1, (40, 1), key=point_key)
y = 2 * x + 1 + 0.2 * mx.random.normal((40, 1), key=noise_key)


def line_loss(params):
    """Mean squared distance of the line with slope params[0] and height params[1]."""
    return ((params[0] * x + params[1] - y) ** 2).mean()


# %% [markdown]
# `mx.value_and_grad` returns the loss and its gradient. The gradient points in the direction in which the loss *grows*, so each step subtracts it,
# multiplied by the **learning rate**, which sets how far a step goes (here 0.5). This is **gradient descent**. All training in
# this course is a version of these lines.

# %%
loss_and_grad = mx.value_and_grad(line_loss)
params, losses, lines = mx.zeros((2,)), [], []
for _ in range(20):
    lines.append(params.tolist())
    loss, grad = loss_and_grad(params)
    params = params - 0.5 * grad
    mx.eval(params)
    losses.append(loss.item())
lines.append(params.tolist())
print(f"loss {losses[0]:.3f} -> {losses[-1]:.3f}")

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(8, 3))
left.scatter(x.flatten().tolist(), y.flatten().tolist(), s=12, color="gray", label="points")
for step, style, color in ((0, ":", ORANGE), (2, "--", GREEN), (20, "-", BLUE)):
    w, b = lines[step]
    left.plot([-1, 1], [b - w, b + w], style, color=color, label=f"after {step} steps")
left.set_xlabel("x")
left.set_ylabel("y")
left.legend(fontsize=8)
right.plot(range(1, 21), losses, "o-", markersize=3, color=BLUE)
right.set_xlabel("step")
right.set_ylabel("loss")
plt.tight_layout()
plt.show()

# %% [markdown]
# The line turns towards the points, and the loss falls until it levels out: no line goes through all the scattered points. For a
# line there is also a formula that gives the best one at once (least squares). So you can check where training ended.

# %%
import numpy as np

w, b = np.polyfit(np.array(x).ravel(), np.array(y).ravel(), deg=1)
print(f"trained      {params[0].item():.3f} x + {params[1].item():.3f}")
print(f"by formula   {w:.3f} x + {b:.3f}")
assert np.allclose(np.array(params), [w, b], atol=0.02)

# %% [markdown]
# ## 8. Modules: the same with less to write
#
# With many parameters you do not want to list them by hand. A **module** holds parameters and says in `__call__` what it
# computes. The one that you will use most is the **linear layer**: `nn.Linear(2, 3)` turns rows of 2 numbers into rows of 3. It
# takes a matrix product with its **weight**, then adds its **bias**: one number for each of the 3 outputs, the same for all rows.
# (In the line $wx + b$ above, the bias is $b$.) With `bias=False` it adds nothing; the GPTs of this course do without.

# %% tags=["nbval-check-output"]
import mlx.nn as nn
import mlx.optimizers as optim
from mlx.utils import tree_flatten

layer = nn.Linear(2, 3)
x2 = mx.ones((4, 2))
assert mx.allclose(layer(x2), x2 @ layer.weight.T + layer.bias, atol=0.02)
print("weight", layer.weight.shape, "bias", layer.bias.shape, "result", layer(x2).shape)

# %% [markdown]
# The shape of `weight` is (outputs, inputs), hence the transpose `.T`. An **optimizer** takes the step for all parameters of a
# module. The simplest is **SGD** (stochastic gradient descent): the subtraction that you just wrote. With one input, one output
# and the same start, the module should give the same losses, but for rounding.

# %%
def loss_fn(model, x, y):
    """Mean of the squared distances between what the model gives for x, and y."""
    return ((model(x) - y) ** 2).mean()


line = nn.Linear(1, 1)
line.weight, line.bias = mx.zeros((1, 1)), mx.zeros((1,))
optimizer = optim.SGD(learning_rate=0.5)
loss_and_grad = nn.value_and_grad(line, loss_fn)
module_losses = []
for _ in range(20):
    loss, grads = loss_and_grad(line, x, y)
    optimizer.update(line, grads)
    mx.eval(line.parameters(), optimizer.state)
    module_losses.append(loss.item())
assert np.allclose(module_losses, losses, rtol=1e-3), "not the losses of the loop by hand"
print(f"loss {module_losses[0]:.3f} -> {module_losses[-1]:.3f}, as by hand")

# %% [markdown]
# `nn.value_and_grad(model, loss_fn)` makes a function that returns the loss and the gradients of all parameters of `model`.
# `optimizer.state` is what an optimizer remembers between steps: SGD next to nothing, later ones more.
#
# > **In PyTorch** the step would be `optimizer.zero_grad()`, `loss = loss_fn(model(x), y)`, `loss.backward()`, `optimizer.step()`.
#
# ### Why a network needs more than linear layers
#
# Two linear layers in a row are one linear layer again, with the product of their matrices as its weight. However many you stack, you
# get no more than a straight line.

# %%
first, second = nn.Linear(2, 3, bias=False), nn.Linear(3, 1, bias=False)
one_layer = second.weight @ first.weight  # (1, 3) @ (3, 2) = (1, 2)
assert mx.allclose(second(first(x2)), x2 @ one_layer.T, atol=0.02)
print("two layers, one matrix of shape", one_layer.shape)


# %% [markdown]
# So something that is not a straight line has to stand between them: an **activation function**. This course uses the **squared
# ReLU**: 0 for negative numbers, $x^2$ for positive ones. (ReLU, "rectified linear unit", is the same without the square.) A
# function that is not a straight line is called **non-linear**.

# %%
def squared_relu(x):
    """0 where x is negative, x squared elsewhere; any shape."""
    return mx.maximum(x, 0) ** 2


class Stack(nn.Module):
    """Two layers in a plain list, an array, a table and a string."""

    def __init__(self):
        super().__init__()
        self.layers = [nn.Linear(2, 3), nn.Linear(3, 1)]
        self.scale = mx.ones((3,))
        self._table = mx.arange(10)
        self.name = "a string is not a parameter"

    def __call__(self, x):  # (N, 2) -> (N, 1)
        return self.layers[1](squared_relu(self.layers[0](x)) * self.scale)


# %% [markdown]
# A module finds its parameters wherever you put them: in attributes, in other modules, in plain lists. An attribute whose name
# begins with `_` is not a parameter: numbers that must not be trained go there. `tree_flatten` turns the nested parameters into
# pairs of name and array.

# %%
for name, array in tree_flatten(Stack().parameters()):
    print(f"{name:16} {array.shape}")

# %% [markdown]
# > **In PyTorch** a plain list hides its layers, so you would write `nn.ModuleList`; a plain tensor is no parameter, so you would write
# > `nn.Parameter`; and a table would be a buffer. In MLX it is the other way round: every array is a parameter unless its name begins
# > with `_`.
#
# ## Exercises
#
# Run the cells above first (menu *Run*, *Run All Above Selected Cell*). The solutions are in
# [solutions/00_start_here_solutions.ipynb](solutions/00_start_here_solutions.ipynb).
#
# A cell that raises `NotImplementedError` is yours: write your code in its place. The cell below it checks what you wrote: `○` not
# written yet, `✗` and why, `✓` correct.

# %%
from course_lib.classroom.exercises import start_here as exercises

# %% [markdown]
# ### Exercise 0.1 — standardise
#
# 5 minutes, ●○○
#
# Write `standardise(x)` for `x` of `N` rows and `D` columns: move and scale each column so that its mean is 0 and its standard
# deviation is 1. No loops.
#
# <details><summary>Hint 1</summary>
#
# What is the shape of `x.mean(axis=0)`, and how does broadcasting line it up with `x`?
#
# </details>
# <details><summary>Hint 2</summary>
#
# Subtract the means of the columns, then divide by `mx.std(x, axis=0)`. Both have shape `(D,)`, read as `(1, D)`.
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
# Write `count_parameters(model)`: how many numbers the parameters of a module hold, wherever they are. Then count those of the model that
# wrote the names: `count_parameters(model)`.
#
# <details><summary>Hint 1</summary>
#
# `tree_flatten(model.parameters())` gives pairs of name and array.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `array.size` is how many numbers an array holds; `sum(...)` adds them up over all pairs.
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
# With `mx.tanh`, which squeezes any number to between -1 and 1, write `softcap(x, cap=15.0)`: nearly `x` while `x` is small, never
# beyond `cap` or `-cap`, smooth everywhere. Its gradient must be 1 at 0 and 0 far out. Some big language models end in it; you meet it
# again in chapter 08.
#
# <details><summary>Hint 1</summary>
#
# `mx.tanh` alone does it for a cap of 1. What could you do before and after it?
#
# </details>
# <details><summary>Hint 2</summary>
#
# Shrink first, stretch afterwards, both by the same number.
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
# Write `fit(model, x, y, steps, learning_rate)`: train any module with SGD and `loss_fn` from section 8, and return the loss of each step,
# *before* its update, as a list of Python floats. Then try it on the module of section 8; the loss should fall:
#
# ```python
# x = mx.random.uniform(-1, 1, (40, 2))
# print(fit(Stack(), x, 2 * x[:, :1] + 1, steps=20, learning_rate=0.1))
# ```
#
# <details><summary>Hint 1</summary>
#
# The second loop of section 8 is nearly it. Which of its names must become arguments?
#
# </details>
# <details><summary>Hint 2</summary>
#
# Make `optim.SGD(learning_rate=learning_rate)` and `nn.value_and_grad(model, loss_fn)` before the loop. In each step call the second
# with `(model, x, y)`, update `model`, evaluate, and append `loss.item()`.
#
# </details>

# %% tags=["exercise"]
def fit(model, x, y, steps, learning_rate):
    """Train `model` to turn x into y; the loss of each step, before that step's update."""
    raise NotImplementedError


# %%
check(exercises.fit, fit)

# %% [markdown]
# ## Summary
#
# - A language model gives a probability to every possible next piece of a text. It writes by drawing from them again and again.
# - Training adjusts parameters against the gradient of the loss, step by step.
# - MLX records operations and computes at `mx.eval`; a training loop calls it in every step.
# - `mx.grad` and `nn.value_and_grad` turn functions into gradient functions; nothing is stored on the arrays.
# - Every array of an `nn.Module` is a parameter, unless its name begins with `_`.
#
# ## Pitfalls
#
# - **A loop that evaluates nothing** works for a while; then memory runs out. Call `mx.eval` in each step.
# - **The same key twice** gives the same "random" numbers twice. Split it.
# - **A fixed table stored as `self.table`** in a module is trained, counted and saved with it; `self._table` is not.
# - **An index beyond the end** raises no error in MLX, and what you read has no meaning: check lengths yourself.
#
# ## Further reading
#
# - [MLX: quick start](https://ml-explore.github.io/mlx/build/html/usage/quick_start.html) and
#   [lazy evaluation](https://ml-explore.github.io/mlx/build/html/usage/lazy_evaluation.html)
# - [NumPy: broadcasting](https://numpy.org/doc/stable/user/basics.broadcasting.html)
#
# **Next:** [01 · Names](01_names.ipynb)

# %% [markdown]
# ## Appendix: your machine
#
# You can skip this and come back when a chapter asks for it: how fast your machine is, which type of number to compute in, and
# how to make a function faster (`mx.compile`, which chapter 04 uses).
#
# The cells that begin with `#| export backend` also stand in `course_lib/backend.py` (section 2). This is how the notebooks build
# the package.

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
# A **device** is what computes: the processor (CPU), or a graphics processor (GPU) with thousands of small units. MLX reaches the
# GPU of a Mac through **Metal** and one by NVIDIA through **CUDA**. It picks a default when it is imported. On a Mac, CPU and GPU
# share one memory, so you never move an array to a device.

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


# %% [markdown]
# ### Speed
#
# A matrix product of $n$ rows and columns has $n^2$ entries, each with $n$ multiplications and $n$ additions: $2n^3$ operations. Divided by
# the seconds, that is the speed in **GFLOP/s**: billions of operations on floating-point numbers each second.

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
claim("small products are slow for their size", speeds[0] < max(speeds) / 2)


# %% [markdown]
# Each operation has a fixed cost besides its arithmetic. That is why chapter 04 trains on many names at once. (Other programs at
# work make the curve ragged.)
#
# ### Number types
#
# A number can be stored in 32 bits (`float32`, 7 digits) or in 16 (`bfloat16`, 2 to 3 digits, the same range). Newer GPUs are made to
# compute faster in `bfloat16`; MLX's CPU backend computes slower in it. So the type depends on the device. (NumPy has no `bfloat16`:
# convert with `.astype(mx.float32)` first.)

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

# %% [markdown]
# Paste these lines when you ask someone for help. The line `matmul:` says what computes matrix products on a CPU. A Mac has
# Apple's library for that. The Linux package of MLX brings a simple one that handles one number at a time. `import course_lib`
# lends it a better one, OpenBLAS, which NumPy uses too, and checks its results (`course_lib/host/fast_matmul.py`).
#
# ### Seeds
#
# Python, NumPy and MLX each have their own random numbers. One function seeds all three:

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
# ### Compiling
#
# `mx.compile` runs your Python function once with placeholders for its arrays, keeps the graph, and joins operations that work
# entry by entry into one. Fewer operations mean fewer trips through memory.

# %%
def rounds(x):
    """Six rounds of a squared ReLU; any shape, numbers from -1 to 1."""
    for _ in range(6):
        x = squared_relu(0.9 * x + 0.1)
    return x


compiled = mx.compile(rounds)
numbers = mx.linspace(-1, 1, 20_000)
start = time.perf_counter()
assert mx.allclose(compiled(numbers), rounds(numbers), atol=1e-5)
print(f"first call: {time.perf_counter() - start:.2f} s")
print("operations:", waiting(rounds(numbers)), "->", waiting(compiled(numbers)))

# %% [markdown]
# Each round has four operations: times 0.9, plus 0.1, the maximum, the square. Compiling joins eight of them at a time, since one compiled operation takes only so many. The first call compiled a small program. On a Linux CPU it calls the C++ compiler `g++`: a second or so, ten and more for a
# large function. The result is kept in the temp folder; it was already there when these outputs were made. (Without `g++`, MLX runs the function as it is.) What you
# gain depends on the function and the machine: measure before you keep it.
#
# > **In PyTorch** you would write `torch.compile(model)`. Here you compile a *function*, most often the whole training step.
#
# **The trap.** The Python body runs once (again only for arguments of another shape or type). A Python number that it saw stays
# in the graph for good.

# %%
divisor = 1.0


@mx.compile
def divided(x):
    """x divided by the divisor."""
    return x / divisor


print("divisor 1.0:", divided(mx.array(6.0)).item())
divisor = 0.5
print("divisor 0.5:", divided(mx.array(6.0)).item(), "<- should be 12")
assert divided(mx.array(6.0)).item() == 6.0

# %% [markdown]
# The fix: pass anything that changes as an argument, as an `mx.array`. (A Python number as an argument gives the right result,
# but MLX compiles again for each new number.) Chapter 04 shows how to pass a model and its optimizer.

# %% tags=["nbval-check-output"]
bodies_run = 0


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
# More on [compiling](https://ml-explore.github.io/mlx/build/html/usage/compile.html) in MLX's documentation.
#
# **A busy Linux machine.** The threads of OpenBLAS wait for each other, so a product can take a hundred times as long while other
# programs compute. If you set `OPENBLAS_NUM_THREADS=1` in the environment before you start JupyterLab, it uses one thread.
