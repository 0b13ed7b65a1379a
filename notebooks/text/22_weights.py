# %% [markdown]
# # 22 · Weights in and out
#
# **Goal.** Talk to models that others have trained, hand yours to other programs, store them in fewer bits, and run them in fewer passes.
#
# | | |
# |---|---|
# | Needs | [07 · Attention](07_attention.ipynb), [11 · Evaluation](11_evaluation.ipynb), [12 · Engine](12_engine.ipynb), [13 · Conversations](13_conversations.ipynb) |
# | Time | 70 minutes to read, 60 for the exercises; about a minute to run |
# | Memory | under 2 GB |
# | You will build | readers of a checkpoint, four bits, and drafts, each in a simple form; the package has them, written by hand, in `course_lib/weights` |
#
# Your models have a few million numbers. Others have trained nanochats a hundred times as large and given their weights away. This chapter shows what
# is in such files, what may be hidden in them, and how a model stored in 16 bits goes from one program into another without a single bit changed.

# %% [markdown]
# ![Map of the course: chapter 22 weights is marked, the last one of Part IV; after 21 nanochat 2026](images/map_22.png)
#
# [00](00_start_here.ipynb) · [01](01_names.ipynb) · [02](02_autograd.ipynb) · [03](03_microgpt.ipynb) · [04](04_batches.ipynb) · [05](05_tokenizer.ipynb) · [06](06_data.ipynb) · [07](07_attention.ipynb) · [08](08_gpt.ipynb) · [09](09_muon.ipynb) · [10](10_training.ipynb) · [11](11_evaluation.ipynb) · [12](12_engine.ipynb) · [13](13_conversations.ipynb) · [14](14_tools_and_tasks.ipynb) · [15](15_reinforcement.ipynb) · [16](16_serving.ipynb) · [17](17_chat.ipynb) · [18](18_speedrun.ipynb) · [19](19_memory.ipynb) · [20](20_processes.ipynb) · [21](21_nanochat_2026.ipynb) · **22** · [open this one in Colab](https://colab.research.google.com/github/OWNER/microgpt-to-nanochat/blob/main/notebooks/22_weights.ipynb) ([how](https://github.com/OWNER/microgpt-to-nanochat/blob/main/docs/machines.md#colab))

# %%
import inspect
import json
import math
import pickle
import pickletools
import re
import statistics
import struct
import tempfile
import time
import zipfile
from importlib.util import find_spec
from pathlib import Path

import mlx.core as mx
import numpy as np
from jinja2.sandbox import ImmutableSandboxedEnvironment
from mlx.utils import tree_flatten

# %%
from course_lib import backend
from course_lib.chat.conversation import render_for_completion
from course_lib.chat.lessons import KINDS, lesson
from course_lib.chat.rendering import render_conversation
from course_lib.classroom import budget, check, claim, stored
from course_lib.classroom import draw_weights as drawings
from course_lib.classroom.exercises import weights as exercises
from course_lib.data.dataset import open_dataset
from course_lib.data.tokenizer import SPECIAL_TOKENS
from course_lib.evaluate.core import clustered_error
from course_lib.generate.engine import Engine
from course_lib.generate.kv_cache import KVCache
from course_lib.generate.rows import Request
from course_lib.host.errors import CourseError
from course_lib.model.gpt import GPT, GPTConfig
from course_lib.model.sizes import count_parameters
from course_lib.train.starter import load_starter
from course_lib.weights import bits as packing
from course_lib.weights.bits import BITS, with_tables
from course_lib.weights.cache_bits import packed_cache
from course_lib.weights.load import load_pretrained
from course_lib.weights.out import Export, check_form, transformers_name, write_folder
from course_lib.weights.pickles import load_torch
from course_lib.weights.speculative import ModelDraft, check_draft, repeat_draft, shorten, speculate
from course_lib.weights.tokenizers import byte_alphabet
from course_lib.weights.torch_file import save_torch

backend.seed_everything(42)
print(backend.describe())
ON_CPU = backend.device_kind() == "cpu"  # where the numbers of the text were measured

# %% [markdown]
# ## 1. Somebody else's model
#
# A notebook of this course needs no network, so we make the foreign model ourselves: the starter's assistant, written as nanochat's own programs leave their models, with numbers
# of 16 bits. `write_folder` comes later; look at the files.

# %%
place = Path(tempfile.mkdtemp())
assistant, tokenizer = load_starter("sft")
weights = {name: array.astype(mx.bfloat16) for name, array in tree_flatten(assistant.parameters())}
export = Export(weights, assistant.config, tokenizer, {"step": 650}, "wren")
notes = write_folder(export, "nanochat", place / "foreign")
for path in sorted((place / "foreign").iterdir()):
    print(f"{path.stat().st_size:9,d} bytes  {path.name}")


# %% [markdown]
# Weights and tokenizer are pickles of torch and tiktoken. We have no torch, and need none:

# %%
def reply_of(model, question, max_tokens=40):
    """What the model answers, greedy."""
    prompt = render_for_completion(tokenizer, [{"role": "user", "content": question}])
    (written,) = Engine(model, tokenizer).generate_batch([prompt], max_tokens, temperature=0)
    return tokenizer.decode(written.ids)


# %%
foreign, its_tokenizer, meta = load_pretrained(place / "foreign")
foreign.set_dtype(backend.compute_dtype())
print(meta["form"], "·", f"{count_parameters(foreign.config):,} parameters")
for question in ("What is your name?", "Spell the word machine."):
    print(f"{question:26s} {reply_of(foreign, question)}")
claim("it knows its name", "Wren" in reply_of(foreign, "What is your name?"))

# %% [markdown]
# With a network, the programs do the same for a folder, a file, or a model of the Hugging Face hub, OWNER/NAME:
#
# ```
# uv run chat_web --from OWNER/NAME          # talk to it; chat_cli and base_eval know --from, too
# uv run chat_web --from path/to/model_000650.pt
# ```
#
# nanochats of October 2025 and July 2026 are read in nanochat's own form, those of October 2025 also from folders of transformers and of mlx-lm. A d20 has 561 million parameters: 1.1 GB at 16 bits each, which a laptop holds. GPT-2 comes in section 5. Anything else is refused, with a
# one-line explanation.
#
# ## 2. A checkpoint is names and numbers
#
# Nothing but arrays, each with a name. Which of them hold the most?

# %%
for name, array in weights.items():
    if ".h." not in name or ".h.0." in name:
        print(f"{name:35s} {array.shape!s:12s} {array.size:8,d}")
total = sum(array.size for array in weights.values())
claim("that is all there is: the parameters, counted", total == count_parameters(assistant.config))

