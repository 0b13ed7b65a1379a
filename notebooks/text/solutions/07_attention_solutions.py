# %% [markdown]
# # 07 · Attention: solutions
#
# The exercises of [07 · Attention](../07_attention.ipynb), solved. Here a check that fails stops the notebook.

# %%
import math

import matplotlib.pyplot as plt
import mlx.core as mx

from course_lib import backend
from course_lib.classroom import check_solution as check
from course_lib.classroom.exercises import attention as exercises
from course_lib.model.attention import rms_norm

backend.seed_everything(42)


# %% [markdown]
# ## Exercise 7.1 — repeat the heads
#
# Keys for every query head, without `mx.repeat`.

# %%
def repeat_heads(k, n_head):
    B, n_kv_head, S, D = k.shape
    groups = (B, n_kv_head, n_head // n_kv_head, S, D)
    return mx.broadcast_to(k[:, :, None], groups).reshape(B, n_head, S, D)


check(exercises.repeat_heads, repeat_heads)


# %% [markdown]
# The new axis stands *after* that of the kv heads, so the copies of one head come out as neighbours. In front of it, the row
# of heads would be tiled.
#
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
# ln 1 is 0, so a weight of 0 adds 0 · 0. Now the picture: 500 queries with 16 keys each, as in section 3.

# %%
one_query, keys = mx.random.normal((500, 1, 32)), mx.random.normal((500, 16, 32))
sizes = [0.5, 1, 2, 4, 8, 16]


def mean_entropy(s, norm):
    scores = norm(s * one_query) @ mx.swapaxes(norm(s * keys), 1, 2) / math.sqrt(32)
    return entropy(mx.softmax(scores, axis=-1)).mean().item()


figure, ax = plt.subplots(figsize=(5, 3))
ax.plot(sizes, [mean_entropy(s, lambda x: x) for s in sizes], "o-", color="#D55E00", label="plain")
ax.plot(sizes, [mean_entropy(s, rms_norm) for s in sizes], "s--", color="#0072B2", label="QK norm")
ax.axhline(math.log(16), color="#999999", linestyle=":", label="even, ln 16")
ax.set_xscale("log", base=2)
ax.set(xlabel="s, the size of queries and keys", ylabel="entropy in nats", ylim=(0, 3))
ax.legend(frameon=False)
plt.show()


# %% [markdown]
# The plain head starts close to even and ends at one key only, with an entropy near 0. With QK norm it stays as wide as it was.
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
