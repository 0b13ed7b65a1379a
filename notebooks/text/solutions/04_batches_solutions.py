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
# ## Exercise 4.3 — the loss of each letter
#
# The mean loss of each id as a target, real predictions only.

# %%
def loss_by_letter(losses, targets, mask, V):
    hits = (targets[..., None] == mx.arange(V)) * mask[..., None]  # (B, T, V)
    return (losses[..., None] * hits).sum((0, 1)) / mx.maximum(hits.sum((0, 1)), 1)


check(exercises.loss_by_letter, loss_by_letter)

# %% [markdown]
# Now the question: which letter is the hardest to guess?

# %%
train_names, held_out = split_names(load_names())
tokenizer = CharTokenizer(train_names)
backend.seed_everything(42)
model = MicroGPT(MicroGPTConfig())
train_batches(model, train_names, tokenizer, num_steps=budget(1500, quick=100))
inputs, targets, mask = make_batch(held_out, tokenizer, 8)
losses = nn.losses.cross_entropy(model(inputs), targets)
means = loss_by_letter(losses, targets, mask, tokenizer.vocab_size).tolist()
share = ((targets[..., None] == mx.arange(27)) * mask[..., None]).sum((0, 1)) / mask.sum()
rows = zip([*tokenizer.chars, "•"], means, share.tolist(), strict=True)
for letter, loss, often in sorted(rows, key=lambda row: row[1]):
    print(f"{letter} {often:4.0%} {loss:.2f} {'▪' * round(10 * loss)}")

# %% [markdown]
# Rare letters are hard: a model that is honest about how rare they are gives them little. The end (•) and *a* are the easiest. *h* is
# easier than letters as frequent as it, because it comes where the letter before announces it, as in *ch* and *sh*.
