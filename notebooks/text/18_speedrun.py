# %% [markdown]
# # 18 · Speedrun
#
# **Goal.** Go from nothing to a model that answers in one command, and read its report card: what each stage brought, what failed, and which numbers are luck.
#
# | | |
# |---|---|
# | Needs | [11 · Evaluation](11_evaluation.ipynb), [13 · Conversations](13_conversations.ipynb), [14 · Tools and tasks](14_tools_and_tasks.ipynb), [15 · Reinforcement](15_reinforcement.ipynb) |
# | Time | 40 minutes to read, 55 for the exercises; about two minutes to run |
# | Memory | under 1 GB |
# | You will build | how sure a score is, and what a stage changed → `course_lib.pipeline.report_card` |
#
# You have built every part. `uv run speedrun --minutes 5` runs them one after the other, without you, and ends with a **report card**. Here are the last lines of one, the
# replies of a model that did not exist five minutes before:

# %% [markdown]
# ![Map of the course: chapter 18 speedrun is marked, the last one of Part III](images/map_18.png)
#
# [00](00_start_here.ipynb) · [01](01_names.ipynb) · [02](02_autograd.ipynb) · [03](03_microgpt.ipynb) · [04](04_batches.ipynb) · [05](05_tokenizer.ipynb) · [06](06_data.ipynb) · [07](07_attention.ipynb) · [08](08_gpt.ipynb) · [09](09_muon.ipynb) · [10](10_training.ipynb) · [11](11_evaluation.ipynb) · [12](12_engine.ipynb) · [13](13_conversations.ipynb) · [14](14_tools_and_tasks.ipynb) · [15](15_reinforcement.ipynb) · [16](16_serving.ipynb) · [17](17_chat.ipynb) · **18** · [19](19_memory.ipynb) · [20](20_processes.ipynb) · [21](21_nanochat_2026.ipynb) · [22](22_weights.ipynb) · [open this one in Colab](https://colab.research.google.com/github/OWNER/microgpt-to-nanochat/blob/main/notebooks/18_speedrun.ipynb) ([how](https://github.com/OWNER/microgpt-to-nanochat/blob/main/docs/machines.md#colab))

# %%
#| export pipeline.report_card
"""How sure a score is, and what a stage of a speedrun changed, question by question."""

from course_lib.evaluate.records import interval, paired_difference

# %%
import json
import os
import random
import re
import subprocess
import sys
import tempfile

import mlx.core as mx
from IPython import display

from course_lib import backend
from course_lib.chat.conversation import render_for_completion
from course_lib.chat.conversation_loader import ConversationLoader
from course_lib.classroom import budget, check, claim, stored
from course_lib.classroom import draw_speedrun as draw
from course_lib.classroom.exercises import speedrun as exercises
from course_lib.data.tokenizer import Tokenizer
from course_lib.generate.engine import Engine
from course_lib.host.paths import data_dir
from course_lib.host.words import duration
from course_lib.model.gpt import GPT, GPTConfig, init_weights
from course_lib.model.sizes import count_parameters, flops_per_token
from course_lib.names.bigram import load_names
from course_lib.pipeline.plan import LEAST_DEPTH, SIZE, TRAINING, make_plan, tokens_per_second
from course_lib.train import local_ring
from course_lib.train.optim import lr_multiplier
from course_lib.train.trainer import Trainer

backend.seed_everything(42)
ON_CPU = backend.device_kind() == "cpu"

# %%
card = json.loads((data_dir() / "speedrun" / "card.json").read_text(encoding="utf-8"))
tasks = card["tasks"]  # of each training, the result of each task
for question, reply in card["samples"]:
    print(f"{question:33s} {reply}")

