# %% [markdown]
# # 12 · Generation: solutions
#
# The exercises of [12 · Generation](../12_engine.ipynb), solved. Here a check that fails stops the notebook.

# %%
import math

import mlx.core as mx

from course_lib.classroom import check_solution as check
from course_lib.classroom.draw_generation import draw_schedules
from course_lib.classroom.exercises import engine as exercises

# %% [markdown]
# ## Exercise 12.1 — a cache with room to spare
#
# Made once, written in place.


# %%
class RoomyLayer:
    """Keys and values of one block, with room for `room` positions."""

    def __init__(self, rows, heads, room, head_dim):
        self.offset = 0
        self.keys, self.values = (mx.zeros((rows, heads, room, head_dim)) for _ in range(2))

    def update_and_fetch(self, k, v):
        start, self.offset = self.offset, self.offset + k.shape[2]
        self.keys[:, :, start : self.offset] = k
        self.values[:, :, start : self.offset] = v
        return self.keys[:, :, : self.offset], self.values[:, :, : self.offset]


check(exercises.roomy_layer, RoomyLayer)

# %% [markdown]
# MLX writes in place as long as nobody else holds the array. If you keep what `update_and_fetch` returned of the last token, it has to copy first, or your array would change under you.
#
# ## Exercise 12.2 — top-k
#
# The smallest that may stay is a limit for its row.


# %%
def top_k(logits, k):
    limit = mx.sort(logits, axis=-1)[:, -k, None]  # (B, 1)
    return mx.where(logits >= limit, logits, -mx.inf)


check(exercises.top_k, top_k)

# %% [markdown]
# If two logits at the edge are equal, both stay. `mx.topk(logits, k, axis=-1).min(axis=-1, keepdims=True)` is a limit as well, and it need not sort everything; its *last* number is not the limit.
#
# ## Exercise 12.3 — top-p
#
# What those before it have decides whether a token stays.


# %%
def top_p(logits, p):
    ordered = -mx.sort(-logits, axis=-1)
    probs = mx.softmax(ordered, axis=-1)
    before = mx.cumsum(probs, axis=-1) - probs
    limit = mx.where(before < p, ordered, mx.inf).min(axis=-1, keepdims=True)
    return mx.where(logits >= limit, logits, -mx.inf)


check(exercises.top_p, top_p)

# %% [markdown]
# Before the first there is nothing, and 0 < p, so the likeliest stays whatever p is. (With p = 1 a sum of rounded numbers may reach 1 before the last token; `sample` leaves the rule out then.)
#
# ## Exercise 12.4 — count the steps
#
# Steps that continuous batching needs for texts of these lengths.


# %%
def steps_needed(lengths, max_rows):
    waiting, rows, steps = list(lengths), [], 0
    while waiting or rows:
        while waiting and len(rows) < max_rows:
            rows.append(waiting.pop(0))
        rows = [left - 1 for left in rows if left > 1]
        steps += 1
    return steps


check(exercises.steps_needed, steps_needed)

# %% tags=["nbval-check-output"]
lengths = [3, 12, 5, 9, 2, 4, 14, 3, 6, 2, 8, 4]
in_groups = sum(max(lengths[n : n + 3]) for n in range(0, 12, 3))
best = math.ceil(sum(lengths) / 3)
print(f"in groups {in_groups}, continuous {steps_needed(lengths, 3)}, at the very best {best}")

# %%
draw_schedules(lengths, 3)

# %% [markdown]
# Each bar is a text, each line a row. In groups, the white gaps are rows that wait for the longest of their group. Continuous batching has gaps only at the end, when the queue is empty. In a server that is always busy the end never
# comes.
