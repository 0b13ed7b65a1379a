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
def parameters_of(config):
    C = config.n_embd
    tables = (config.vocab_size + config.block_size + config.vocab_size) * C  # wte, wpe, lm_head
    each_layer = 4 * C * C + 2 * 4 * C * C  # attention, MLP
    return tables + config.n_layer * each_layer


check(exercises.parameters_of, parameters_of)


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
# Position $t$ loops over the first $t+1$ keys only, which is what the mask does. Subtracting the largest score changes no
# weight, because it divides all of them by the same number, and it keeps `math.exp` from overflowing.
#
# ## Exercise 3.3 — finish my name
#
# The model reads BOS and the letters, and goes on from there.

# %%
def finish(model, tokenizer, start, temperature, key):
    ids = tokenizer.encode(start)[:-1]  # without the BOS at the end
    while len(ids) <= model.config.block_size:
        key, step_key = mx.random.split(key)
        logits = model(mx.array(ids))[-1]
        if temperature == 0:
            next_id = mx.argmax(logits).item()
        else:
            next_id = mx.random.categorical(logits / temperature, key=step_key).item()
        if next_id == tokenizer.bos:
            break
        ids.append(next_id)
    return tokenizer.decode(ids)


check(exercises.finish, finish)

# %%
names = load_names()
train_names, held_out = split_names(names)
tokenizer = CharTokenizer(names)
backend.seed_everything(42)
model = MicroGPT(MicroGPTConfig())
train(model, train_names, tokenizer, num_steps=budget(500, quick=50))
for start in ("an", "jo", "vx"):
    keys = mx.random.split(mx.random.key(5), 8)
    print(*(finish(model, tokenizer, start, 0.5, key) for key in keys))
assert not any(name.startswith("vx") for name in names)


# %% [markdown]
# No name in the list begins with *vx*, and yet the model goes on with something that can nearly be spoken. A table that had never seen
# that beginning would have nothing to say.
#
# ## Exercise 3.4 — one change at a time
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
for name, make in (("squared", MicroGPT), ("plain", plain_relu_model)):
    losses = []
    for seed in range(budget(3, quick=1)):
        backend.seed_everything(seed)
        model = make(MicroGPTConfig())
        train(model, train_names, tokenizer, num_steps=budget(500, quick=50))
        losses.append(evaluate(model, held_out, tokenizer))
    print(f"{name:8s}", [round(loss, 4) for loss in losses])

# %% [markdown]
# Look at how far apart the seeds of one model are before you say that one activation function is better than the other. At this
# size the two are close; squared ReLU was chosen for what it does in large models.