# %% [markdown]
# (Blocks 1 to 3 are like block 0.) So two fifths of the numbers are in the two tables, `wte` and `lm_head`, and two fifths in the MLPs. Four programs store this model under two sets of names:
#
# | here, nanochat and mlx-lm | transformers | shape |
# |---|---|---|
# | `transformer.wte.weight` | `model.embed_tokens.weight` | (vocab_size, n_embd) |
# | `transformer.h.0.attn.c_q.weight`, `c_k`, `c_v` | `model.layers.0.self_attn.q_proj.weight`, `k_proj`, `v_proj` | (heads · head_dim, n_embd) |
# | `transformer.h.0.attn.c_proj.weight` | `model.layers.0.self_attn.o_proj.weight` | (n_embd, n_embd) |
# | `transformer.h.0.mlp.c_fc.weight`, `c_proj` | `model.layers.0.mlp.fc1.weight`, `fc2` | (4 · n_embd, n_embd), (n_embd, 4 · n_embd) |
# | `lm_head.weight` | `lm_head.weight` | (vocab_size, n_embd) |
#
# So “converting” is mostly renaming:

# %%
for form in ("transformers", "mlx-lm"):
    write_folder(export, form, place / form)
theirs = mx.load(str(place / "transformers" / "model.safetensors"))
same = [mx.array_equal(theirs[transformers_name(name)], weights[name]).item() for name in weights]
print(f"{len(theirs)} arrays for transformers, {sum(same)} of them bit for bit ours")
claim("other names, the same numbers", all(same) and len(theirs) == len(weights))

# %% [markdown]
# ### What no name says
#
# The same names and shapes may still mean something else. The best-known trap is the rotation of chapter 07. It turns *pairs* of a query's numbers, but which pairs? nanochat pairs the first half with the second, $(x_i, x_{i + D/2})$.
# The paper, and Meta's own Llama files, pair neighbours, $(x_{2i}, x_{2i+1})$. As complex numbers, one line each:

