# %% [markdown]
# # 09 · Muon: solutions
#
# The exercises of [09 · Muon](../09_muon.ipynb), solved. Here a check that fails stops the notebook.

# %%
import math

import mlx.core as mx

from course_lib import backend
from course_lib.classroom import check_solution as check
from course_lib.classroom.exercises import muon as exercises

backend.seed_everything(42)

# %% [markdown]
# ## Exercise 9.1 — until it is exact
#
# The orthogonal matrix nearest to g, by products only.


# %%
def polar(g):
    tall = g.shape[0] > g.shape[1]
    x = g.T if tall else g
    x = x / mx.linalg.norm(x)
    for _ in range(60):
        xx = x @ x.T
        if mx.abs(xx - mx.eye(len(xx))).max() < 1e-4:
            break
        x = 1.5 * x - 0.5 * xx @ x
    return x.T if tall else x


check(exercises.polar, polar)

# %% [markdown]
# While a singular value is small, a step multiplies it by 1.5: a thousandth takes about twenty steps. Near 1 the error is squared each time,
# so the last digits come in two or three.
#
# ## Exercise 9.2 — a test for the scale
#
# How many times too long a step is, measured at the output of the layer.


# %%
def scale_error(step, rows, columns):
    q, _ = mx.linalg.qr(mx.random.normal((max(rows, columns), min(rows, columns))), stream=mx.cpu)
    direction = q if rows >= columns else q.T
    x = mx.random.normal((4000, columns))
    change = x @ step(direction, 1.0).T
    return mx.sqrt(mx.square(change).mean()).item()


check(exercises.scale_error, scale_error)

# %% [markdown]
# The output must change by the rate, here 1, whatever the shape. A test like this finds the mistake in any formula, since it asks for the effect
# and not for the formula.
#
# ## Exercise 9.3 — another warmdown
#
# 1 minus the root of the share of the warmdown that is over.


# %%
def sqrt_warmdown(it, num_iterations, warmdown_ratio=0.2):
    warmdown = round(warmdown_ratio * num_iterations)
    begins = num_iterations - warmdown
    if it <= begins:
        return 1.0
    return 1 - math.sqrt((it - begins) / warmdown)


check(exercises.sqrt_warmdown, sqrt_warmdown)

# %% [markdown]
# When the ratio is 0, every step is at or before the beginning, and the division is never reached.
