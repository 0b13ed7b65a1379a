# %% [markdown]
# # 16 · Serving: solutions
#
# The exercises of [16 · Serving](../16_serving.ipynb), solved. Here a check that fails stops the notebook.

# %%
from course_lib import backend
from course_lib.classroom import check_solution as check
from course_lib.classroom.exercises import serving as exercises

backend.seed_everything(42)

# %% [markdown]
# ## Exercise 16.1 — who may join?
#
# In the order of the queue, until somebody does not fit.


# %%
def admit(waiting, rows, max_rows, room):
    joined, used = [], sum(need for _, need in rows)
    for name, need in waiting:
        if len(rows) + len(joined) == max_rows or used + need > room:
            break
        used += need
        joined.append(name)
    return joined


check(exercises.admit, admit)

# %% [markdown]
# A job that needs more than `room` would wait for ever, and everybody after it as well. So it must be refused before it gets into the queue, with a sentence that says why.
#
# ## Exercise 16.2 — pages
#
# A list of free pages, and for each row its pages and its length.


# %%
class Pages:
    def __init__(self, count, size):
        self.size, self.free = size, list(range(count))
        self.pages, self.lengths = {}, {}

    def append(self, row):
        n = self.lengths.get(row, 0)
        if n % self.size == 0:
            if not self.free:
                raise MemoryError("no page is free")
            self.pages.setdefault(row, []).append(self.free.pop())
        self.lengths[row] = n + 1
        return self.pages[row][-1], n % self.size

    def leave(self, row):
        self.free += self.pages.pop(row)
        del self.lengths[row]


check(exercises.pages, Pages)

# %% [markdown]
# Nothing has changed when `MemoryError` is raised: the row may ask again after somebody has left. A row wastes at most `size - 1` positions, all in its last page.
#
# ## Exercise 16.3 — how large a chunk?
#
# Between a size that is allowed and one that is too much, until they are neighbours.


# %%
def largest_chunk(read, step, bound, most):
    good, bad = 0, most + 1
    while bad - good > 1:
        middle = (good + bad) // 2
        if read(middle) + step <= bound:
            good = middle
        else:
            bad = middle
    return good


check(exercises.largest_chunk, largest_chunk)

# %% [markdown]
# In a real server a single measurement is noisy. Take the median of a few, and stay below the bound by a margin.