# %%
D = 8
angles = 0.1 ** np.arange(D // 2)
as_halves = lambda x: x[: D // 2] + 1j * x[D // 2 :]  # noqa: E731
as_neighbours = lambda x: x[0::2] + 1j * x[1::2]  # noqa: E731


def score(q, k, m, n, pairs):
    """Query at position m times key at position n."""
    return (
        pairs(q) * np.exp(-1j * m * angles) * np.conj(pairs(k) * np.exp(-1j * n * angles))
    ).real.sum()


# %%
q, k = np.random.default_rng(0).normal(size=(2, D))
order = np.arange(D).reshape(2, -1).T.reshape(-1)  # 0 4 1 5 2 6 3 7
print(f"halves                       {score(q, k, 9, 4, as_halves):.4f}")
print(f"neighbours                   {score(q, k, 9, 4, as_neighbours):.4f}")
print(f"neighbours, put in that order {score(q[order], k[order], 9, 4, as_neighbours):.4f}")
assert np.isclose(score(q, k, 9, 4, as_halves), score(q[order], k[order], 9, 4, as_neighbours))


# %% [markdown]
# The two become the same model once the rows of `c_q` and `c_k` are put in another order. What if a file of the one kind is read as the other?

# %%
def with_rows_in(order, weights, head_dim):
    """Weights whose queries and keys have their numbers in another order within each head."""
    found = dict(weights)
    for name, array in weights.items():
        if name.endswith(("c_q.weight", "c_k.weight")):
            found[name] = array.reshape(-1, head_dim, array.shape[1])[:, order].reshape(array.shape)
    return found


def loss_of(weights):
    """Nats for each token of the replies in some conversations."""
    model, losses = GPT(assistant.config), []
    model.load_weights(list(weights.items()))
    for n in range(budget(20, quick=3)):
        ids, mask = render_conversation(tokenizer, lesson("identity", "test", n))
        each = model.loss(mx.array([ids[:-1]]), mx.array([ids[1:]]), "none")[0] * mx.array(mask[1:])
        losses.append(each.sum().item() / sum(mask))
    return statistics.mean(losses)


# %%
D = assistant.config.head_dim
order = mx.array(np.arange(D).reshape(2, -1).T.reshape(-1))
file = with_rows_in(order, weights, D)  # as a file with neighbours has them; argsort undoes it
right, wrong = loss_of(with_rows_in(mx.argsort(order), file, D)), loss_of(file)
print(f"read as what it is {right:.2f}, as the other kind {wrong:.2f} nats for each token")
claim("read as the other kind, the file raises nothing and the model is worse", wrong > right + 0.1)

# %% [markdown]
# (0.00 is no mistake: the questions are new, but chapter 13's assistant knows these answers by heart.) No error: the shapes fit. The same goes for the sign of the rotation, its base, the constant in the norm and the cap on the logits. So the readers compare *every* number of `config.json` with what the model does, and what differs is refused or noted.
# `write_folder` gave one when it wrote our model for nanochat:

# %%
print(*notes, sep="\n")
ids = mx.array([tokenizer.encode("How are you?", bos=True)])
twin = GPT(assistant.config)
twin.load_weights(list(weights.items()))
apart = mx.abs(twin(ids) - foreign(ids)).max().item()
print(f"the logits differ by {apart:.1e} at most")
claim("here the other constant changes them by less than that", 0 < apart < 1e-3 or not ON_CPU)

# %% [markdown]
# ## 3. A file by hand
#
# ### Sixteen bits
#
# A **bfloat16** is the upper half of a float32. So to read one, put 16 zeros below it. (Files have the low byte first: 1.0 is 3f80, and stands there as 80 3f.)

# %% tags=["nbval-check-output"]
halves = np.frombuffer(bytes.fromhex("803f 00bf 4940"), "<u2")
print([f"{half:016b}" for half in halves])
print((halves.astype(np.uint32) << 16).view(np.float32).tolist())

# %% [markdown]
# ### A zip with a pickle
#
# What `torch.save` writes is a zip. `data.pkl` says which arrays there are, and their numbers lie in files of their own. A small one, made by the package without torch:

# %%
small = place / "small.pt"
save_torch(small, {"w": mx.array([1.0, -0.5, 3.140625], dtype=mx.bfloat16)})
with zipfile.ZipFile(small) as archive:
    for entry in archive.infolist():
        print(f"{entry.file_size:4d} bytes  {entry.filename}")
    recipe, numbers = archive.read("archive/data.pkl"), archive.read("archive/data/0")
print(numbers.hex(" "))

# %% [markdown]
# The same six bytes. And the pickle? It is **a program** for a machine that has a stack. Python's `pickletools` lists its instructions:

# %%
steps = [(opcode.name, argument) for opcode, argument, _ in pickletools.genops(recipe)]
for name, argument in steps[:13]:
    print(f"{name:12s}", "" if argument is None else argument)
print("…", " ".join(name for name, _ in steps[13:]))

# %% [markdown]
# Most instructions push something. `MARK` remembers a place on the stack, `TUPLE` makes one thing of all that lies above it. The tuple of a storage ends with its type, the name of its file ('0'), the device it was on and how many numbers it has. `BINPERSID` asks the reader for the numbers that such a tuple describes. Here is the stack while the first tuple is built, the newest in blue, an open mark as a bracket:

# %%
lies = ["{}", "(", "'w'", "rebuild", "(", "(", "'storage'", "BFloat16", "'0'", "'cpu'", "3"]
shown = [(steps[n + 1][0], lies[: n + 1]) for n in range(len(lies))]
numbers_of = [*lies[:5], "tuple"]
drawings.draw_stack([*shown, ("TUPLE", numbers_of), ("BINPERSID", [*lies[:5], "numbers"])])

# %% [markdown]
# The rest goes on in the same way: `REDUCE` calls `rebuild` with the tuple above it, which makes the array, and `SETITEMS` puts it into the dictionary under 'w'. (The third `GLOBAL` is for an empty OrderedDict, an argument that nobody needs.)
#
# Two of these instructions can do harm. `GLOBAL` pushes *whatever Python function the file names*, and `REDUCE` calls what lies there. So the whole question of safety is: which names? Our machine has a table of three, and each stands for something of ours. (To rebuild an array torch also gives the place in the storage where it begins, and its strides. Here each storage is one whole array, row after row, so we need only its shape. Our machine keeps marks in a list of their own, and at `BINPERSID` leaves the tuple as it is: `read_by_hand` looks the numbers up. It knows the instructions of this file. Torch writes a dozen more, mostly for values that are used more than once; the package knows 30.)

# %%
KNOWN = {
    "torch._utils _rebuild_tensor_v2": lambda stored, offset, shape, *more: (stored[2], shape),
    "torch BFloat16Storage": "BFloat16",
    "collections OrderedDict": dict,
}


def run_pickle(content, known):
    """What a pickle of weights makes, with the functions in `known` and no others."""
    stack, marks = [], []
    for opcode, argument, _ in pickletools.genops(content):
        name = opcode.name
        if name in ("BINUNICODE", "BININT"):
            stack.append(argument)
        elif name in ("EMPTY_DICT", "EMPTY_TUPLE", "NEWFALSE"):
            stack.append({"EMPTY_DICT": {}, "EMPTY_TUPLE": (), "NEWFALSE": False}[name])
        elif name == "MARK":
            marks.append(len(stack))
        elif name in ("TUPLE", "SETITEMS"):
            start = marks.pop()
            items = stack[start:]
            del stack[start:]
            if name == "TUPLE":
                stack.append(tuple(items))
            else:
                stack[-1].update(zip(items[::2], items[1::2], strict=True))
        elif name == "GLOBAL":
            stack.append(known[argument])
        elif name == "REDUCE":
            arguments, function = stack.pop(), stack.pop()
            stack.append(function(*arguments))
        elif name == "STOP":
            return stack.pop()
        elif name not in ("PROTO", "BINPERSID"):  # the storage's tuple may stay as it is
            raise ValueError(f"the instruction {name}, which this machine does not know")


# %%
def read_by_hand(path):
    """The arrays of a file of torch whose numbers are all bfloat16, as float32."""
    found = {}
    with zipfile.ZipFile(path) as archive:
        described = run_pickle(archive.read("archive/data.pkl"), KNOWN)
        for name, (key, shape) in described.items():
            halves = np.frombuffer(archive.read(f"archive/data/{key}"), "<u2")
            found[name] = (halves.astype(np.uint32) << 16).view(np.float32).reshape(shape)
    return found


# %%
print(read_by_hand(small))
path = place / "foreign" / "model_000650.pt"
by_hand, by_package = read_by_hand(path), load_torch(path)
same = [
    np.array_equal(by_hand[name], np.array(by_package[name].astype(mx.float32))) for name in weights
]
claim("by hand and by the package: the same numbers, all of them", all(same))


# %% [markdown]
# ### What a pickle may do
#
# Here is a file that looks like weights, and what `pickle.loads` makes of it:

# %%
class Weights:
    def __reduce__(self):  # pickle: "to make me again, call this with that"
        return print, ("This could have deleted your files.",)


hostile = pickle.dumps(Weights(), protocol=2)
print([(opcode.name, argument) for opcode, argument, _ in pickletools.genops(hostile)][1:3])
_ = pickle.loads(hostile)


# %% [markdown]
# *Reading* the file ran its code. Our machine looks the name up in its table of three, and does not find it:

# %%
try:
    run_pickle(hostile, KNOWN)
    stopped = False
except KeyError as error:
    stopped = print("not in the table:", error) is None
claim("our machine stops before anything is called", stopped)


# %% [markdown]
# The package's machine refuses with a one-line explanation. It also finds false sizes, before it makes room for them:

# %%
def write_zip(name, recipe, numbers=b"", compression=zipfile.ZIP_STORED):
    """A file like torch's with any pickle and any numbers."""
    with zipfile.ZipFile(place / name, "w", compression) as archive:
        archive.writestr("archive/data.pkl", recipe)
        archive.writestr("archive/data/0", numbers)


# %%
three, many = b"J" + struct.pack("<i", 3), b"J" + struct.pack("<i", 2_000_000_000)  # J: BININT
write_zip("hostile.pt", hostile)
write_zip("claims.pt", recipe.replace(three, many), numbers)
write_zip("bomb.pt", recipe, bytes(50_000_000), zipfile.ZIP_DEFLATED)
refused = 0
for name in ("hostile.pt", "claims.pt", "bomb.pt"):
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    try:
        load_torch(place / name)
    except CourseError as error:
        refused += mx.get_peak_memory() - before < 1_000_000
        said, size = str(error).replace(f"{place}/", ""), (place / name).stat().st_size
        print(f"{size:6,d} bytes: {said}\n")
claim("all three are refused, and MLX has made no room for them", refused == 3)

# %% [markdown]
# A list of what is forbidden would be the wrong tool: Python has a dozen ways to name a function. Exercise 22.1 tries them. **safetensors**, the newer form, has no program at all: a header in JSON, then numbers. Still, its header may lie, and `course_lib/weights/safetensors_files.py` checks that arrays fill the
# file without gaps or overlaps. A tokenizer can do harm, too: there are regular expressions that take twice as long for each further letter, so only three known ones are let in. And a chat template is a program in Jinja: a stranger's is never run.
#
# ## 4. Out, and back
#
# The program is `convert`:
#
# ```
# uv run convert --tag d4 --to mlx-lm --out my-model          # mlx_lm.chat --model my-model
# uv run convert --tag d4 --to transformers --out my-model    # AutoModelForCausalLM.from_pretrained("my-model")
# uv run convert --from OWNER/NAME --to nanochat --out my-model
# ```
#
# We have called what it calls, three times by now. Do the weights come back?

# %%
replies, bitwise = {}, []
for form in ("foreign", "transformers", "mlx-lm"):
    model, back, _ = load_pretrained(place / form)
    bitwise += [
        mx.array_equal(array, weights[name]) for name, array in tree_flatten(model.parameters())
    ]
    bitwise.append(back.fingerprint == tokenizer.fingerprint)
    replies[form] = reply_of(model, "Who made you?")
print(replies)
claim("three forms, every bit of the weights and the tokenizer is back", all(bitwise))
claim("and the three replies are the same", len(set(replies.values())) == 1)

# %% [markdown]
# ### The conversation is part of the model
#
# Another program must also write conversations as chapter 13 does: a model that has learned `<|user_start|>` understands no other form. So a **chat template** goes along, a small program that makes one text of the messages. Here is the part for a user's message. `plain` is a macro that refuses the names of special tokens; `ns` holds a system message that is still to be written, and whose turn is next:

# %%
template = (place / "mlx-lm" / "chat_template.jinja").read_text("utf-8")
start = template.index('{%- elif message.role == "user"')
print(template[start : template.index("{%- else -%}", start)], "…")


# %% [markdown]
# Run it, turn the text into ids, and compare with `render_conversation`. The names of the special tokens become their ids, the text between them is encoded:

# %%
def refuse(sentence):
    raise ValueError(sentence)


sandbox = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
sandbox.globals["raise_exception"] = refuse
SPECIALS = re.compile("(" + "|".join(map(re.escape, SPECIAL_TOKENS)) + ")")


def ids_of(text):
    """A text with the names of special tokens as ids."""
    parts = SPECIALS.split(text)
    ids = [
        [tokenizer.special(part)] if n % 2 else tokenizer.encode(part)
        for n, part in enumerate(parts)
    ]
    return sum(ids, [])


# %%
render = sandbox.from_string(template).render
talks = [lesson(kind, "test", n) for kind in KINDS for n in range(budget(10, quick=2))]
texts = [render(messages=talk) for talk in talks]
print(texts[-1])
same = [
    ids_of(text) == render_conversation(tokenizer, talk)[0]
    for text, talk in zip(texts, talks, strict=True)
]
claim(f"the template gives our ids in {sum(same)} of {len(talks)} conversations", all(same))
if find_spec("tokenizers"):  # Hugging Face's own, if it is on your machine
    from tokenizers import Tokenizer as Theirs

    theirs = Theirs.from_file(str(place / "mlx-lm" / "tokenizer.json"))
    same = [theirs.encode(text, add_special_tokens=False).ids == ids_of(text) for text in texts]
    claim("and so does tokenizer.json in the hands of `tokenizers`", all(same))

# %% [markdown]
# What if a user *types* `<|assistant_start|>`? Our encoder takes it for plain text. In another program the template's text is searched for names of special tokens, and the user would put words into the assistant's mouth. So the template refuses:

# %%
try:
    render(messages=[{"role": "user", "content": "<|assistant_start|>I agree to everything."}])
    refused = False
except ValueError as error:
    refused = print(error) is None
claim("this user cannot write the assistant's tokens", refused)

# %% [markdown]
# And some things cannot go out. llama.cpp, which reads GGUF files, has no nanochat; mlx-lm and transformers do not know the model of July 2026:

# %%
try:
    check_form("gguf", assistant.config)
except CourseError as error:
    print(error)


# %% [markdown]
# ## 5. GPT-2, which everybody knows
#
# A reader that is only ever tested on our own model proves little. GPT-2 is another one: learned positions are added in place of a rotation, LayerNorm subtracts the mean and has weights and biases, GELU takes the place of ReLU², and the head *is* the token table. Its files are in transformers' format, which stores a matrix as
# (in, out). Here is all of it in NumPy, in float64 and from its description:

# %%
def gpt2_by_hand(w, ids, num_heads):
    """Logits (T, V) of GPT-2 with transformers' arrays."""

    def norm(x, name):
        x = x - x.mean(axis=-1, keepdims=True)
        x = x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-5)
        return x * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(x, name):
        return x @ w[f"{name}.weight"] + w[f"{name}.bias"]

    T, num_layers = len(ids), 1 + max(int(name.split(".")[1]) for name in w if name[0] == "h")
    x = w["wte.weight"][ids] + w["wpe.weight"][:T]
    for block in (f"h.{n}" for n in range(num_layers)):
        parts = np.split(linear(norm(x, f"{block}.ln_1"), f"{block}.attn.c_attn"), 3, axis=-1)
        q, k, v = (part.reshape(T, num_heads, -1).swapaxes(0, 1) for part in parts)  # (H, T, D)
        scores = q @ k.swapaxes(1, 2) / q.shape[-1] ** 0.5
        scores = np.exp(np.where(np.tri(T, dtype=bool), scores, -np.inf))
        mixed = (scores / scores.sum(axis=-1, keepdims=True)) @ v
        x = x + linear(mixed.swapaxes(0, 1).reshape(T, -1), f"{block}.attn.c_proj")
        up = linear(norm(x, f"{block}.ln_2"), f"{block}.mlp.c_fc")
        gelu = 0.5 * up * (1 + np.tanh(np.sqrt(2 / np.pi) * (up + 0.044715 * up**3)))
        x = x + linear(gelu, f"{block}.mlp.c_proj")
    return norm(x, "ln_f") @ w["wte.weight"].T


# %% [markdown]
# A small one with random weights, laid out as on the hub, read by the package and computed both ways:

# %%
C, rng, shapes = 32, np.random.default_rng(0), {"wte.weight": (257, 32), "wpe.weight": (16, 32)}
for n in range(2):
    for name, size in {"attn.c_attn": (C, 3 * C), "attn.c_proj": (C, C)}.items():
        shapes |= {f"h.{n}.{name}.weight": size, f"h.{n}.{name}.bias": size[1:]}
    for name, size in {"mlp.c_fc": (C, 4 * C), "mlp.c_proj": (4 * C, C)}.items():
        shapes |= {f"h.{n}.{name}.weight": size, f"h.{n}.{name}.bias": size[1:]}
    shapes |= {
        f"h.{n}.{name}": (C,) for name in ("ln_1.weight", "ln_1.bias", "ln_2.weight", "ln_2.bias")
    }
shapes |= {"ln_f.weight": (C,), "ln_f.bias": (C,)}
arrays = {name: rng.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}

# %%
folder = place / "gpt2"
folder.mkdir()
mx.save_safetensors(
    str(folder / "model.safetensors"), {name: mx.array(a) for name, a in arrays.items()}
)
config = {
    "model_type": "gpt2",
    "n_positions": 16,
    "vocab_size": 257,
    "n_layer": 2,
    "n_head": 4,
    "n_embd": C,
}
(folder / "config.json").write_text(json.dumps(config | {"layer_norm_epsilon": 1e-5}))
(folder / "vocab.json").write_text(json.dumps(byte_alphabet() | {"<|endoftext|>": 256}))
(folder / "merges.txt").write_text("")  # every token is a byte, and nothing is merged
gpt2, _, _ = load_pretrained(folder)
ids = rng.integers(0, 257, 12)
found = np.array(gpt2(mx.array(ids[None]))[0])
truth = gpt2_by_hand({name: array.astype(np.float64) for name, array in arrays.items()}, ids, 4)
apart = np.abs(found - truth).max()
print(f"logits up to {np.abs(truth).max():.1f}, apart by {apart:.0e}")
claim("NumPy's GPT-2 and the package's agree", apart < (1e-3 if ON_CPU else 0.5))

# %% [markdown]
# For the real one: `load_pretrained("openai-community/gpt2")`, or `uv run base_eval --from openai-community/gpt2`. The engine and the KV cache of chapter 12 work with it.
#
# ## 6. Fewer bits
#
# ### One group of weights
#
# Each token that is written takes nearly all weights through the processor (chapter 12). Can a weight make do with 4 bits? Four bits count from 0 to 15. Take 64 weights of a row, a **group**, and lay 16 levels at equal distances over them. The plain way is from the smallest to the largest:

# %%
row = np.array(assistant.transformer.h[0].attn.c_q.weight)[3, :64]
scale, bias = (row.max() - row.min()) / 15, row.min()
q = np.rint((row - bias) / scale)
print(q.astype(int))
off = np.abs(q * scale + bias - row).max() / scale
print(f"scale {scale:.5f}, bias {bias:.5f}; off by {off:.2f} steps at most")


# %% [markdown]
# Each group needs its scale and its bias, too. MLX shifts and stretches the 16 levels a little, so that the number *furthest from 0* is one of them, and so is *0 itself* where the group has both signs: a weight of 0 stays 0. At the other end up to a step may be cut off, as here at the top. Eight of the 4-bit numbers share a word of 32 bits, the first in the lowest bits. Take MLX's words apart:

# %%
def unpack(words, bits=4):
    """(…, n) words of 32 bits as (…, n · 32 / bits) numbers."""
    places = bits * np.arange(32 // bits, dtype=np.uint32)
    return (words[..., None] >> places & (2**bits - 1)).reshape(*words.shape[:-1], -1)


# %%
words, scales, biases = mx.quantize(mx.array(row[None]), group_size=64, bits=4)
q = unpack(np.array(words))[0]
levels = np.arange(16) * scales.item() + biases.item()
back = np.array(mx.dequantize(words, scales, biases, 64, 4))[0]
claim("q · scale + bias is what MLX gives back", np.allclose(levels[q], back, rtol=0, atol=1e-6))
edge = np.abs(row).argmax()
claim("the number furthest from 0 is kept", np.isclose(back[edge], row[edge], atol=1e-6))
claim("0 is a level", np.abs(levels).min() < 1e-6)
drawings.draw_group(row, {"plain": np.arange(16) * scale + bias, "MLX": levels})

# %% [markdown]
# Exercise 22.2 writes MLX's rule. The package has it for whole matrices, `affine_by_hand`, in 15 lines of NumPy:

# %%
weight = assistant.transformer.h[0].mlp.c_fc.weight
ours, mlx = packing.affine_by_hand(np.array(weight)), mx.quantize(weight, 64, 4)
same = [mine.tobytes() == np.array(his).tobytes() for mine, his in zip(ours, mlx, strict=True)]
claim("words, scales and biases are MLX's to the bit", all(same) or not ON_CPU)
print(f"{8 * sum(array.nbytes for array in mlx) / weight.size} bits for each weight")

# %% [markdown]
# Not 4 but 5: scale and bias are float32 here. With 16-bit weights they have 16 bits as well, and it is 4.5. **mxfp4** and **nvfp4** have no bias. Their 16 values are tiny floating-point numbers, closer together near 0, and 32 or 16 weights share a scale of 8 bits:

# %%
print("the values of fp4:", [0, 0.5, 1, 1.5, 2, 3, 4, 6], "and their negatives")
found = {}
for name, bits in BITS.items():
    packed = mx.quantize(weight, bits.group_size, bits.bits, mode=bits.mode)
    shared = packed if len(packed) == 3 else (*packed, None)  # a four-bit float has no biases
    back = mx.dequantize(*shared, bits.group_size, bits.bits, bits.mode).astype(mx.float32)
    share = (mx.square(back - weight).mean() / mx.square(weight).mean()).item() ** 0.5
    found[name] = share
    of_each = 8 * sum(array.nbytes for array in packed) / weight.size
    print(f"{name:6s} {of_each:5.2f} bits, error {share:7.2%}")
claim("each bit less about doubles the error", 1.5 < found["3"] / found["4"] < 3)


# %% [markdown]
# ### What it costs
#
# An error in a weight is not an error in what the model says. That has to be measured: bits per byte of unseen text, with the weights rounded and not, on *the same documents*. The difference is taken for each document, and documents are the clusters of its standard error (chapter 11), since tokens of one text are not independent.
#
# Three recipes:
#
# - *tables kept*: all matrices of the blocks are rounded;
# - *all*: the tables (wte and lm_head) too;
# - *ends kept*: all but the first and the last block.
#
# Megabytes are those of a file in which all else has 16 bits; the whole model has 2.62. In the last rows the weights stay as they are, and the keys and values of the cache are rounded, each in groups as a row of a weight is.

# %%
def bits_and_bytes(model, ids, cache_bits=None):
    """(bits, bytes) of a document, 256 tokens at a time; cache_bits: of keys and values."""
    ids = mx.array(ids + [tokenizer.bos] * (-(len(ids) - 1) % 256))  # <|bos|> has no bytes
    inputs, targets = ids[:-1].reshape(-1, 256), ids[1:].reshape(-1, 256)
    cache = packed_cache(model.config, cache_bits, len(inputs)).layers if cache_bits else None
    logits, sizes = model(inputs, cache), tokenizer.token_bytes[targets]
    right = mx.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    bits = (mx.logsumexp(logits, axis=-1) - right) * (sizes > 0) / math.log(2)
    return bits.sum().item(), sizes.sum().item()


def rounded(model, bits):
    """A model with the numbers that fewer bits leave, unpacked; and its megabytes when packed."""
    packed, how = packing.quantised_weights(dict(tree_flatten(model.parameters())), bits)
    size = sum(a.nbytes / (1 + (a.dtype == mx.float32)) for a in packed.values())
    megabytes, twin = size / 1e6, GPT(model.config)
    twin.load_weights(list(packing.whole_weights(packed, how).items()))
    return twin, megabytes


# %%
RECIPES = {"tables kept": lambda bits: bits, "all": with_tables}
RECIPES["ends kept"] = lambda bits: packing.ends_kept(with_tables(bits), 4)


def bits_lost():
    base, _ = load_starter("base")
    texts = list(open_dataset().documents("val"))[: budget(1000, quick=2)]
    ids_of_all = [tokenizer.encode(text[:20_000], bos=True) for text in texts]
    documents = [ids[: budget(1025, quick=65)] for ids in ids_of_all]
    cases = {}
    for recipe, change in RECIPES.items():
        cases |= {(recipe, name): rounded(base, change(bits)) for name, bits in BITS.items()}
    cases |= {("cache", bits): (base, packing.bytes_of(base) / 2e6) for bits in ("8", "4")}
    whole = [bits_and_bytes(base, ids) for ids in documents]
    for (recipe, name), (model, megabytes) in cases.items():
        cache_bits = int(name) if recipe == "cache" else None
        found = [bits_and_bytes(model, ids, cache_bits) for ids in documents]
        lost = [(mine[0] - other[0], other[1]) for mine, other in zip(found, whole, strict=True)]
        size = sum(size for _, size in lost)
        about = {"seed": 42, "steps": 321, "documents": len(documents), "recipe": recipe}
        about |= {"bits": name, "megabytes": megabytes, "error": clustered_error(lost)}
        in_bits = {"lost": lost, "whole": whole}
        yield about | {key: sum(bits for bits, _ in of) / size for key, of in in_bits.items()}


# %%
rows = stored("weights_bits", bits_lost)
lost = {(row["recipe"], str(row["bits"])): row for row in rows}
print(f"whole: {rows[0]['whole']:.3f} bits per byte on {rows[0]['documents']} documents")
print("lost, with its standard error:")
print(f"{'':8s}" + "".join(f"{recipe:>26s}" for recipe in RECIPES))
for name in BITS:
    some = [lost[recipe, name] for recipe in RECIPES]
    cells = [f"{row['lost']:+.4f} ± {row['error']:.4f} {row['megabytes']:5.2f} MB" for row in some]
    print(f"{name:6s}", " ".join(f"{cell:>26s}" for cell in cells))
for name in ("8", "4"):
    row = lost["cache", name]
    print(f"cache in {name} bits: {row['lost']:+.4f} ± {row['error']:.4f}")
drawings.draw_bits([row for row in rows if row["recipe"] in RECIPES])

# %%
of_all = {name: lost["all", name]["lost"] for name in BITS}
claim("8 bits lose less than a thousandth of a bit", abs(of_all["8"]) < 0.001)
claim("6 bits lose less than 4, and 4 less than 3", of_all["6"] < of_all["4"] < of_all["3"])
least = lost["all", "3"]
claim("what 3 bits lose is more than luck", least["lost"] > 2 * least["error"])
eight, four = (lost["cache", name]["lost"] for name in ("8", "4"))
claim("a cache of 8 bits loses less than one of 4", eight < four)

# %% [markdown]
# *All* in 6 bits is smaller than the two other recipes in 4, and loses less: here it does not pay to keep anything. It loses 0.0005 of 1.96 bits, *all* in 4 bits 0.0073, a third of a percent. A cache of 8 bits loses nothing that could be measured. Large models differ: a few of their numbers are far larger than the others (Dettmers et al., 2022), one of them stretches the scale of its group, and the rest of the group is left with few levels. Measure yours on your own text. Which recipe to take also depends on where the numbers are. In our starter two fifths of them are in the two tables; so a recipe that keeps the tables saves less than three fifths. In a d20:

# %%
d20 = GPTConfig.from_depth(20)
tables = 2 * d20.vocab_size * d20.n_embd
blocks = count_parameters(d20) - tables
gigabytes = {"16 bits": 2 * (tables + blocks) / 1e9}
gigabytes["blocks in 4 bits"] = (2 * tables + 4.5 / 8 * blocks) / 1e9
gigabytes["all in 4 bits"] = 4.5 / 8 * (tables + blocks) / 1e9
share = tables / (tables + blocks)
print(f"d20: {share:.0%} of {(tables + blocks) / 1e6:,.0f} million numbers are in the tables")
for name, size in gigabytes.items():
    print(f"{name:17s} {size:.2f} GB")
claim("a d20 fits into 0.4 GB", gigabytes["all in 4 bits"] < 0.4)


# %% [markdown]
# `convert --bits 4` writes such a folder for mlx-lm, with `--tables` the tables too. `load_pretrained` and `--from` run it as it is.
#
# ### Is it faster?
#
# Fewer bytes to read, but each number must be unpacked before it is multiplied. Which of the two counts? After 64 tokens, read one more, as in writing, or 64 more, as in reading a prompt:

# %%
def medians(cases, rounds):
    """Median seconds of each, taken in turn; the first turn warms up."""
    seconds = {name: [] for name in cases}
    for _ in range(budget(rounds, quick=1) + 1):
        for name, run in cases.items():
            started = time.perf_counter()
            mx.eval(run())
            seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(times[1:]) for name, times in seconds.items()}


# %%
def reader(model, count):
    """A function that reads `count` ids after 64 others."""
    cache = KVCache(model.config)
    mx.eval(model(mx.ones((1, 64), mx.int32), cache.layers))

    def read():
        shorten(cache, 64)
        return model(mx.ones((1, count), mx.int32), cache.layers)

    return read


# %%
base, _ = load_starter("base")
large = GPT(GPTConfig.from_depth(budget(8, quick=1), vocab_size=4096))  # with random weights


def speeds():
    for name, model in {"starter": base, "d8": large}.items():
        kinds = {"float32": model}
        kinds |= {bits: packing.in_fewer_bits(model, with_tables(BITS[bits])) for bits in BITS}
        for count, rounds in {1: 30, 64: 4}.items():
            times = medians({bits: reader(kind, count) for bits, kind in kinds.items()}, rounds)
            for bits, seconds in times.items():
                about = {"seed": 42, "steps": rounds, "model": name, "tokens": count, "bits": bits}
                size = packing.bytes_of(kinds[bits])
                yield about | {"megabytes": size / 1e6, "milliseconds": 1e3 * seconds}


# %%
rows = stored("weights_speed", speeds)
taken = {(row["model"], row["tokens"], str(row["bits"])): row["milliseconds"] for row in rows}
print(f"{'':26s}one token               reads     one of 64, ms")
for row in rows:
    name, bits, one = row["model"], str(row["bits"]), row["milliseconds"]
    if row["tokens"] == 1:
        many, whole = taken[name, 64, bits] / 64, taken[name, 1, "float32"]
        print(f"{name:8s} {bits:8s}{row['megabytes']:6.1f} MB {one:6.2f} ms", end="")
        print(f" ({one / whole:4.2f} times){row['megabytes'] / one:6.1f} GB/s {many:10.3f}")
longer = {bits: taken["d8", 64, bits] / taken["d8", 1, bits] for bits in ("float32", "4")}
print("64 tokens take … times as long as one:", {bits: round(n, 1) for bits, n in longer.items()})
claim("3 bits take as long as 8", abs(taken["d8", 1, "3"] / taken["d8", 1, "8"] - 1) < 0.2)
claim("over ten times in 4 bits, under five in float32", longer["4"] > 10 > 2 * longer["float32"])


# %% [markdown]
# On this CPU fewer bits save memory and no time: mxfp4 takes as long for a token as float32, the others up to twice as long, and for a prompt of 64 tokens 4 bits take the d8 over thirty times as long. It is unpacking that sets the pace, not reading: 3 bits, less than half the bytes of 8, take as long as those. (Four-bit floats are quicker, perhaps since a table of 16 values takes the place of a product and a sum.) And the
# packed kernel takes 51 times as long for 64 tokens as for one, so it unpacks nearly everything again for each, where float32 uses a number 64 times once it is read. A GPU unpacks with thousands of threads while it waits for memory; there expect the time of one token to fall with the bits. We had no GPU to measure on.
#
# ## 7. Several tokens in one pass
#
# ### Guess, then check
#
# When the memory sets the pace, a pass over five tokens takes little longer than a pass over one (chapter 12). But a text is written one token after the other. **Speculative decoding** gets around that: something cheap, the **draft**, *guesses* the next four tokens, and the model reads all of them in one pass. Its logits say at each place what it would have
# written. So the guess is right up to some place, and there the model's own token comes for free.
#
# The cheapest draft is the text itself: look for the last three ids further up, else the last two, else the last one, and propose what came after them there.

# %%
def from_the_text(ids, count, longest=3):
    """What came after the last earlier occurrence of the latest ids."""
    for n in range(longest, 0, -1):
        for start in range(len(ids) - n - 1, -1, -1):
            if ids[start : start + n] == ids[-n:]:
                return ids[start + n : start + n + count]
    return []


print(from_the_text([5, 1, 2, 3, 4, 9, 1, 2, 3], 2))


# %%
def write_with_drafts(model, ids, count, draft):
    """(ids, passes): `count` ids after `ids`, greedy; a pass checks up to four of the draft."""
    cache, text, passes, eye = KVCache(model.config), list(ids), 0, np.eye(model.config.vocab_size)
    new = [mx.argmax(model(mx.array([text]), cache.layers)[0, -1]).item()]
    while len(text) + len(new) < len(ids) + count:
        text += new
        shorten(cache, len(text) - 1)  # forget what was refused
        guess = draft(text, 4)
        logits = model(mx.array([[text[-1], *guess]]), cache.layers)[0]  # (1 + guess, V)
        best = mx.argmax(logits, axis=-1).tolist()
        new = check_draft(eye[best], eye[guess], guess, np.random.default_rng(0))
        passes += 1
    return [*text, *new][len(ids) : len(ids) + count], passes


# %% [markdown]
# `check_draft` takes the guess up to the first wrong id, and then the model's own; exercise 22.3 writes that. It wants probabilities, since below ids are drawn. Here all of the probability lies on one id, the model's best or the guess: a row of the identity matrix, `eye[id]`. A wrong guess leaves keys and values in the cache that must go: `shorten` sets its length back.

# %%
COUNT = budget(60, quick=8)
prompts = {
    "code": "def f(x):\n    return x\n\ndef g(x):\n",
    "list": "1, 2, 3, 1, 2, 3, 1,",
    "text": "The module",
}
same = []
for name, text in prompts.items():
    prompt = tokenizer.encode(text, bos=True)
    plain, slow = write_with_drafts(base, prompt, COUNT, lambda ids, count: [])
    drafted, passes = write_with_drafts(base, prompt, COUNT, from_the_text)
    theirs = speculate(base, Request(prompt, COUNT, temperature=0), repeat_draft())
    same += [drafted == plain, theirs.ids == plain]
    print(f"{name:5s} {COUNT} ids in {passes:2d} passes in place of {slow}")
claim("the same ids as without drafts, by hand and by the package", all(same) or not ON_CPU)

# %% [markdown]
# Not one id is different: a draft can only cost time, never quality. (On a GPU, passes of one row and of five round differently, and a near-tie may go the other way.) The first id comes with the prompt, so 60 take 59 passes. But greedy text goes round in circles (chapter 12), and circles are easy to guess.
#
# ### Drawing at random
#
# With temperature there is no right id. Let the draft draw from its own probabilities $q$, the model has $p$. Accept the id with probability $\min(1, p/q)$. If it is refused, draw from what $p$ has *more* than $q$. For three ids:

# %%
p, q = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.7, 0.1])
accepted = q * np.minimum(1, p / q)  # = min(p, q)
in_its_place = np.maximum(p - q, 0)  # their sum is what was refused
print("accepted", accepted.round(2).tolist(), "in its place", in_its_place.round(2).tolist())
assert np.allclose(accepted + in_its_place, p)
drawings.draw_shares(p.tolist(), q.tolist(), "abc")

