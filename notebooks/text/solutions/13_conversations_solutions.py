# %% [markdown]
# # 13 · Conversations: solutions
#
# The exercises of [13 · Conversations](../13_conversations.ipynb), solved. Here a check that fails stops the notebook.

# %%
from itertools import groupby

import numpy as np

from course_lib.classroom import check_solution as check
from course_lib.classroom.exercises import conversations as exercises

# %% [markdown]
# ## Exercise 13.1 — who wrote it?


# %%
def trained_texts(tokenizer, ids, mask):
    runs = groupby(zip(ids, mask, strict=True), key=lambda pair: pair[1])
    return [tokenizer.decode([token for token, _ in run]) for trained, run in runs if trained]


check(exercises.trained_texts, trained_texts)

# %% [markdown]
# ## Exercise 13.2 — the last answer only


# %%
def last_answer_mask(tokenizer, ids, mask):
    start = tokenizer.special("<|assistant_start|>")
    places = [n for n, token in enumerate(ids) if token == start]
    last = places[-1] if places else 0
    return [trained if n > last else 0 for n, trained in enumerate(mask)]


check(exercises.last_answer_mask, last_answer_mask)

# %% [markdown]
# ## Exercise 13.3 — each conversation by itself


# %%
def own_conversation(ids, bos):
    numbers = np.cumsum(np.array(ids) == bos)
    return np.tril(numbers[:, None] == numbers[None, :])


check(exercises.own_conversation, own_conversation)
