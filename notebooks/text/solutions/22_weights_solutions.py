# %% [markdown]
# # 22 · Weights in and out: solutions
#
# The exercises of [22 · Weights in and out](../22_weights.ipynb), solved. Here a check that fails stops the notebook.

# %%
import pickletools

import numpy as np

from course_lib.classroom import check_solution as check
from course_lib.classroom.exercises import weights as exercises

PLAIN = set(
    """PROTO FRAME MARK STOP NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 BINUNICODE
    SHORT_BINUNICODE EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_DICT SETITEM SETITEMS BINPUT
    LONG_BINPUT MEMOIZE
    BINGET LONG_BINGET BINPERSID REDUCE""".split()
)

# %% [markdown]
# ## Exercise 22.1 — which instruction to refuse
#
# A list of what is allowed, and one `return` for the rest.


# %%
def first_refused(content, known):
    for opcode, argument, _ in pickletools.genops(content):
        allowed = opcode.name in PLAIN or (opcode.name == "GLOBAL" and argument in known)
        if not allowed:
            return opcode.name
    return None


check(exercises.first_refused, first_refused)

# %% [markdown]
# `INST`, `OBJ`, `STACK_GLOBAL`, `EXT1` and `BUILD` can all reach a function. None of them had to be known.
#
# ## Exercise 22.2 — four bits, as MLX has them
#
# From the edge inwards, with a whole number of steps between it and 0.


# %%
def four_bits(group):
    low, high = group.min(), group.max()
    scale = (high - low) / np.float32(15)
    if abs(low) > abs(high):
        edge = low
    else:
        edge, scale = high, -scale
    scale = edge / np.rint(edge / scale)
    q = np.clip(np.rint((group - edge) / scale), 0, 15).astype(np.uint32)
    words = (q.reshape(8, 8) << 4 * np.arange(8, dtype=np.uint32)).sum(axis=1, dtype=np.uint32)
    return words, scale, edge


check(exercises.four_bits, four_bits)

# %% [markdown]
# The price of the exact 0 is at the other end: up to a step may be cut off there.
#
# ## Exercise 22.3 — accept or reject
#
# The draft as long as it is right, then the model's own.


# %%
def take(draft, best):
    right = 0
    while right < len(draft) and draft[right] == best[right]:
        right += 1
    return draft[:right] + [best[right]]


check(exercises.take, take)