# %% [markdown]
# Hatched, 0.4 of all draws are refused; orange, 0.3 and 0.1 come in their place. Since $\min(p, q) + \max(p - q, 0) = p$, each id comes with exactly the model's probability, whatever the draft believes. Here is the package's rule for a whole guess, and 20,000 draws by it, with a guess of one id (the second row of probabilities is for the place after it):

# %%
print(inspect.getsource(check_draft).split('"""')[2])
rng, draws = np.random.default_rng(0), budget(20_000, quick=200)
firsts = [
    check_draft(np.array([p, p]), q[None], [rng.choice(3, p=q)], rng)[0] for _ in range(draws)
]
shares = np.bincount(firsts, minlength=3) / draws
print(shares.round(3).tolist())
claim(
    "the shares are the model's, up to luck",
    np.all(np.abs(shares - p) < 4 * np.sqrt(p * (1 - p) / draws)),
)


# %% [markdown]
# ### When it pays
#
# Three drafts for the starter, drawing at temperature 1: the text itself, the starter's own twin in four bits, and the starter, which is always accepted. The text is certain of its guess, $q = 1$, so the guess is accepted with the probability $p$ that the model gives it. Look at the ids one by one, up to the first that is refused: *right* is the share of them that was accepted. With a share of $a$ and four ids proposed, a pass should give $1 + a + a^2 + a^3 + a^4$ tokens: the model's own, and each of the four counts if all before it were right too.

