# %% [markdown]
# # 06 · Data: solutions
#
# The exercises of [06 · Data](../06_data.ipynb), solved. Here a check that fails stops the notebook.

# %%
import hashlib
from bisect import bisect_right

from course_lib.classroom import check_solution as check
from course_lib.classroom.exercises import data as exercises
from course_lib.data.dataset import open_dataset
from course_lib.data.tokenizer import Tokenizer, fitting_vocab_size

# %% [markdown]
# ## Exercise 6.1 — rows from a stream
#
# BOS before each document, one stream, B rows of T and their targets.


# %%
def rows(documents, bos, B, T):
    stream = [token for document in documents for token in (bos, *document)]
    if len(stream) <= B * T:
        raise ValueError(f"{len(stream)} ids, expected {B * T + 1} or more")

    def cut(start):
        return [stream[start + row * T : start + (row + 1) * T] for row in range(B)]

    return cut(0), cut(1)


check(exercises.rows, rows)

# %% [markdown]
# Inputs and targets are the same cut, begun one token later. So the shift goes across the ends of rows by itself.
#
# ## Exercise 6.2 — your own split
#
# The texts that are held out, by another hash.


# %%
def held_out(texts, one_in):
    def number(text):
        return int.from_bytes(hashlib.sha256(text.encode()).digest())

    return {text for text in texts if number(text) % one_in == 0}


check(exercises.held_out, held_out)

# %% [markdown]
# Any hash will do that is the same in every run and whose numbers are spread evenly. Those of the length are not: texts of one kind
# have about the same length, and all of them would be on one side. The sum of the bytes does not see their order.
#
# ## Exercise 6.3 — where is token n?
#
# Epoch, document and offset of a token of the stream.


# %%
def place(lengths, n):
    epoch, n = divmod(n, sum(lengths))
    for document, length in enumerate(lengths):
        if n < length:
            return epoch, document, n
        n -= length


check(exercises.place, place)

# %% [markdown]
# The loader never has to search like this: its state is an address, and it counts as it goes. It could not search, because it
# knows the length of a document in tokens only once the text is encoded.
#
# ## Exercise 6.4 — pack without cropping
#
# Rows of at most T tokens, each filled with the longest document that still fits, again and again.


# %%
def pack(lengths, T):
    waiting = sorted((length, document) for document, length in enumerate(lengths))
    packed = []
    while waiting:
        row, room = [], T
        while (found := bisect_right(waiting, (room, len(lengths)))) > 0:
            length, document = waiting.pop(found - 1)
            row.append(document)
            room -= length
        packed.append(row)
    return packed


check(exercises.pack, pack)

# %% [markdown]
# How much padding is left on the chapter's corpus? Documents longer than a row are cut to it first.

# %%
documents = list(open_dataset().documents("train"))
tokenizer = Tokenizer.train(documents, fitting_vocab_size(sum(map(len, documents))))
whole = [len(ids) for ids in tokenizer.encode_batch(documents, bos=True)]
for T in (256, 2048):
    lengths = [min(length, T) for length in whole]
    padding = 1 - sum(lengths) / (T * len(pack(lengths, T)))
    cropped = 1 - sum(lengths) / sum(whole)
    print(f"T={T:4d}: {padding:.1%} padding, {cropped:.0%} of the text cropped")

# %% [markdown]
# Hardly any padding, since it chooses among all documents at once, and every row begins with BOS. But as much is cropped as with one
# document a row, because many documents here are longer than a row. So packing pays when documents are short, as conversations are. And
# a loader that packs keeps many documents waiting, so its state is more than three numbers.
