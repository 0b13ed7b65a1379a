# %% [markdown]
# # 03 · microGPT: solutions
#
# The exercises of [03 · microGPT](../03_microgpt.ipynb), solved. Here a check that fails stops the notebook.

# %%
import math

import mlx.core as mx

from course_lib import backend
from course_lib.classroom import budget
from course_lib.classroom import check_solution as check
from course_lib.classroom.exercises import microgpt as exercises
from course_lib.names.bigram import CharTokenizer, load_names, split_names
from course_lib.names.microgpt import MLP, MicroGPT, MicroGPTConfig, evaluate, init_weights, train


# %% [markdown]
# ## Exercise 3.1 — count before you build
#
# The number of parameters of `MicroGPT(config)` for any sizes.

# %%
def count_parameters(config):
    C = config.n_embd
    once = (
        config.vocab_size * C + config.block_size * C + C * config.vocab_size
    )  # wte, wpe, lm_head
    each_layer = 4 * C * C + 2 * 4 * C * C  # attention, MLP
    return once + config.n_layer * each_layer


check(exercises.count_parameters, count_parameters)


# %% [markdown]
# A layer costs $12\,C^2$: the same rule holds for the 1.1 billion parameters of a d26. The norms have no weights, and
# `n_head` does not appear, because heads only share out what is there.
#
# ## Exercise 3.2 — attention without matrices
#
# One causal head with plain loops.

# %%
def attend(q, k, v):
    outputs = []
    for t, query in enumerate(q):
        scores = [
            sum(a * b for a, b in zip(query, key, strict=True)) / math.sqrt(len(query))
            for key in k[: t + 1]
        ]
        largest = max(scores)
        weights = [math.exp(score - largest) for score in scores]
        total = sum(weights)
        columns = zip(*v[: t + 1], strict=True)  # the i-th numbers of all the values so far
        outputs.append(
            [sum(w * x for w, x in zip(weights, column, strict=True)) / total for column in columns]
        )
    return outputs


check(exercises.attend, attend)


# %% [markdown]
# Position $t$ loops over the first $t+1$ keys only, which is what the mask does. Taking the largest score away first
# changes nothing in the ratio and keeps `math.exp` from overflowing.
#
# ## Exercise 3.3 — one change at a time
#
# This chapter's model with plain ReLU.

# %%
class PlainMLP(MLP):
    def __call__(self, x):
        return self.fc2(mx.maximum(self.fc1(x), 0))


def plain_relu_model(config):
    model = MicroGPT(config)
    for layer in model.layers:
        layer.mlp = PlainMLP(config)
    init_weights(model)
    return model


check(exercises.plain_relu_model, plain_relu_model)

# %% [markdown]
# Now the comparison: the same names, the same steps, several seeds, because one run of so small a model says little.

# %%
train_names, held_out = split_names(load_names())
tokenizer = CharTokenizer(train_names)
for name, make in (("squared", MicroGPT), ("plain", plain_relu_model)):
    losses = []
    for seed in range(budget(3, quick=1)):
        backend.seed_everything(seed)
        model = make(MicroGPTConfig())
        train(model, train_names, tokenizer, num_steps=budget(500, quick=50))
        losses.append(evaluate(model, held_out[:200], tokenizer))
    print(f"{name:8s}", [round(loss, 3) for loss in losses])

# %% [markdown]
# Look at how far the seeds of one model lie apart before you say that one bend is better than the other. At this size the
# two are close; squared ReLU was chosen for what it does in large models.
