# %% [markdown]
# # 17 · Chat: solutions
#
# The exercises of [17 · Chat](../17_chat.ipynb), solved. Here a check that fails stops the notebook.

# %%
import json
from urllib.parse import urlsplit

from course_lib.classroom import check_solution as check
from course_lib.classroom.exercises import chat as exercises


# %% [markdown]
# ## Exercise 17.1 — read a stream
#
# Bytes are collected until a line is whole; only then are they decoded.

# %%
def parse_events(chunks):
    events, rest = [], b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            line = line.rstrip(b"\r").decode()
            if line == "data: [DONE]":
                return events
            if line.startswith("data: "):
                events.append(json.loads(line.removeprefix("data: ")))
    return events


check(exercises.parse_events, parse_events)


# %% [markdown]
# A line end cannot stand inside an event's JSON, where it is written as `\n`. So a line of data is as good as an event here.
#
# ## Exercise 17.2 — where may it be cut?
#
# Back to the first byte of the last character, and count.

# %%
def showable(data):
    for back in range(1, min(len(data), 4) + 1):
        byte = data[-back]
        if byte < 0x80:
            return len(data)
        if byte >= 0xC0:  # the first byte of the last character
            length = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return len(data) - back if back < length else len(data)
    return len(data)


check(exercises.showable, showable)

# %%
data = "Here you are: 😀".encode()
for end in range(len(data) - 4, len(data) + 1):
    print(f"{end} bytes have come: {data[: showable(data[:end])].decode()}")


# %% [markdown]
# The smile is there with the 18th byte and not before. `StreamDecoder` leaves this to Python's own incremental decoder.
#
# ## Exercise 17.3 — a safe link
#
# What is allowed is listed, and nothing else passes.

# %%
def safe_link(address):
    cleaned = "".join(char for char in address if char.isprintable()).strip()
    return cleaned if urlsplit(cleaned).scheme in ("http", "https", "mailto") else None


check(exercises.safe_link, safe_link)
