# %% [markdown]
# # 05 · Tokenizer: solutions
#
# The exercises of [05 · Tokenizer](../05_tokenizer.ipynb), solved. Here a check that fails stops the notebook.

# %%
import time
from collections import Counter, defaultdict
from itertools import pairwise

import regex

from course_lib.classroom import budget
from course_lib.classroom import check_solution as check
from course_lib.classroom.exercises import tokenizer as exercises
from course_lib.data.python_docs import documents
from course_lib.data.tokenizer import PATTERN, Tokenizer

docs = documents()
tokenizer = Tokenizer.train(docs, 4096)


# %% [markdown]
# ## Exercise 5.1 — break a decoder
#
# A text that comes back changed when its ids are decoded one at a time.

# %%
def breaking_text(tokenizer):
    return "안녕 🙂"


check(exercises.breaking_text, breaking_text)
ids = tokenizer.encode(breaking_text(tokenizer))
print("".join(tokenizer.decode([token_id]) for token_id in ids))


# %% [markdown]
# Any text does that has a character whose bytes are spread over several tokens: each part alone is no UTF-8, and becomes one �
# or more.
#
# ## Exercise 5.2 — encode without pairs
#
# The ids of one piece, from the bytes of the tokens and their ids.

# %%
def encode_piece(piece, ranks):
    parts = [bytes([byte]) for byte in piece]
    while len(parts) > 1:
        found = [ranks.get(left + right, len(ranks)) for left, right in pairwise(parts)]
        lowest = min(found)
        if lowest == len(ranks):
            break
        n = found.index(lowest)  # the leftmost of them
        parts[n : n + 2] = [parts[n] + parts[n + 1]]
    return [ranks[part] for part in parts]


check(exercises.encode_piece, encode_piece)


# %% [markdown]
# This is why the rank file needs no pairs. tiktoken does the same, with less searching.
#
# ## Exercise 5.3 — where must a text not be cut?
#
# All positions at which the halves, encoded apart, give other ids than the whole.

# %%
def bad_cuts(tokenizer, text):
    whole, encode = tokenizer.encode(text), tokenizer.encode
    return [n for n in range(1, len(text)) if encode(text[:n]) + encode(text[n:]) != whole]


check(exercises.bad_cuts, bad_cuts)
text = "The answer is 42, not 7."
bad = bad_cuts(tokenizer, text)
print("".join(f"{'' if n in bad or n == 0 else '|'}{letter}" for n, letter in enumerate(text)))


# %% [markdown]
# The `|` are the good cuts. Most stand before a space, or where two tokens of a word meet. After a space is nearly always bad: the
# word is known with its space in front. This is why a prompt should not end with a space.
#
# A cut between two tokens may be bad as well. "x  1" is x|·|·|1, but "x  " alone ends in two spaces that nothing follows: they are
# one piece, and here one token.
#
# ## Exercise 5.4 — do not count again
#
# The merged ids, and by how much the count of each pair changes.

# %%
def merge(ids, pair, new_id):  # as in the chapter
    merged = []
    for token_id in ids:
        if merged and (merged[-1], token_id) == pair:
            merged[-1] = new_id
        else:
            merged.append(token_id)
    return merged


def merge_piece(ids, pair, new_id):
    merged = merge(ids, pair, new_id)
    changes = Counter(pairwise(merged))
    changes.subtract(pairwise(ids))
    return merged, {pair: change for pair, change in changes.items() if change}


check(exercises.merge_piece, merge_piece)


# %% [markdown]
# `learn_from` as it was, and a faster one, which keeps the counts, and for each pair the pieces that hold it. After a merge it
# visits those pieces only.

# %%
def learn_from(texts, num_merges):
    how_often = Counter(piece for text in texts for piece in regex.findall(PATTERN, text))
    pieces = [(list(piece.encode()), count) for piece, count in how_often.items()]
    merges = {}
    for new_id in range(256, 256 + num_merges):
        counts = Counter()
        for ids, count in pieces:
            for pair in pairwise(ids):
                counts[pair] += count
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        merges[best] = new_id
        pieces = [(merge(ids, best, new_id), count) for ids, count in pieces]
    return merges


# %%
def learn_fast(texts, num_merges):
    how_often = Counter(piece for text in texts for piece in regex.findall(PATTERN, text))
    pieces = [list(piece.encode()) for piece in how_often]
    weights, counts, holders, merges = list(how_often.values()), Counter(), defaultdict(set), {}
    for n, ids in enumerate(pieces):
        for pair in pairwise(ids):
            counts[pair] += weights[n]
            holders[pair].add(n)
    for new_id in range(256, 256 + num_merges):
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        merges[best] = new_id
        for n in holders.pop(best):
            pieces[n], changes = merge_piece(pieces[n], best, new_id)
            for pair, change in changes.items():
                counts[pair] += change * weights[n]
                # a piece that lost the pair is visited in vain, which does no harm
                holders[pair].add(n)
    return merges


# %%
few_docs, num_merges = docs[: budget(16, quick=5)], budget(400, quick=100)
for learn in (learn_from, learn_fast):
    started = time.perf_counter()
    merges = learn(few_docs, num_merges)
    print(f"{learn.__name__}: {num_merges} merges in {time.perf_counter() - started:.2f} s")
tokens = [bytes([byte]) for byte in range(256)]
for left, right in merges:
    tokens.append(tokens[left] + tokens[right])
expected = Tokenizer.train(few_docs, 256 + num_merges + 9).mergeable_ranks
assert {token: rank for rank, token in enumerate(tokens)} == expected

# %% [markdown]
# The merges are those of `rustbpe`. It works in the same way, and also keeps the pairs in a heap, so that it does not search
# all of them for the best one.
