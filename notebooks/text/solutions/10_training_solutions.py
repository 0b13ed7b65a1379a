# %% [markdown]
# # 10 · Training: solutions
#
# The exercises of [10 · Training](../10_training.ipynb), solved. Here a check that fails stops the notebook.

# %%
import math
import random
from itertools import islice

import matplotlib.pyplot as plt
from mlx.utils import tree_map

from course_lib import backend
from course_lib.classroom import budget
from course_lib.classroom import check_solution as check
from course_lib.classroom.exercises import training as exercises
from course_lib.data.dataloader import TokenLoader
from course_lib.data.dataset import open_dataset
from course_lib.data.tokenizer import Tokenizer
from course_lib.model.gpt import GPT, GPTConfig
from course_lib.train.trainer import Trainer

backend.seed_everything(42)


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
# ## Exercise 10.2 — the smoothed loss
#
# An exponential moving average, divided by what its weights add up to.

# %%
def smooth(losses, beta=0.9):
    average, smoothed = 0.0, []
    for n, loss in enumerate(losses, start=1):
        average = beta * average + (1 - beta) * loss
        smoothed.append(average / (1 - beta**n))
    return smoothed


check(exercises.smooth, smooth)

# %% [markdown]
# The losses of a short run, smoothed three ways:

# %%
data = open_dataset()
tokenizer = Tokenizer.train(data.documents("train"), 512)
steps = budget(80, quick=3)
trainer = Trainer(GPT(GPTConfig(128, 512, n_layer=2, n_head=2, n_kv_head=2, n_embd=64)), steps)
with TokenLoader(data, tokenizer, "train", 8, 128) as loader:
    losses = [trainer.step([batch]).loss for batch in islice(loader, steps)]
figure, ax = plt.subplots(figsize=(5.5, 3))
for beta, color, line in ((0, "#999999", "-"), (0.9, "#0072B2", "-"), (0.99, "#D55E00", "--")):
    ax.plot(smooth(losses, beta), line, color=color, label=f"beta {beta}")
ax.set(xlabel="step", ylabel="training loss")
ax.legend(frameon=False)
plt.show()


# %% [markdown]
# With 0 every strange text is a spike, and progress is hard to see. With 0.99 the line is calm and tells of a hundred steps ago: it is still high when the loss has
# long been low, and would notice a wreck late.
#
# ## Exercise 10.3 — which tokens count
#
# Bits per byte over the targets that stand for text.

# %%
def bits_per_byte(losses, targets, token_bytes):
    nats = size = 0
    for loss, target in zip(losses, targets, strict=True):
        if target >= 0 and token_bytes[target] > 0:
            nats, size = nats + loss, size + token_bytes[target]
    return nats / (math.log(2) * size) if size else math.nan


check(exercises.bits_per_byte, bits_per_byte)


# %% [markdown]
# Both sums leave out the same targets. If only the bytes did, the loss of every BOS would make the text look dearer than it is.
#
# ## Exercise 10.4 — forget nothing
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