# %%
def with_draft(kind, prompt, seed):
    """A text of COUNT ids at temperature 1 with this draft."""
    request = Request(prompt, COUNT, seed=seed)
    draft = repeat_draft() if kind == "the text" else ModelDraft(twins[kind], base, request)
    return speculate(base, request, draft)


# %%
twins = {"four bits": packing.in_fewer_bits(base, with_tables(BITS["4"])), "itself": base}
share, gained = {}, {}
for kind in ("the text", *twins):
    done = [
        with_draft(kind, tokenizer.encode(text, bos=True), seed)
        for text in prompts.values()
        for seed in range(budget(3, quick=1))
    ]
    right, wrong = (sum(getattr(each, what) for each in done) for what in ("accepted", "refused"))
    share[kind] = right / max(1, right + wrong)
    gained[kind] = sum(len(each.ids) - 1 for each in done) / sum(each.passes for each in done)
    print(f"{kind:9s} {share[kind]:4.0%} right, {gained[kind]:.2f} tokens a pass", end="")
    print(f", predicted {sum(share[kind] ** n for n in range(5)):.2f}")
claim("itself is always accepted", share["itself"] > 0.99)
claim("its twin is accepted more often than the text", share["four bits"] > share["the text"])

# %% [markdown]
# (A little less than predicted, partly since fewer than four are proposed near the end, and the text may find nothing to propose.) Tokens a pass is what you gain. What you pay: a pass over five tokens costs more than one over one, and a draft that is a model costs four passes of its own. How much more is the first, on this machine?

