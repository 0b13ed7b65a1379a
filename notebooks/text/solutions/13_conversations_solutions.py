# %% [markdown]
# # 13 · Conversations: solutions
#
# The exercises of [13 · Conversations](../13_conversations.ipynb), solved. Here a check that fails stops the notebook.

# %%
from itertools import groupby

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
# ## Exercise 13.3 — pack better


# %%
def best_fit(lengths, room):
    rows, left = [], []
    for n in sorted(range(len(lengths)), key=lambda n: -lengths[n]):
        fitting = [row for row in range(len(rows)) if left[row] >= lengths[n]]
        if not fitting:
            rows.append([])
            left.append(room)
            fitting = [len(rows) - 1]
        row = min(fitting, key=lambda row: left[row])
        rows[row].append(n)
        left[row] -= lengths[n]
    return rows


check(exercises.best_fit, best_fit)
