# %% [markdown]
# # 02 · Autograd: solutions
#
# The exercises of [02 · Autograd](../02_autograd.ipynb), solved. Each check here is strict: a wrong answer stops the notebook.

# %%
import math

from course_lib.classroom import check_solution as check
from course_lib.classroom.exercises import autograd as exercises
from course_lib.names.autograd import Value


# %% [markdown]
# ## Exercise 2.1 — a new operation
#
# Write the sigmoid as one node, and keep `exp` away from large positive numbers.

# %%
def sigmoid(a):
    """The sigmoid of a Value, as one new Value."""
    small = math.exp(-abs(a.data))  # between 0 and 1, never too large
    s = (1.0 if a.data >= 0 else small) / (1.0 + small)
    return Value(s, (a,), (s * (1.0 - s),))


# %%
check(exercises.sigmoid, sigmoid, Value)


# %% [markdown]
# For $a \ge 0$ it is $1 / (1 + e^{-a})$, for $a < 0$ the equal $e^{a} / (1 + e^{a})$. Both see only $e^{-|a|}$, which is at most 1.

# %% [markdown]
# ## Exercise 2.2 — catch the quiet bug
#
# Find an expression on which the careless backward pass is wrong for `a` and right for `b`.

# %%
def trap(a, b):
    """An expression of a and b on which careless_backward is wrong for a and right for b."""
    return a * b + a


# %%
check(exercises.trap, trap, Value)


# %% [markdown]
# `flow[parent] = slope * flow[node]` forgets what had arrived before; it must add: `flow.get(parent, 0.0) + slope * flow[node]`.
# The true gradient of `a` is `b + 1`. The careless pass keeps one of the two reports. `b` is used once, and nothing is lost.

# %% [markdown]
# ## Exercise 2.3 — back through a mean
#
# Find `dx` for `y = x - x.mean(axis=1, keepdims=True)`.

# %%
def centre_backward(dy):
    """dx for y = x - x.mean(axis=1, keepdims=True). dy and the result: (N, D)."""
    dmean = -dy.sum(axis=1, keepdims=True)  # (N, 1) the mean was broadcast: sum
    return dy + dmean / dy.shape[1]  # (N, D) both uses of x


# %%
check(exercises.centre_backward, centre_backward)


# %% [markdown]
# That is `dy` minus its own mean: the backward pass of centring is centring. Each row of `dx` sums to 0, because moving all of a
# row by the same amount does not change `y`.

# %% [markdown]
# ## Exercise 2.4 — RMSNorm backwards
#
# Find `dx` for $y = x / \sqrt{\operatorname{mean}(x^2) + \varepsilon}$.

# %%
def rms_norm_backward(x, dy, eps=1e-5):
    """dx for y = x / sqrt(mean(x²) + eps) over the last axis. x, dy and the result: (N, D)."""
    m = (x**2).mean(axis=1, keepdims=True) + eps  # (N, 1)
    s = m**-0.5  # (N, 1)
    ds = (dy * x).sum(axis=1, keepdims=True)  # (N, 1) one s for the row: sum
    dm = ds * (-0.5 * m**-1.5)  # (N, 1) the slope of a power
    return s * dy + 2 * x / x.shape[1] * dm  # (N, D) through y, and through m


# %%
check(exercises.rms_norm_backward, rms_norm_backward)

# %% [markdown]
# The second part takes away from `dy` what points along `x`. If a row only grows, RMSNorm undoes it, so (but for ε) the loss cannot
# change that way.
