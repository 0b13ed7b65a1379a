# %% [markdown]
# # 21 · nanochat of July 2026: solutions
#
# The exercises of [21 · nanochat of July 2026](../21_nanochat_2026.ipynb), solved. Here a check that fails stops the notebook.

# %%
import mlx.core as mx

from course_lib import backend
from course_lib.classroom import check_solution as check
from course_lib.classroom.exercises import nanochat2026 as exercises

backend.seed_everything(42)

# %% [markdown]
# ## Exercise 21.1 — W and one more
#
# How far back a key lies is the difference of the two positions. Zero is the query's own key, W the farthest that it sees.


# %%
def window(queries, keys, W):
    back = queries[:, None] - keys
    return (back >= 0) & (back <= W)


check(exercises.window, window)

# %% [markdown]
# ## Exercise 21.2 — a smear across chunks
#
# Every row has a neighbour before it: the first one has `last`, or zeros at the beginning of a text. What is handed on is the last row as it came
# in, since the next token takes from the unsmeared one.


# %%
def smear(e, gates, last):
    first = mx.zeros_like(e[:1]) if last is None else last[None]
    return e + gates * mx.concatenate([first, e[:-1]]), e[-1]


check(exercises.smear, smear)

# %% [markdown]
# ## Exercise 21.3 — no jumps
#
# Four lines, of which two rise and two fall; at each step the smaller one counts.


# %%
def schedule(it, num_iterations):
    warmdown = round(0.65 * num_iterations)
    share = max(0, it - (num_iterations - warmdown)) / warmdown
    rate = min((it + 1) / 40, 1, 1 - 0.95 * share)
    momentum = min(0.85 + 0.12 * min(it / 400, 1), 0.97 - 0.07 * share)
    return rate, momentum


check(exercises.schedule, schedule)

# %% [markdown]
# In a run of 50 steps the multiplier gets no higher than 0.70: the two lines cross after step 27. In a run of 2,000 steps no lines
# cross, and this is nanochat's schedule.