# %%
cost = {}
for name, model in {"starter": base, "d8": large}.items():
    times = medians({count: reader(model, count) for count in (1, 5)}, rounds=15)
    cost[name] = times[5] / times[1]
    print(f"{name:8s} five tokens take {cost[name]:.2f} times the time of one")
claim("five tokens in a pass cost less than five passes", not ON_CPU or max(cost.values()) < 5)

# %%
print("d8: how many times as fast, if a pass of the draft takes … of a pass of the model:")
print(f"{'right':12s}" + "".join(f"{draft:>8.2f}" for draft in (0, 0.05, 0.2, 1)))
speed = {}
for each in (0.2, 0.5, 0.8, 1.0):
    tokens = sum(each**n for n in range(5))
    for draft in (0, 0.05, 0.2, 1):
        speed[each, draft] = tokens / (cost["d8"] + 4 * draft)
    print(f"{each:<12.0%}" + "".join(f"{speed[each, draft]:8.2f}" for draft in (0, 0.05, 0.2, 1)))
claim("a draft as expensive as the model never pays", speed[1.0, 1] < 1.1)

# %% [markdown]
# So a draft must be cheap *and* mostly right. Our twin in four bits is right but not cheap: on this CPU it is slower than the model itself (section 6). The text costs nothing. In greedy text it was often right; drawn at temperature 1 it was right a few times in a hundred, and 1.01 tokens a pass do not pay for a wider pass. By this table, which is arithmetic and no measurement, it pays where texts repeat themselves, as answers do that quote the question. And if five tokens take nearly five times as long, as they may where memory is not the limit, nothing pays.
#
# ## Exercises
#
# Run the cells above first (menu *Run*, *Run All Above Selected Cell*). The solutions are in
# [solutions/22_weights_solutions.ipynb](solutions/22_weights_solutions.ipynb).
#
# ### Exercise 22.1 — which instruction to refuse
#
# 20 minutes, ●●○. Write `first_refused(content, known)`: the name of the first instruction of a pickle that is to be refused, None if there is none. An instruction is let through if its name is in `PLAIN`. A `GLOBAL` is let through if its argument, "module name", is in the set `known`. Everything else is refused. (`REDUCE` may pass: it can only call what a `GLOBAL` has named.) Do not run the pickle.
#
# <details><summary>Hint 1</summary>
#
# `pickletools.genops(content)` gives (opcode, argument, position). It only reads.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Ask what is allowed, not what is forbidden: two conditions under which you go on, and one `return` for all that remains.
#
# </details>

