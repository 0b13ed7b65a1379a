# %% [markdown]
# # 07 · Attention: solutions
#
# The exercises of [07 · Attention](../07_attention.ipynb), solved. Here a check that fails stops the notebook.

# %%
import math

import mlx.core as mx

from course_lib import backend
from course_lib.classroom import check_solution as check
from course_lib.classroom.exercises import attention as exercises

backend.seed_everything(42)


# %% [markdown]
# ## Exercise 7.1 — share without copies
#
# The chapter's `attend` again, then the same with groups.

# %%
def attend(q, k, v, mask):
    scores = q @ mx.swapaxes(k, -1, -2) / math.sqrt(q.shape[-1])
    return mx.softmax(mx.where(mask, scores, -mx.inf), axis=-1) @ v


def grouped_attend(q, k, v, mask):
    B, n_head, T, D = q.shape
    n_kv_head = k.shape[1]
    groups = q.reshape(B, n_kv_head, n_head // n_kv_head, T, D)
    return attend(groups, k[:, :, None], v[:, :, None], mask).reshape(q.shape)


check(exercises.grouped_attend, grouped_attend)


# %% [markdown]
# Where an axis has length 1, the product uses the same keys for each query head of the group: that is broadcasting, and nothing is
# copied. The new axis stands *after* that of the kv heads, so neighbours share. In front of it, the kv heads would be tiled.
#
# If you do want an array with a head for each query head, stretch that axis and reshape. This makes copies, as `mx.repeat` does:

# %%
def repeat_heads(k, n_head):
    B, n_kv_head, S, D = k.shape
    groups = (B, n_kv_head, n_head // n_kv_head, S, D)
    return mx.broadcast_to(k[:, :, None], groups).reshape(B, n_head, S, D)


k = mx.random.normal((2, 3, 5, 8))
assert mx.array_equal(repeat_heads(k, 6), mx.repeat(k, 2, axis=1))

# %% [markdown]
# ## Exercise 7.2 — a window
#
# True where the query may look: itself and those before it, `window` in all.

# %%
def window_mask(T, S, window):
    query, key = mx.arange(S - T, S)[:, None], mx.arange(S)
    return (key <= query) & (key > query - window)


check(exercises.window_mask, window_mask)


# %% [markdown]
# And the cache can be smaller: no later query looks further back than `window`, so older keys and values may be thrown away. Such
# a cache does not grow with the text. But its `offset` must go on counting them: `TinyCache` takes the number that it keeps
# for the offset, so throwing away would give new tokens the wrong positions.
#
# ## Exercise 7.3 — how wide does a head look?
#
# The entropy of attention weights.

# %%
def entropy(weights):
    return -(weights * mx.log(mx.where(weights > 0, weights, 1))).sum(axis=-1)


check(exercises.entropy, entropy)

# %% [markdown]
# ln 1 is 0, so a weight of 0 adds 0 · 0. In the chapter's notebook, the trained heads answer:
#
# ```python
# for name, weights in looks.items():
#     print(name, [round(number, 2) for number in entropy(weights).tolist()])
# ```
#
# From place 3 to 15 the table's head is sure: its entropy is at most 0.2. At 16, where its training ended, it jumps to 2.6, as if the
# weight lay evenly on some fourteen letters ($e^{2.6} \approx 13.5$). That of the rotations stays below 0.4 at every place. (Place 0 always has 0:
# there is only one letter to look at.)
#
# ## Exercise 7.4 — weights from a model of neighbours
#
# The rotation of neighbours, and an order of rows that makes the rotation of halves do the same.

# %%
def rotate_neighbours(x, w, offset=0):
    theta = mx.arange(offset, offset + x.shape[-2])[:, None] / w  # (T, D/2)
    cos, sin = mx.cos(theta), mx.sin(theta)
    x1, x2 = x[..., 0::2], x[..., 1::2]
    return mx.stack([x1 * cos + x2 * sin, x2 * cos - x1 * sin], axis=-1).reshape(x.shape)


def to_halves(weight, head_dim):
    pairs = weight.reshape(-1, head_dim // 2, 2, weight.shape[-1])  # (H, D/2, 2, C)
    return mx.swapaxes(pairs, 1, 2).reshape(weight.shape)


check(exercises.rotate_neighbours, rotate_neighbours)
check(exercises.to_halves, to_halves)

# %% [markdown]
# A row of `c_q` makes one number of the query. If the rows of a head are put into another order, so are the numbers of its
# queries, and with the same order for the keys every dot product stays as it is. All firsts, then all seconds: that turns
# neighbours into halves. Values are not turned, so `c_v` and `c_proj` stay as they are. Programs that convert
# models from one library to another do just this.
