# %% [markdown]
# # 11 · Evaluation: solutions
#
# The exercises of [11 · Evaluation](../11_evaluation.ipynb), solved. Here a check that fails stops the notebook.

# %%
import math

import numpy as np

from course_lib.classroom import check_solution as check
from course_lib.classroom.exercises import evaluation as exercises
from course_lib.evaluate.core import standard_error

# %% [markdown]
# ## Exercise 11.1 — the unit of an option
#
# The option with the fewest nats per byte.


# %%
def choose(losses, sizes):
    per_byte = [sum(nats) / sum(each) for nats, each in zip(losses, sizes, strict=True)]
    return per_byte.index(min(per_byte))


check(exercises.choose, choose)

# %% [markdown]
# It is section 1 once more: a mean over tokens changes with the tokenizer, a ratio to bytes does not. Many benchmarks report
# both. CORE takes the mean over tokens, and so do we, or the numbers would not compare.
#
# ## Exercise 11.2 — the same items, and twins among them
#
# Pair first, then cluster.


# %%
def difference(first, second, clusters):
    d = [b - a for a, b in zip(first, second, strict=True)]
    mean, sums = sum(d) / len(d), {}
    for label, each in zip(clusters, d, strict=True):
        sums[label] = sums.get(label, 0) + each - mean
    return mean, math.sqrt(sum(total**2 for total in sums.values())) / len(d)


check(exercises.difference, difference)

# %% [markdown]
# What pairing buys: two models that agree on nine of ten items, all of them independent.

# %%
chance = np.random.default_rng(0)
first = chance.integers(0, 2, 500)
second = np.where(chance.random(500) < 0.1, 1 - first, first)
mean, error = difference(first.tolist(), second.tolist(), range(500))
apart = math.hypot(standard_error(first.mean(), 500), standard_error(second.mean(), 500))
print(f"difference {mean:+.3f}, paired ± {error:.3f}, as if the items were others ± {apart:.3f}")
assert error < apart / 2

# %% [markdown]
# The paired error is less than half of the other one. So two checkpoints should be asked the same items, and compared item
# by item.
#
# ## Exercise 11.3 — how sure is a bit?
#
# The standard error of bits per byte, by the bootstrap.


# %%
def bootstrap(nats, sizes, seed):
    nats, sizes = np.array(nats), np.array(sizes)
    drawn = np.random.default_rng(seed).integers(0, len(nats), size=(1000, len(nats)))
    ratios = nats[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)  # (1000,)
    return float(ratios.std() / math.log(2))


check(exercises.bootstrap, bootstrap)

# %% [markdown]
# Whole documents are drawn, not tokens: the tokens of one document are alike in how hard they are, and treating them as
# independent would promise too much. A document is a cluster.
