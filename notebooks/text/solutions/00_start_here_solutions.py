# %% [markdown]
# # 00 · Start here: solutions
#
# The exercises of [00 · Start here](../00_start_here.ipynb), solved. Each check here is strict: a wrong answer stops the notebook.

# %%
import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
from mlx.utils import tree_flatten

from course_lib.classroom import check_solution as check
from course_lib.classroom.exercises import start_here as exercises


# %% [markdown]
# ## Exercise 0.1 — standardise
#
# Give each column of `x` mean 0 and standard deviation 1, without a loop.

# %%
def standardise(x):
    """x (N, D) with each column moved and scaled to mean 0 and standard deviation 1."""
    return (x - x.mean(axis=0)) / mx.std(x, axis=0)  # (N, D) with (D,)


# %%
check(exercises.standardise, standardise)

# %% [markdown]
# The means have shape `(D,)`, which broadcasting reads as `(1, D)` and repeats for each of the `N` rows. With `axis=1` you would standardise
# the rows, and the shapes would not fit.


# %% [markdown]
# ## Exercise 0.2 — count the parameters
#
# Count the numbers in all parameters of a module.

# %%
def count_parameters(model):
    """Number of numbers in all parameters of the module."""
    return sum(array.size for _, array in tree_flatten(model.parameters()))


# %%
check(exercises.count_parameters, count_parameters)

# %% [markdown]
# `parameters()` walks through modules, lists and dictionaries and leaves out names that begin with `_`; `tree_flatten` makes one list of what it found.


# %% [markdown]
# ## Exercise 0.3 — a soft cap
#
# Squeeze `x` smoothly into the range from `-cap` to `cap`.

# %%
def softcap(x, cap=15.0):
    """x, squeezed smoothly into the range from -cap to cap; any shape."""
    return cap * mx.tanh(x / cap)


# %%
check(exercises.softcap, softcap)

# %% [markdown]
# Near 0, $\tanh(u)$ is nearly $u$, so $\text{cap} \cdot \tanh(x / \text{cap})$ is nearly $x$ and the gradient is 1. Far out
# $\tanh$ stays at 1 or -1, so the result stays at the cap and the gradient is 0.


# %% [markdown]
# ## Exercise 0.4 — your own training loop
#
# Train any module with SGD on the mean squared error, and return the losses.

# %%
def loss_fn(model, x, y):
    """Mean of the squared distances between what the model gives for x, and y."""
    return ((model(x) - y) ** 2).mean()


def fit(model, x, y, steps, learning_rate):
    """Train `model` to turn x into y; the loss of each step, before that step's update."""
    optimizer = optim.SGD(learning_rate=learning_rate)
    loss_and_grad = nn.value_and_grad(model, loss_fn)
    losses = []
    for _ in range(steps):
        loss, grads = loss_and_grad(model, x, y)
        optimizer.update(model, grads)
        mx.eval(model.parameters(), optimizer.state)
        losses.append(loss.item())
    return losses


# %%
check(exercises.fit, fit)

# %% [markdown]
# `loss_and_grad` is made once, before the loop. The loss belongs to the parameters as they were before the update, and `.item()` makes
# it a Python float: a list of arrays would keep every graph alive.