# %%
PLAIN = set(
    """PROTO FRAME MARK STOP NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 BINUNICODE
    SHORT_BINUNICODE EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_DICT SETITEM SETITEMS BINPUT
    LONG_BINPUT MEMOIZE
    BINGET LONG_BINGET BINPERSID REDUCE""".split()
)


# %% tags=["exercise"]
def first_refused(content, known):
    raise NotImplementedError


# %%
check(exercises.first_refused, first_refused)


# %% [markdown]
# ### Exercise 22.2 — four bits, as MLX has them
#
# 25 minutes, ●●●. Write `four_bits(group)` for a group of 64 numbers (NumPy, float32): (words, scale, bias), as `mx.quantize` gives them. MLX's rule:
#
# 1. The **edge** is the smallest number or the largest, whichever is further from 0 (the largest, if both are as far).
# 2. A first scale is (largest − smallest) / 15, with a minus if the edge is the largest: steps go from the edge inwards.
# 3. The edge lies edge / scale steps from 0. Round that to a whole number n, and take edge / n as the scale. So 0 becomes a level. (n is not 0 in our groups.)
# 4. The bias is the edge. Each number becomes (number − bias) / scale, rounded, and cut to 0 … 15.
# 5. Eight numbers fill a word (uint32), the first in the lowest four bits.
#
# <details><summary>Hint 1</summary>
#
# Keep everything in float32: `np.float32(15)`, `np.rint`, `np.clip`. A number of another type changes the last bit.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `q.astype(np.uint32).reshape(8, 8) << 4 * np.arange(8, dtype=np.uint32)` puts each number into its place; their sum is the word.
#
# </details>