# %% [markdown]
# The questions are fixed, so that nobody picks the best replies. Check them: 347 + 2815 is 3162, *strawberry* has three r, *machine* has seven letters. Six samples prove nothing.
# How good is the model? Which stage made it so? What would more time bring? This chapter answers from the card.
#
# ## 1. The stages
#
# | stage | as a program of its own | what it makes |
# |---|---|---|
# | tokenizer | `tok_train` | a tokenizer from the text |
# | pretraining | `base_train` | a base model |
# | evaluation | `base_eval`, `chat_eval` | its bits per byte, its scores |
# | fine-tuning | `chat_sft` | an assistant |
# | chat evaluation | `chat_eval` | its scores on the same questions |
# | reinforcement | `chat_rl` | an assistant that was rewarded for right sums, counts and spellings |
# | evaluation after it | `chat_eval` | its scores, once more on the same questions |
# | samples | | the replies above |
#
# With `--control` come two more: a second assistant, fine-tuned in the same way but from new weights, and its scores. What it can do, pretraining did not bring.
#
# Each stage is one call of a function that you know, with its settings as a value (`course_lib/pipeline/stages.py`). One question is left: how long may it take?
#
# ## 2. A plan that fits the time
#
# How deep a model for five minutes? A deeper one can learn more, but each token costs more, so it sees fewer. The plan counts **tokens a parameter**. About 20 make a well trained model (chapter 10); the plan asks for one, and takes the
# deepest model that gets it. A few steps on noise tell how fast one depth trains here. For the others the FLOPs per token of chapter 08 must do:

# %%
processes = local_ring.fitting_processes(backend.device_kind())
speed = tokens_per_second(LEAST_DEPTH, processes)
configs = {depth: GPTConfig.from_depth(depth, **SIZE) for depth in range(2, 13)}
work = {depth: flops_per_token(config) for depth, config in configs.items()}
print(f"{LEAST_DEPTH} layers: {speed:,.0f} tokens a second, measured")
reckoned = speed * work[LEAST_DEPTH] / work[6]
apart = tokens_per_second(6, processes) / reckoned
print(f"6 layers: {reckoned:,.0f} reckoned; measured {apart:.2f} times that")
claim("the reckoning is right to a factor of two", not ON_CPU or 0.5 < apart < 2)


# %%
def tokens_a_parameter(depth, minutes):
    tokens = TRAINING * 60 * minutes * speed * work[LEAST_DEPTH] / work[depth]
    return tokens / count_parameters(configs[depth])


def deepest(minutes):
    """The deepest model that sees a token for each parameter, but at least LEAST_DEPTH layers."""
    fitting = [depth for depth in configs if tokens_a_parameter(depth, minutes) >= 1]
    return max([LEAST_DEPTH, *fitting])


# %%
BOUNDS = (5, 60, 720)
curves = {m: [(depth, tokens_a_parameter(depth, m)) for depth in configs] for m in BOUNDS}
draw.draw_plan(curves, {minutes: deepest(minutes) for minutes in BOUNDS}, LEAST_DEPTH)

# %% [markdown]
# Each curve is a bound of time. The ring marks the depth that the plan takes: the last point above the dashed line, or the least depth. (`TRAINING` is the share of the time that both trainings get.)

# %%
print({minutes: deepest(minutes) for minutes in BOUNDS})
plan = make_plan(5, depth=None, processes=None, min_iterations=None)
print(f"the package's plan: {plan.depth} layers, {plan.depth * plan.aspect_ratio} wide")
claim("twelve times the time, at most twice the depth", deepest(60) <= 2 * deepest(5))

# %% [markdown]
# Width grows with depth, so parameters and the price of a token grow about with its third power. One token a parameter is a rule of thumb, which was not compared with others.
#
# ### By the clock
#
# The depth is written down before the first step: a run that goes on tomorrow must not come to another because the machine is busy then. The number of *steps* is another matter. A plan made at a busy
# moment once allowed so few that the model answered "1" to every sum. So each training ends **by the clock**: after $n$ steps in $t$ of its $T$ seconds it counts on $n \cdot T / t$ in
# all, and the learning rates follow. Here is a machine that is busy for the first 20 of 60 seconds, and takes four seconds a step, then one:

