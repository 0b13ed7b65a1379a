# %% [markdown]
# # 01 · Names: solutions
#
# The exercises of [01 · Names](../01_names.ipynb), solved. Each check here is strict: a wrong answer stops the
# notebook.

# %%
import math
from itertools import pairwise

import matplotlib.pyplot as plt
import mlx.core as mx
import numpy as np

from course_lib.classroom import check_solution as check
from course_lib.classroom.exercises import names as exercises
from course_lib.names.bigram import (
    CharTokenizer,
    bigram_loss,
    bigram_probs,
    load_names,
    split_names,
)

names = load_names()
train_names, held_out = split_names(names)
tokenizer = CharTokenizer(names)


# %% [markdown]
# ## Exercise 1.1 — how surprising is a name?
#
# Write the mean negative log-likelihood of one name.

# %%
def name_loss(name, probs, tokenizer):
    """Mean negative log-likelihood of one name, in nats per guess."""
    losses = [
        -math.log(probs[first, second].item()) for first, second in pairwise(tokenizer.encode(name))
    ]
    return sum(losses) / len(losses)


# %%
check(exercises.name_loss, name_loss)

# %% [markdown]
# The list has one entry for each guess, so its length is the right divisor: the letters of the name and its end. The
# names that surprise the model least and most, among the first 500 held-out ones:

# %%
probs = bigram_probs(train_names, tokenizer)
ranked = sorted(held_out[:500], key=lambda name: name_loss(name, probs, tokenizer))
print("least:", *(f"{name} {name_loss(name, probs, tokenizer):.2f}" for name in ranked[:5]))
print("most: ", *(f"{name} {name_loss(name, probs, tokenizer):.2f}" for name in ranked[-5:]))


# %% [markdown]
# ## Exercise 1.2 — how much smoothing?
#
# Find the entry of `choices` that makes the best model of the training names.

# %%
def best_smoothing(train_names, held_out, tokenizer, choices):
    """The entry of `choices` that makes the best model of `train_names`."""

    def loss(smoothing):
        return bigram_loss(bigram_probs(train_names, tokenizer, smoothing), held_out, tokenizer)

    return min(choices, key=loss)


# %%
check(exercises.best_smoothing, best_smoothing)

# %% [markdown]
# On the training names the least smoothing always wins, so they cannot choose. On held-out names there is a best
# amount, neither none nor much:

# %%
few = train_names[:300]
amounts = np.geomspace(0.01, 100, 17).tolist()
tables = [bigram_probs(few, tokenizer, amount) for amount in amounts]
figure, axes = plt.subplots(figsize=(5.5, 3.2))
for docs, style, color, label in (
    (held_out, "o-", "#D55E00", "not seen"),
    (few, "s--", "#0072B2", "counted"),
):
    axes.semilogx(
        amounts,
        [bigram_loss(table, docs, tokenizer) for table in tables],
        style,
        color=color,
        label=label,
    )
axes.set_xlabel("smoothing")
axes.set_ylabel("loss, nats per guess")
axes.legend(frameon=False)
plt.show()

# %% [markdown]
# The dashed line only rises; the solid one falls first and then rises. But now the held-out names have taken part in a
# choice. For an honest final number you would need a third part of the names that took part in nothing.
#
# The more names, the less the smoothing matters:

# %%
choices = [0.01, 0.1, 0.3, 1, 3, 10]
for docs in (train_names[:300], train_names):
    best = best_smoothing(docs, held_out, tokenizer, choices)
    losses = [bigram_loss(bigram_probs(docs, tokenizer, s), held_out, tokenizer) for s in choices]
    print(f"{len(docs):6d} names: {best} is best; it gains {max(losses) - min(losses):.2f} nats")


# %% [markdown]
# ## Exercise 1.3 — two letters back
#
# Write the table of a trigram model.

# %%
def trigram_probs(docs, tokenizer, smoothing=1.0):
    """P(z | x, y) from counts of triples: (V, V, V)."""
    counts = np.full((tokenizer.vocab_size,) * 3, smoothing)
    for doc in docs:
        ids = [tokenizer.bos, *tokenizer.encode(doc)]
        for x, y, z in zip(ids, ids[1:], ids[2:], strict=False):
            counts[x, y, z] += 1
    return mx.array(counts / counts.sum(axis=-1, keepdims=True))


# %%
check(exercises.trigram_probs, trigram_probs)

# %% [markdown]
# Does the second letter help? We measure on names that neither model has seen, with few and with all training names.

# %%
for docs in (train_names[:300], train_names):
    bigram = bigram_loss(bigram_probs(docs, tokenizer), held_out, tokenizer)
    trigram = exercises.trigram_loss(trigram_probs(docs, tokenizer), held_out, tokenizer)
    print(f"{len(docs):6d} training names: bigram {bigram:.4f}, trigram {trigram:.4f}")
assert trigram < bigram, "with all names the trigram must be better"

# %% [markdown]
# With 300 names the trigram is worse: most of its cells were never filled. With all of them it is better, since it
# knows more of what came before. Back-off would take the best of both.