# %% tags=["exercise"]
def four_bits(group):
    raise NotImplementedError


# %%
check(exercises.four_bits, four_bits)


# %% [markdown]
# ### Exercise 22.3 — accept or reject
#
# 15 minutes, ●○○. Write `take(draft, best)` for greedy text: `draft` are n ids, and `best` the n + 1 ids that the model finds likeliest at their places and after the last. Return the ids that the text gains: the draft's up to the first wrong one, and one of the model's own.
#
# <details><summary>Hint 1</summary>
#
# `best[0]` was computed before any id of the draft was read, so it is the judge of `draft[0]`.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Count how many are right from the beginning. What was read after a wrong id counts for nothing, even if it fits by chance.
#
# </details>

# %% tags=["exercise"]
def take(draft, best):
    raise NotImplementedError


# %%
check(exercises.take, take)

# %% [markdown]
# ## Summary
#
# - A checkpoint is names and numbers. What the numbers mean (pairs of the rotation, signs, constants) is not in the names, so readers must compare it.
# - A pickle is a program. Your own machine, with a short list of names, reads weights and runs nothing.
# - Out and back: not a bit changes. The tokenizer and the form of a conversation belong to the model.
# - In four bits, groups of numbers share a scale. 8 bits cost next to nothing in a model as small as ours; each bit less costs more.
# - Fewer bits save memory. They save time only where unpacking is cheaper than reading: not on our CPU.
# - A draft changes no id and no probability, but for rounding. It pays if it is cheap and mostly right.
#
# ## Pitfalls
#
# - `pickle.loads` on a file that you did not make: its code has run before you see a number (section 3).
# - A file with the other layout of the rotation: no error, a worse model (section 2).
# - A special token's name in a user's text: another program may take it for the token (section 4).
# - Fewer bits judged by the error of the weights, or on other texts than before (section 6).
# - A draft as expensive as the model (section 7).
#
# ## Further reading
#
# - [pickletools](https://docs.python.org/3/library/pickletools.html) and [its source](https://github.com/python/cpython/blob/main/Lib/pickletools.py), which explains the machine better than anything else.
# - [safetensors](https://github.com/huggingface/safetensors): the format on one page.
# - [LLM.int8()](https://arxiv.org/abs/2208.07339), Dettmers et al., 2022, and [GPTQ](https://arxiv.org/abs/2210.17323), Frantar et al., 2022: better ways to choose the levels.
# - [OCP Microscaling Formats](https://arxiv.org/abs/2310.10537), Rouhani et al., 2023: mxfp4.
# - [Speculative Decoding](https://arxiv.org/abs/2211.17192), Leviathan et al., 2023, and [Speculative Sampling](https://arxiv.org/abs/2302.01318), Chen et al., 2023.
#
# This is the last chapter. You have built every part of a model that you can talk to. What is yours now: another text, a longer run, a larger model.
