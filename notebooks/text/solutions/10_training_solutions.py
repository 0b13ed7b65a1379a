# %% [markdown]
# # 10 · Training: solutions
#
# The exercises of [10 · Training](../10_training.ipynb), solved. Here a check that fails stops the notebook.

# %%
import math
import random

from mlx.utils import tree_map

from course_lib.classroom import check_solution as check
from course_lib.classroom.exercises import training as exercises


# %% [markdown]
# ## Exercise 10.1 — unequal micro-batches
#
# Loss and gradients of all targets together.


# %%
def whole_batch(parts):
    targets = max(sum(count for count, _, _ in parts), 1)
    loss, gradients = 0.0, None
    for count, part_loss, part_gradients in parts:
        loss += part_loss * count / targets
        share = tree_map(lambda g, weight=count / targets: g * weight, part_gradients)
        gradients = share if gradients is None else tree_map(lambda a, b: a + b, gradients, share)
    return loss, gradients


check(exercises.whole_batch, whole_batch)


# %% [markdown]
# Each part weighs as much as its share of the targets. The sum of the counts must be known before the first part is added, or the division
# has to wait until the end. With several processes it is a sum over all of them.
#
# ## Exercise 10.2 — what is wrong with this run?
#
# A was trained on few texts, B has rates that are too low, C is sound, D has a leak, in E the rates are too high, and in F nothing
# moves.


# %%
def name_fault(training, unseen, sound_training, sound_unseen):
    if not math.isfinite(sum(training)):
        return "rates too high"
    if max(training) - min(training) < 0.05:
        return "nothing moves"
    if training[-1] > sound_training[-1] + 0.5:
        return "rates too high" if training[0] > sound_training[0] + 1 else "rates too low"
    if training[-1] < sound_training[-1] - 0.5:
        leaked = unseen[-1] < sound_unseen[-1] - 0.5
        return "leak" if leaked else "few texts"
    return "none"


check(exercises.name_fault, name_fault)


# %% [markdown]
# B and E end at the same loss, that of a unigram: one has learned little else yet, the other never will. Their beginnings tell them apart.
# In A and D the training loss looks splendid, since both runs learn a few batches by heart; only the unseen loss tells which. And a leak is
# the one fault that makes *both* curves look better than those of a sound run. That is why nobody looks for it.
#
# ## Exercise 10.3 — forget nothing
#
# Everything that the next step of a ToyRun reads.


# %%
def pack(run):
    names = ("weight", "momentum", "iteration", "place", "lowest")
    return {name: getattr(run, name) for name in names} | {"random": run.random.getstate()}


def unpack(packed):
    run = exercises.ToyRun(seed=0)
    for name, value in packed.items():
        if name != "random":
            setattr(run, name, value)
    version, numbers, gauss = packed["random"]
    run.random = random.Random()
    run.random.setstate((version, tuple(numbers), gauss))
    return run


check(exercises.forget_nothing, pack, unpack)

# %% [markdown]
# Easily forgotten: the lowest loss, which looks like a record of the past and changes the next one; and the random numbers, whose state is not
# their seed. (Their last part, `gauss`, holds a number that was drawn in advance.) Before the first step `lowest` is infinite. Python writes that to JSON as `Infinity`, which other languages may refuse.