# %%
T, t, n = 60, 0, 0
while t < T:
    t, n = t + (4 if t < 20 else 1), n + 1
    in_all = round(n * T / t)
    if n in (1, 5, 15, 30, 40) or t >= T:
        rate = lr_multiplier(n, in_all)
        print(f"{t:2d} s: {n:2d} steps done of {in_all:2d}, learning rates × {rate:.2f}")
print(f"a plan from the first step: {T // 4} steps, done after {20 + (T // 4 - 5)} s")
claim("by the clock, three times as many steps", n == 3 * (T // 4))

# %% [markdown]
# A clock must not end a training before the model has learned to answer. So fine-tuning has at least 300 steps, and on a machine that is too slow for its minutes the run says at once how many it needs.
#
# ## 3. Kill it
#
# A run of many stages will be interrupted. After each stage, `speedrun` writes a small file that says that it is done; called again, it skips what is done. Each training resumes from its newest checkpoint, as in
# chapter 10. Here is a tiny run, in a home folder of its own. We kill it without warning when pretraining has begun, and call it again. (`--min-iterations=2` takes the floor of 300 steps away, for this show only.)

# %%
home = tempfile.TemporaryDirectory()
program = [sys.executable, "-m", "course_lib.scripts.speedrun"]
command = [*program, "--minutes=0.1", "--min-iterations=2", "--max-per-task=2"]
environment = {**os.environ, "COURSE_HOME": home.name, "PYTHONUNBUFFERED": "1"}
pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}


def lines_of(process):
    """All lines of a program, those on its plan and its stages printed as they come."""
    for line in process.stdout:
        if line.startswith(("plan", "—")):
            print(line, end="")
        yield line


with subprocess.Popen(command, env=environment, **pipes) as first:
    for line in lines_of(first):
        if line.startswith("— pretraining"):
            first.kill()

# %%
with subprocess.Popen(command, env=environment, **pipes) as second:
    lines = list(lines_of(second))
assert second.returncode == 0, "".join(lines)
print(lines[-1].replace(home.name, "…"), end="")
home.cleanup()

# %% [markdown]
# The plan is the same, the tokenizer was "done before", and everything after it was done now. You will write such a stage yourself in exercise 18.3.
#
# ## 4. Read the card
#
# Five minutes are too long for a notebook, so a real card comes with the course. It was made by `speedrun --minutes 5 --control`; the control's time came on top. As a picture:

# %%
from course_lib.pipeline.card_page import changes_markdown, draw_card, stages_markdown

display.display(draw_card(card))

# %% [markdown]
# Each line on the left is a task, each mark the share of right replies after a training, with its interval (chapter 14). Tasks whose names begin with `blind` are questions by someone who had not seen the lessons. On the right, from
# above, you see the losses of the two trainings, the reward, and the time of each stage. Most squares are at 0, and most circles far from it: fine-tuning made this assistant. Now in numbers.
#
# ### A score
#
# A report needs what it takes to doubt it: how many questions, and how far luck could have moved the score. For that, chapter 14 has the `interval`, which is honest at 0, too.


# %%
#| export pipeline.report_card
STAGES = {  # the trainings that a card compares, as it names them
    "base": "pretrained",
    "control": "fine-tuned only",
    "sft": "pretrained, fine-tuned",
    "rl": "and reinforced",
}


def score(result: dict) -> str:
    """ "94 % (88–97)": the share that is right and its interval; few questions are counted."""
    if not result:
        return "—"
    count = result["items"]
    right = round(result["accuracy"] * count)
    low, high = interval(right, count)
    share = f"{right} of {count}" if count < 30 else f"{100 * right / count:.3g} %"
    return f"{share} ({100 * low:.0f}–{100 * high:.0f})"


# %%
print("nothing right, of 10 and of 100:", score({"accuracy": 0, "items": 10}), end=", ")
print(score({"accuracy": 0, "items": 100}))
display.display(display.Markdown(stages_markdown(tasks)))

# %% [markdown]
# This is the whole run in one table. Read a line from left to right, from the base model to the last assistant. All were asked the same questions, the base model as well: it has never seen a conversation, and it continues the
# question as if it were documentation. *Guessing* is what the commonest answer would get if it were given each time (chapter 14).

# %%
highest = max(interval(each["right"], each["items"])[1] for each in tasks["base"].values())
print(f"base model: at most {highest:.0%} right, and that on a task of few questions")
claim("on no task can it be right in more than a quarter", highest < 0.25)
learned = [
    name for name, each in tasks["sft"].items() if interval(each["right"], each["items"])[0] > 0.5
]
print("fine-tuned, surely more than half right:", ", ".join(learned))
claim("such as who it is, and what it cannot know", {"identity", "unknown"} <= {*learned})
counted = tasks["sft"]["counting"]
claim("in counting it is below guessing", counted["accuracy"] < counted["baseline"])

# %% [markdown]
# ## 5. What did a stage bring?
#
# Look at the two columns in the middle. The **control** was fine-tuned like the assistant and never pretrained. If it scores as well, then pretraining did not bring the score. On all twelve tasks the intervals of the two overlap, but that settles nothing: both answered the same
# questions, so compare them question by question. For this a card keeps a 1 or a 0 for each:

# %%
ends = [
    [interval(tasks[stage][name]["right"], tasks[stage][name]["items"]) for name in tasks["sft"]]
    for stage in ("control", "sft")
]
overlap = [max(a[0], b[0]) <= min(a[1], b[1]) for a, b in zip(*ends, strict=True)]
claim("control and assistant: all twelve intervals overlap", sum(overlap) == len(overlap) == 12)
before, after = tasks["control"]["identity"]["each"], tasks["sft"]["identity"]["each"]
print(before[:60], "…", after[:60], "…", sep="\n")
pairs = list(zip(before, after, strict=True))
print(f"gained {pairs.count(('0', '1'))}, lost {pairs.count(('1', '0'))}", end=": ")
print("{:+.1%} ± {:.1%}".format(*paired_difference(before, after)))


# %% [markdown]
# A card compares a dozen tasks, and of a dozen looks luck takes one beyond two standard errors more often than you think (chapter 14). So the card prints in bold what is beyond **three**. And it joins the questions of all tasks into one line, which is a single look and not a dozen.


# %%
#| export pipeline.report_card
CHANGES = {"pretraining": ("control", "sft"), "reinforcement": ("sft", "rl")}  # by what, from, to
SURE = 3.0  # standard errors: of a dozen comparisons, luck often takes one beyond two


def change(before: str, after: str) -> str:
    """ "+12 −3": how many questions were gained and lost; bold where luck is a poor explanation."""
    pairs = list(zip(before, after, strict=True))
    difference, error = paired_difference(before, after)
    counts = f"+{pairs.count(('0', '1'))} −{pairs.count(('1', '0'))}"
    return f"**{counts}**" if abs(difference) >= SURE * error else counts


def together(tasks: dict[str, dict]) -> str:
    """The answers to all tasks of a training, as if they were one."""
    return "".join(result["each"] for result in tasks.values())


# %%
display.display(display.Markdown(changes_markdown(tasks)))
gain = {}
for what, (stage, later) in CHANGES.items():
    difference, error = paired_difference(together(tasks[stage]), together(tasks[later]))
    gain[what] = difference / error
    print(f"{what}, all questions together: {difference:+.1%} ± {error:.1%}")

# %%
stages = {stage["name"]: stage for stage in card["stages"]}
print("pretraining:", stages["pretraining"]["what"])
for what in gain:
    claim(f"what {what} brought cannot be told from luck", abs(gain[what]) < SURE)
rewarded = {"calculator", "counting", "spelling"}
rest = [
    "".join(
        each["each"]
        for name, each in tasks[stage].items()
        if name.removeprefix("blind-") not in rewarded
    )
    for stage in CHANGES["reinforcement"]
]
difference, error = paired_difference(
    tasks["control"]["spelling"]["each"], tasks["sft"]["spelling"]["each"]
)
print(f"pretraining, spelling: {difference:+.1%}, {-difference / error:.1f} standard errors")
claim("between two and three of them, and a loss", -SURE * error < difference < -2 * error)
difference, error = paired_difference(*rest)
print(f"reinforcement, questions of kinds that were not rewarded: {difference:+.1%} ± {error:.1%}")
claim("there it did no harm that is beyond doubt", difference > -SURE * error)

# %% [markdown]
# So all of Part II made a base model, **and as far as these questions can tell, the assistant is as good without it**. Without the control, this chapter would say that a pretrained model answers, and let you draw the wrong conclusion. Mind how little it was: 81 steps, a quarter of a token for each parameter (fine-tuning had the other token that the plan asks for). Whether pretraining is of no use for these lessons or was too short, this card cannot tell. (In chapter 13, after fewer steps of fine-tuning, it bought right calls.)
#
# One row comes near to bold: spelling, with 0 gained and 7 lost, so the model *without* pretraining may even be ahead. But it is one row of twelve, the one that we noticed, and below the bound that we had set.
#
# And reinforcement? It rewarded sums, counting and spelling, for half a minute, and changed next to nothing: no row is bold, and the rest was not forgotten. Chapter 15 says when to expect that. Sums are right already, spelling hardly ever, and a group of equal replies teaches nothing. Counting is right now and then; but so few steps made no visible difference.
#
# ## 6. What failed, and why
#
# A report that shows only what works is an advertisement. Here is how the assistant fails at two of the rewarded kinds:

# %%
looked_at = card["looked_at"]
for kind in ("spelling", "counting"):
    wrong = [each for each in looked_at[kind] if each["reply"] != each["right"]]
    print(f"{kind}: {len(wrong)} of {len(looked_at[kind])} not as in the lesson")
    for each in wrong[:4]:
        print(f"   {each['question']:45s} {each['reply']:32s} right: {each['right']}")

# %% [markdown]
# A word reaches the model as a few tokens, which do not show their letters. So it has to learn the spelling of each token by heart, and to keep its place in the word. Here is how often the letter at each place is right:

# %%
spelled = [(each["right"].split(), each["reply"].split()) for each in looked_at["spelling"]]
longest = max(len(right) for right, _ in spelled)
hits = [[] for _ in range(longest)]
for right, reply in spelled:
    for place, letter in enumerate(right):
        hits[place].append(reply[place : place + 1] == [letter])
draw.draw_letters([sum(each) / len(each) for each in hits], [len(each) for each in hits])
first = [right[0] in reply[:1] for right, reply in spelled]
last = [right[-1] in reply[len(right) - 1 : len(right)] for right, reply in spelled]


# %%
print(f"first letters right {sum(first)} of {len(first)}, last letters {sum(last)} of {len(last)}")
claim("words begin better than they end", sum(first) > sum(last))

# %% [markdown]
# It knows how words begin. Then it goes on into another word, or skips letters, and has lost its place.
#
# To count letters, it has to write the word into a call of the calculator. What goes wrong there: the call, or what it makes of the result?

# %%
calls = [
    [each[key].split(" = ")[0] for key in ("right", "reply")] for each in looked_at["counting"]
]
good = [right == call for right, call in calls]
ends = [each["reply"] == each["right"] for each in looked_at["counting"]]
print(f"{sum(good)} of {len(good)} calls are right; all of it as in the lesson: {sum(ends)}")
last = [
    [re.findall(r"\d+", each[key])[-1:] for key in ("right", "reply")]
    for each in looked_at["counting"]
]
by_rule, by_one = sum(one == other for one, other in last), sum(one == ["1"] for one, _ in last)
print(f"right by the task's rule: {by_rule}; if every reply were 1: {by_one}")
claim("the rule counts far more as right than was done right", by_rule > sum(ends) + 3)
claim("and it would count even more, if all replies were 1", by_one > by_rule)
claim(
    "whoever calls rightly answers rightly",
    all(end for call, end in zip(good, ends, strict=True) if call),
)

# %% [markdown]
# So the table's score for counting is mostly luck. Its rule reads the last number only (chapter 14), and most of these answers are 1: a call that counts in another word may well end right. Always saying 1 would do better than this assistant, as the column *guessing* says. Far fewer are done right, with the right word in the call. Copying a word that it has never seen, of several tokens, is again a matter of practice: more of it may help.
#
# ### More minutes
#
# The starter model, to which you have talked since chapter 13, was made by the same command with a longer bound, and without reinforcement. Then its fine-tuning was done anew, with twice the steps, by `chat_sft`. Its card lies beside it:

# %%
starter = json.loads((data_dir() / "starter" / "card.json").read_text(encoding="utf-8"))
better = []
for each in (card, starter):
    (stage,) = (stage for stage in each["stages"] if stage["name"] == "fine-tuning")
    print("fine-tuning:", stage["what"], "in", duration(stage["seconds"]))
for task, ours in tasks["sft"].items():
    theirs = starter["tasks"]["sft"][task]
    print(f"{task:18s} {score(ours):20s} {score(theirs)}")
    if interval(ours["right"], ours["items"])[1] < interval(theirs["right"], theirs["items"])[0]:
        better.append(task)
print("beyond doubt better:", ", ".join(better))
claim("more minutes buy spelling and counting", {"spelling", "counting"} <= {*better})
claim("and some sums in the head", "mental" in better)
alone = starter["tasks"]["sft"]["mental"]
claim("few, with luck counted in", interval(alone["right"], alone["items"])[1] < 0.25)

# %% [markdown]
# Where the intervals do not even touch, the longer run is better beyond doubt. Both models have the same size, so it takes no more layers. (The starter has also read more text. Which of the two helped, these cards cannot tell.) Sums in the head have
# begun to come, and most are still wrong: few lessons are on them (chapter 14).
#
# ## 7. What only the text says
#
# Here is a case in which pretraining must pay: when an answer stands in the text and in no conversation. The lessons are not like that: whatever they ask, they also teach. The smallest such case that we found: a text tells where 80 people live:

# %%
TOWNS = "Arles Bergen Dover Essen Faro Ghent Izmir Jena".split()
TOWNS += "Kiel Lyon Malmo Nantes Oslo Porto Riga Turin".split()
FORMS = ("{} lives in {}.", "Letters to {} go to {}.", "Where does {} live? In {}.")
rng = random.Random(0)
people = rng.sample([name.capitalize() for name in load_names() if len(name) == 6], 80)
home = {name: rng.choice(TOWNS) for name in people}


# %%
def document(number, who):
    """Twelve sentences about some of the people, always the same ones for a number."""
    rng = random.Random(number)
    return " ".join(rng.choice(FORMS).format(name, home[name]) for name in rng.choices(who, k=12))


print(document(0, people))

# %% [markdown]
# Conversations ask about the first half of them. The test asks about the other half, in the same words:

# %%
told, untold = people[:40], people[40:]


def asked_about(name):
    return [{"role": "user", "content": f"Where does {name} live?"}]


def talk(number):
    name = random.Random(number).choice(told)
    return [*asked_about(name), {"role": "assistant", "content": f"In {home[name]}."}]


tokenizer = Tokenizer.train([document(number, people) for number in range(2000)], 512)
print(talk(0))


# %% [markdown]
# Four models end in as many steps of fine-tuning. One begins with new weights. One was pretrained on documents about the first half only, the control: it knows the language of the text, but not the answers. Two were pretrained for as long on documents about all; one of them is then fine-tuned at 0.3 of the learning rates, like the control, the other at all of them, like the first.


# %%
def pretrained(who, seed, steps):
    """A small model after so many steps on documents about some people; about none: new."""
    model = GPT(GPTConfig(128, tokenizer.vocab_size, n_layer=2, n_head=2, n_kv_head=2, n_embd=64))
    init_weights(model, seed)
    trainer, ids, number = Trainer(model, steps), [], 0
    for _ in range(steps if who else 0):
        while len(ids) < 16 * 129:
            ids, number = ids + tokenizer.encode(document(number, who), bos=True), number + 1
        rows, ids = mx.array(ids[: 16 * 129]).reshape(16, 129), ids[16 * 129 :]
        trainer.step([(rows[:, :-1], rows[:, 1:])])
    return model


# %%
def fine_tune(model, steps, share):
    """With so large a share of pretraining's learning rates."""
    peaks = {"matrix_lr": 0.02, "embedding_lr": 0.2, "unembedding_lr": 0.004}
    trainer = Trainer(model, steps, **{name: share * rate for name, rate in peaks.items()})
    with ConversationLoader(talk, tokenizer, 16, 64) as batches:
        for _ in range(steps):
            trainer.step([next(batches)])


def share_right(model, who):
    prompts = [render_for_completion(tokenizer, asked_about(name)) for name in who]
    replies = Engine(model, tokenizer).generate_batch(prompts, max_tokens=16, temperature=0)
    said = [tokenizer.decode(reply.ids) for reply in replies]
    return sum(home[name] in reply for name, reply in zip(who, said, strict=True)) / len(who)


# %%
WAYS = {  # documents about whom, and the share of the rates in fine-tuning
    "no pretraining": ([], 1.0),
    "on the told half": (told, 0.3),
    "on all people": (people, 0.3),
    "on all, full rates": (people, 1.0),
}


# %%
def who_lives_where():
    steps = budget(100, quick=2)
    for seed in range(budget(2, quick=1)):
        for way, (who, share) in WAYS.items():
            model = pretrained(who, seed, steps)
            fine_tune(model, budget(60, quick=2), share)
            row = {"seed": seed, "steps": steps * bool(who), "way": way}
            yield row | {"told": share_right(model, told), "untold": share_right(model, untold)}


# %%
rows = stored("speedrun_facts", who_lives_where)
found = {way: [row["untold"] for row in rows if row["way"] == way] for way in WAYS}
draw.draw_arms(found, 1 / len(TOWNS))

# %%
for way, shares in found.items():
    of_told = [row["told"] for row in rows if row["way"] == way]
    print(f"{way:18s} told: {of_told}, untold: {shares}")
claim("all have learned what the conversations tell", min(row["told"] for row in rows) > 0.8)
readers = found["on all people"] + found["on all, full rates"]
claim("those that have read about the rest answer most questions", min(readers) > 0.5)
claim("the others guess", max(found["no pretraining"] + found["on the told half"]) < 0.2)
lost = min(found["on all people"]) > max(found["on all, full rates"])
claim("the full rates cost some of it, with either seed", lost)

# %% [markdown]
# That is what pretraining is for. Nearly every answer on the untold came from the text: the model that read as much, but only about the told half, does no better than a guess. The conversations taught only the form. At the full rates they wiped out some of what was read.
#
# It did not come easily. Until the text also held questions, such as *Where does … live?*, a model that knew it by heart answered little (`dev/LOG.md`). What is read in one form is not at once known in another. Useful models have read far more than anyone could put into conversations, in many forms.
#
# ## 8. The real one
#
# The same command makes a model of nanochat's kind, here a d12, given a GPU and its time (not measured here):
#
# ```bash
# uv run speedrun --depth 12 --dataset fineweb-edu --streaming --data smoltalk,gsm8k,arc-easy,arc-challenge,practice --tag d12
# ```
#
# Without `--minutes` there is no bound: 20 tokens a parameter, once through the conversations. Chapter 10 has reckoned what that comes to; `base_train --depth=12 --dry-run` says it for your machine.
#
# ## Exercises
#
# Run the cells above first (menu *Run*, *Run All Above Selected Cell*). The solutions are in
# [solutions/18_speedrun_solutions.ipynb](solutions/18_speedrun_solutions.ipynb).
#
# ### Exercise 18.1 — by luck?
#
# 20 minutes, ●●○. Two models answered the same questions; `first` and `second` are strings of "1" and "0", as a card keeps them. If both are equally good, each question that was gained or lost is the toss of a fair coin. Write
# `by_luck(first, second)`: return the gained, the lost, and the chance that so many coins fall *as unevenly as this or more*, to whichever side. For strings of different lengths let a `ValueError` through.
#
# <details><summary>Hint 1</summary>Only gained and lost count: $n$ of them, and the smaller of the two is $k$. The chance that $n$ coins show exactly $j$ heads is $\binom{n}{j}/2^n$, `math.comb(n, j) / 2**n`.</details>
#
# <details><summary>Hint 2</summary>Add up $j = 0 \dots k$, and double it for the other side. Where gained and lost are equal, the middle is counted twice: take at most 1.</details>


# %% tags=["exercise"]
def by_luck(first, second):
    raise NotImplementedError


# %%
check(exercises.by_luck, by_luck)

# %% [markdown]
# ### Exercise 18.2 — how many minutes?
#
# 15 minutes, ●○○. Turn the plan round. A model of depth 4 trains at `speed` tokens a second, and `share` of the time is training. Write `minutes_needed(depth, ratio, speed, share)`: how many minutes, all in all, until a model of `depth` layers has seen `ratio` tokens for each parameter?
# `GPTConfig.from_depth(depth, **SIZE)` is the model.
#
# <details><summary>Hint 1</summary>How many tokens is that? How many of them does this depth do in a second, if time goes with the FLOPs per token?</details>
#
# <details><summary>Hint 2</summary>Tokens: `ratio * count_parameters(config)`. Speed: `speed` times `flops_per_token` of depth 4, divided by its own. Then seconds of training, then `share`, then minutes.</details>


# %% tags=["exercise"]
def minutes_needed(depth, ratio, speed, share):
    raise NotImplementedError


# %%
check(exercises.minutes_needed, minutes_needed)

# %% [markdown]
# ### Exercise 18.3 — once
#
# 20 minutes, ●●○. Write `once(folder, name, work)`: call `work()`, which returns a text, and return that text. Called again with the same `folder` (a `Path`) and `name`, do not work again, but return the text of before. Whoever is killed at any moment, and called again, must end with a whole stage: never
# a half one that is taken for done.
#
# <details><summary>Hint 1</summary>Write the text to a file in the folder, after the work. What if you are killed when half of the file is written?</details>
#
# <details><summary>Hint 2</summary>Write it under another name first, with `Path.write_text`. `Path.rename` then gives it its own name at one stroke.</details>


# %% tags=["exercise"]
def once(folder, name, work):
    raise NotImplementedError


# %%
check(exercises.once, once)

# %% [markdown]
# ## Summary
#
# - A plan chooses the depth before the first step and keeps it. The steps follow the clock, and so do the learning rates.
# - A stage is done when a file says so, which is written last and at one stroke.
# - One table over the stages, on the same questions, with intervals: that is a report.
# - What a stage has brought, only a control can tell, question by question; of a dozen comparisons some differ by luck.
# - Lessons teach what they ask. Pretraining must pay for what only the text says.
# - A score can be luck: of counting, most was the commonest answer.
#
# ## Pitfalls
#
# - Samples that were chosen after seeing them. Fix the questions first.
# - "It was pretrained, and it answers": without a control that says nothing about why.
# - "0 %": of how many?
# - A plan that is made anew on the second call: another speed, another depth, another model.
# - A score on your own templates, reported without the blind one.
#
# ## Further reading
#
# - [Training compute-optimal language models](https://arxiv.org/abs/2203.15556), Hoffmann et al., 2022: where 20 tokens a parameter come from.
# - [Physics of Language Models: Part 3.1](https://arxiv.org/abs/2309.14316), Allen-Zhu and Li, 2023: what a model must read, and how often, so that it can be asked about it later. Section 7 is a tiny relative of theirs.
# - [nanochat](https://github.com/karpathy/nanochat): the speedrun of October 2025 and its report card are the models of these; the report was removed in July 2026.
#
# **You have built all of it.** Start a speedrun, and talk to what comes out: `uv run speedrun --minutes 5`, then `uv run chat_web --tag speedrun`.
#
# **Next:** [19 · Memory and speed of a large model](19_memory.ipynb), the first chapter of Part IV: what happens when the model grows.
