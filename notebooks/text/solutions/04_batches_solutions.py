# %% [markdown]
# # 04 · Batches: solutions
#
# The exercises of [04 · Batches](../04_batches.ipynb), solved. Here a check that fails stops the notebook.

# %%
import mlx.core as mx
import mlx.nn as nn

from course_lib import backend
from course_lib.classroom import budget
from course_lib.classroom import check_solution as check
from course_lib.classroom.exercises import batches as exercises
from course_lib.names.batching import make_batch, train_batches
from course_lib.names.bigram import CharTokenizer, load_names, split_names
from course_lib.names.microgpt import MicroGPT, MicroGPTConfig


# %% [markdown]
# ## Exercise 4.1 — masks from lengths
#
# The mask (B, T) for names with these numbers of predictions.

# %%
def mask_of(lengths, T):
    return (mx.arange(T) < mx.array(lengths)[:, None]).astype(mx.float32)  # (T,) < (B, 1) -> (B, T)


check(exercises.mask_of, mask_of)


# %% [markdown]
# The row of positions and the column of lengths are stretched to a rectangle (broadcasting), and each place is compared.
#
# ## Exercise 4.2 — less padding
#
# Batches of names of similar length.

# %%
def buckets(names, batch_size):
    by_length = sorted(names, key=len)
    return [by_length[start : start + batch_size] for start in range(0, len(by_length), batch_size)]


check(exercises.buckets, buckets)


# %% [markdown]
# Trained in this order, the model would see all short names first and all long ones last, and each step would pull
# towards one length. So real training shuffles the batches, and often sorts only within a large random group.
#
# ## Exercise 4.3 — the loss of each position
#
# The mean loss at each position, real predictions only.

# %%
def loss_by_position(losses, mask):
    return (losses * mask).sum(axis=0) / mx.maximum(mask.sum(axis=0), 1)


check(exercises.loss_by_position, loss_by_position)

# %% [markdown]
# Now the question: where is the next letter hardest to guess?

# %%
train_names, held_out = split_names(load_names())
tokenizer = CharTokenizer(train_names)
backend.seed_everything(42)
model = MicroGPT(MicroGPTConfig())
train_batches(model, train_names, tokenizer, num_steps=budget(1500, quick=100))
inputs, targets, mask = make_batch(held_out, tokenizer, 8)
losses = nn.losses.cross_entropy(model(inputs), targets)
for position, loss in enumerate(loss_by_position(losses, mask).tolist()):
    print(f"position {position}: {loss:.2f} {'▪' * round(20 * loss)}")

# %% [markdown]
# At position 0 the model sees BOS alone and has to guess a first letter, which could be almost any. After the first letter
# a vowel often follows, which narrows the choice. Towards the end of a name the familiar endings come, and the guess gets
# easier again.
