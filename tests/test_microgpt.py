"""microGPT is the model of its source, trains as a float64 reference does, and its program keeps its promises."""

import functools
import inspect
import math
import os
import random
import re
import subprocess
import sys

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import numpy_microgpt as reference
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlx.utils import tree_flatten, tree_unflatten
from screens import run_in_terminal

from course_lib import backend
from course_lib.classroom.exercises import microgpt as exercises
from course_lib.host.errors import CourseError
from course_lib.names.bigram import CharTokenizer, load_names, split_names
from course_lib.names.microgpt import (
    MLP,
    MicroGPT,
    MicroGPTConfig,
    compiling_pays,
    cosine_decay,
    evaluate,
    example,
    generate,
    init_weights,
    loss_fn,
    train,
)
from course_lib.scripts.microgpt import Settings

NAMES = split_names(load_names())[0]
TOKENIZER = CharTokenizer(load_names())


def model_of(seed=0, **sizes):
    backend.seed_everything(seed)
    return MicroGPT(MicroGPTConfig(**sizes))


def randomised(model):
    """Every matrix random, also those that start at zero, so that nothing hides."""
    model.apply(nn.init.normal(std=0.3))
    return model


def float64_weights(model):
    return {name: np.array(array, dtype=np.float64) for name, array in tree_flatten(model.parameters())}


def test_parameters_and_their_names():
    shapes = {name: array.shape for name, array in tree_flatten(MicroGPT(MicroGPTConfig()).parameters())}
    assert shapes == {
        "wte.weight": (27, 16),
        "wpe.weight": (8, 16),
        "layers.0.attn.wq.weight": (16, 16),
        "layers.0.attn.wk.weight": (16, 16),
        "layers.0.attn.wv.weight": (16, 16),
        "layers.0.attn.wo.weight": (16, 16),
        "layers.0.mlp.fc1.weight": (64, 16),
        "layers.0.mlp.fc2.weight": (16, 64),
        "lm_head.weight": (27, 16),
    }
    assert sum(math.prod(shape) for shape in shapes.values()) == 4064


def test_starting_values():
    weights = float64_weights(model_of(n_embd=64))
    for name, array in weights.items():
        if "wo" in name or "fc2" in name:
            assert not array.any(), name
        else:
            assert 0.017 < array.std() < 0.023, name


@pytest.mark.parametrize("sizes", [{}, {"n_head": 1}, {"n_head": 16}, {"n_embd": 24, "n_head": 3, "block_size": 16}])
def test_loss_and_gradients_equal_the_float64_reference(sizes):
    model = randomised(model_of(**sizes))
    ids, targets = example("maximilian", TOKENIZER, model.config.block_size)
    loss, gradients = nn.value_and_grad(model, loss_fn)(model, mx.array(ids), mx.array(targets))
    expected, expected_gradients = reference.loss_and_grads(float64_weights(model), ids, targets, model.config.n_head)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    for name, gradient in tree_flatten(gradients):
        np.testing.assert_allclose(np.array(gradient), expected_gradients[name], rtol=2e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("compiled, learning_rate", [(False, 1e-2), (True, 1e-2), (False, 3e-3)])
def test_training_follows_the_float64_reference(compiled, learning_rate):
    model = model_of(seed=1)
    weights = float64_weights(model)
    docs = NAMES[:25]  # fewer than steps: training starts again at the first
    losses = train(model, docs, TOKENIZER, 60, learning_rate, compiled=compiled)
    examples = [example(name, TOKENIZER, 8) for name in docs]
    expected = reference.train(weights, examples, 60, learning_rate, n_head=4)
    np.testing.assert_allclose(losses, expected, rtol=2e-3)
    for name, array in tree_flatten(model.parameters()):
        np.testing.assert_allclose(np.array(array), weights[name], atol=5e-3, err_msg=name)


def test_the_step_is_compiled_when_asked_or_when_it_pays(monkeypatch):
    compiled = []
    monkeypatch.setattr(mx, "compile", lambda step, **_: compiled.append(step) or step)
    monkeypatch.setattr(backend, "device_kind", lambda: "cpu")
    for asked, expected in ((False, 0), (None, 0), (True, 1)):
        train(model_of(), NAMES, TOKENIZER, 2, compiled=asked)
        assert len(compiled) == expected
    assert compiling_pays(10_000) and not compiling_pays(500)
    monkeypatch.setattr(backend, "device_kind", lambda: "metal")
    assert compiling_pays(500)


def test_the_defaults_are_those_of_the_source():
    defaults = {name: p.default for name, p in inspect.signature(train).parameters.items()}
    assert (defaults["num_steps"], defaults["learning_rate"]) == (500, 1e-2)
    assert inspect.signature(generate).parameters["temperature"].default == 0.5
    settings = Settings()
    assert (settings.steps, settings.samples, settings.temperature, settings.seed) == (500, 20, 0.5, 42)


@pytest.mark.slow
def test_500_steps_land_in_the_expected_band():
    model = model_of(seed=42)
    losses = train(model, NAMES, TOKENIZER)
    assert len(losses) == 500
    assert losses[0] == pytest.approx(math.log(27), abs=0.1)
    assert 2.2 < sum(losses[-50:]) / 50 < 2.75
    assert evaluate(model, split_names(load_names())[1][:200], TOKENIZER) < 2.75


def test_batches_and_single_names_give_the_same_logits():
    model = randomised(model_of(n_layer=2))
    ids = mx.random.randint(0, 27, (5, 8))
    batch = model(ids)
    assert batch.shape == (5, 8, 27) and model(ids[0]).shape == (8, 27)
    for row in range(5):
        assert mx.allclose(batch[row], model(ids[row]), atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 26), min_size=2, max_size=8), st.data())
def test_changing_an_id_never_changes_logits_before_it(ids, data):
    model = randomised(model_of())
    place = data.draw(st.integers(1, len(ids) - 1))
    changed = list(ids)
    changed[place] = (ids[place] + 1) % 27
    a, b = model(mx.array(ids)), model(mx.array(changed))
    assert mx.array_equal(a[:place], b[:place])
    assert not mx.allclose(a[place], b[place], atol=1e-4)


def test_examples_are_shifted_by_one_and_cut():
    bos = TOKENIZER.bos
    assert example("ab", TOKENIZER, 8) == ([bos, 0, 1], [0, 1, bos])
    assert example("abcdefghijk", TOKENIZER, 8) == ([bos, *range(7)], list(range(8)))
    assert example("abcdefgh", TOKENIZER, 8)[1] == list(range(8)), "eight letters: no room for the closing BOS"


def test_cosine_decay_at_its_edges():
    assert cosine_decay(0, 500) == 1
    assert cosine_decay(125, 500) == pytest.approx((1 + math.sqrt(0.5)) / 2)
    assert cosine_decay(500, 500) == pytest.approx(0, abs=1e-15)


def test_evaluate_weighs_characters_not_names():
    model = randomised(model_of())
    names = ["al", "katharina"]
    total = sum(
        loss_fn(model, *map(mx.array, example(n, TOKENIZER, 8))).item() * len(example(n, TOKENIZER, 8)[0])
        for n in names
    )
    assert evaluate(model, names, TOKENIZER) == pytest.approx(total / (3 + 8), rel=1e-5)


# ---- sampling


def fixed(logits):
    """A model that always gives these logits."""
    model = model_of()
    model.wte.weight, model.wpe.weight = mx.ones((27, 16)), mx.zeros((8, 16))
    model.lm_head.weight = mx.repeat(mx.array(logits)[:, None] / 16, 16, axis=1)  # the normed vector is all ones
    return model


@pytest.mark.slow
def test_the_first_letter_is_drawn_from_the_softmax_of_logits_over_temperature():
    logits = [0.0, 1.0, 2.0] + [-30.0] * 23 + [0.5]
    model, temperature, draws = fixed(logits), 2.0, 3000
    counts = dict.fromkeys(["a", "b", "c", ""], 0)
    for key in mx.random.split(mx.random.key(0), draws):
        counts[generate(model, TOKENIZER, temperature, key)[:1]] += 1
    weights = np.exp(np.array([0.0, 1.0, 2.0, 0.5]) / temperature)
    expected = draws * weights / weights.sum()
    chi_square = ((np.array(list(counts.values())) - expected) ** 2 / expected).sum()
    assert chi_square < 16.27, f"3 degrees of freedom at 0.1 %: {chi_square}"


def test_temperature_zero_takes_the_likeliest_and_block_size_ends_a_name():
    model = fixed([0.0, 3.0] + [0.0] * 25)
    assert generate(model, TOKENIZER, temperature=0) == "b" * 8


def test_bos_ends_a_name():
    assert generate(fixed([0.0] * 26 + [30.0]), TOKENIZER) == ""


def test_the_same_key_writes_the_same_name():
    model = randomised(model_of())
    names = [generate(model, TOKENIZER, 1.0, mx.random.key(n)) for n in range(8)]
    assert names == [generate(model, TOKENIZER, 1.0, mx.random.key(n)) for n in range(8)]
    assert len(set(names)) > 4


def test_each_letter_is_drawn_anew():
    model = fixed([0.0] * 26 + [-30.0])
    names = [generate(model, TOKENIZER, 1.0, key) for key in mx.random.split(mx.random.key(0), 20)]
    assert sum(len(set(name)) > 3 for name in names) > 15, names


# ---- what cannot work


@pytest.mark.parametrize(
    "sizes, words", [({"n_embd": 10}, "n_head=4"), ({"n_layer": 0}, "n_layer=0"), ({"block_size": -1}, "block_size=-1")]
)
def test_sizes_that_cannot_work_are_refused(sizes, words):
    with pytest.raises(CourseError, match=words):
        MicroGPTConfig(**sizes)


def test_more_ids_than_the_model_sees_are_refused():
    with pytest.raises(CourseError, match="9 ids, but the model sees block_size=8"):
        model_of()(mx.zeros((9,), dtype=mx.int32))


def test_training_on_nothing_is_refused():
    for docs, steps, tokenizer, words in (
        ([], 5, TOKENIZER, "no names"),
        (NAMES, 0, TOKENIZER, "num_steps=0"),
        (NAMES, 5, CharTokenizer(["abc"]), "4 ids, the model 27"),
    ):
        with pytest.raises(CourseError, match=words):
            train(model_of(), docs, tokenizer, steps)


@pytest.mark.parametrize("temperature", [-0.5, math.nan, math.inf])
def test_a_temperature_that_cannot_be_is_refused(temperature):
    with pytest.raises(CourseError, match="temperature="):
        generate(model_of(), TOKENIZER, temperature)


# ---- the program


def program(*flags, module=("-m", "course_lib.scripts.microgpt"), cwd=None):
    environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": "100"}
    return subprocess.run(
        [sys.executable, *module, *map(str, flags)], capture_output=True, text=True, env=environment, cwd=cwd
    )


@pytest.mark.slow
def test_the_program_prints_what_the_readme_says():
    done = program()
    assert done.returncode == 0 and done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[:3] == [f"num docs: {len(load_names())}", "vocab size: 27", "num params: 4064"]
    steps = [re.fullmatch(r"step +(\d+) /  500 \| loss (\d\.\d{4})", line) for line in lines[3:503]]
    assert [int(step[1]) for step in steps] == list(range(1, 501))
    losses = [float(step[2]) for step in steps]
    assert lines[3].startswith("step    1 /  500 | loss 3.") and abs(losses[0] - math.log(27)) < 0.3
    assert sum(losses[-50:]) / 50 < 2.75
    samples = [re.fullmatch(r"sample +(\d+): ([a-z]{0,8})", line) for line in lines[503:]]
    assert [int(sample[1]) for sample in samples] == list(range(1, 21))
    assert len({sample[2] for sample in samples}) > 10


@pytest.mark.slow
def test_a_person_who_watches_sees_every_tenth_step_and_what_came_of_it():
    command = [sys.executable, "-m", "course_lib.scripts.microgpt", "--steps", "120", "--samples", "6"]
    piped = program(*command[3:]).stdout.splitlines()
    code, shown, _ = run_in_terminal(command)
    lines = shown.splitlines()
    end = lines.index("")
    assert code == 0 and lines[:end] == piped[:3] + piped[12:123:10] + piped[123:]
    losses = [float(line.split()[-1]) for line in piped[3:123]]
    first, last = sum(losses[:50]) / 50, sum(losses[-50:]) / 50
    invented = {line.split(": ")[1] for line in piped[123:]} - set(load_names())
    assert f"from {first:.2f} to {last:.2f} (" in lines[end + 1] and f" invented {len(invented)}:" in lines[end + 2]
    assert all(len(line) <= 80 for line in lines) and "`uv run speedrun`" in lines[-1]
    assert run_in_terminal([*command, "--verbose"])[1].splitlines()[: len(piped)] == piped


@pytest.mark.slow
def test_the_same_seed_gives_the_same_output_and_another_seed_another():
    first, second = program("--steps", 20, "--quiet"), program("--steps", 20, "--quiet")
    assert first.stdout == second.stdout
    assert program("--steps", 20, "--quiet", "--seed", 7).stdout != first.stdout


def test_names_are_shuffled_and_weights_drawn_by_the_seed():
    docs = load_names()
    random.Random(7).shuffle(docs)
    expected = train(model_of(seed=7), docs, TOKENIZER, 5)
    lines = program("--steps", 5, "--seed", 7, "--samples", 0).stdout.splitlines()
    assert [line.split("loss ")[1] for line in lines[3:]] == [f"{loss:.4f}" for loss in expected]


@pytest.mark.slow
def test_quiet_prints_every_50th_step(tmp_path):
    lines = program("--steps", 120, "--quiet", "--samples", 0).stdout.splitlines()
    assert [line.split(" | ")[0] for line in lines[3:]] == ["step   50 /  120", "step  100 /  120"]


def test_temperature_zero_is_greedy():
    lines = program("--steps", 30, "--quiet", "--temperature", 0, "--samples", 3).stdout.splitlines()
    assert len({line.split(": ")[1] for line in lines[-3:]}) == 1


def test_names_of_ones_own(tmp_path):
    file = tmp_path / "own.txt"
    file.write_text("abba\nbaba\nabab\n")
    done = program("--names", file, "--steps", 10, "--samples", 2)
    assert done.stdout.splitlines()[:2] == ["num docs: 3", "vocab size: 3"]
    assert all(set(line.split(": ")[1]) <= {"a", "b"} for line in done.stdout.splitlines()[-2:])


@pytest.mark.slow
@pytest.mark.parametrize("content", [None, b"", b"\n \n", b"\xff\xfe\x00", b"zo\xeb\n", b"an\x00na\n"])
def test_a_names_file_that_cannot_be_used_is_one_sentence_and_exit_code_1(tmp_path, content):
    file = tmp_path / "names.txt"
    if content is not None:
        file.write_bytes(content)
    done = program("--names", file)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("microgpt: ") and done.stderr.count("\n") == 1 and "names.txt" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags",
    [
        ("--steps", "0"),
        ("--steps", "-5"),
        ("--temperature", "-1"),
        ("--temperature", "nan"),
        ("--temperature", "inf"),
        ("--samples", "-1"),
        ("--seed", "-1"),
    ],
)
def test_flags_out_of_range_are_one_sentence_and_exit_code_2(flags):
    done = program(*flags)
    assert done.returncode == 2 and done.stdout == ""
    value = float(flags[1]) if flags[0] == "--temperature" else flags[1]
    least = 1 if flags[0] == "--steps" else 0
    assert done.stderr == f"microgpt: {flags[0]} is {value}, expected {least} or more\n"


@pytest.mark.slow
@pytest.mark.parametrize("flags", [("--step", "5"), ("--steps", "five"), ("--steps",), ("extra",)])
def test_wrong_flags_exit_with_2_and_show_no_traceback(flags):
    done = program(*flags)
    assert done.returncode == 2 and "Traceback" not in done.stdout + done.stderr


def test_help_names_every_flag():
    done = program("--help")
    assert done.returncode == 0
    for flag in ("--steps", "--samples", "--temperature", "--seed", "--names", "--quiet", "--verbose"):
        assert flag in done.stdout


@pytest.mark.slow
def test_a_reader_that_goes_away_ends_the_program_quietly():
    command = f"{sys.executable} -m course_lib.scripts.microgpt | head -n 2"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.stdout.startswith("num docs") and done.stderr == ""


@pytest.mark.slow
def test_a_full_disk_behind_stdout_is_one_sentence():
    if not os.path.exists("/dev/full"):  # macOS has none
        return
    command = f"{sys.executable} -m course_lib.scripts.microgpt --steps 3 > /dev/full"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "No space left" in done.stderr


@pytest.mark.slow
def test_a_closed_stdout_is_no_error():
    command = f"{sys.executable} -m course_lib.scripts.microgpt --steps 3 --samples 1 >&-"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""


@pytest.mark.slow
def test_the_text_of_the_chapter_is_the_program_too(checkout, tmp_path):
    text = checkout / "notebooks" / "text" / "03_microgpt.py"
    done = program("--steps", 60, "--samples", 4, "--quiet", module=(str(text),), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "" and "step   50 /   60 | loss" in done.stdout
    assert len(re.findall(r"^sample +\d+: ", done.stdout, flags=re.MULTILINE)) == 4


# ---- the checks of the exercises: right answers pass, and the message for a wrong one names the mistake


def count(c, tables=2, attention=4, mlp=8, places=True, more=0):
    """What a learner might count; each argument is a place to go wrong."""
    C = c.n_embd
    return (tables * c.vocab_size + places * c.block_size) * C + c.n_layer * (attention + mlp) * C * C + more


def attention_of(q, k, v, scaled=0.5, causal=True, normalised=True, width=None, itself=True):
    """One head with plain loops, with a switch for each usual slip."""
    mixed = []
    for t, query in enumerate(q):
        seen = range(t + itself or 1) if causal else range(len(k))
        scores = [sum(map(float.__mul__, query, k[s])) / len(query) ** scaled for s in seen]
        weights = [math.exp(score - (max(scores) if normalised else 0)) for score in scores]
        total = sum(weights) if normalised else 1
        mixed.append(
            [sum(w * v[s][n] for w, s in zip(weights, seen, strict=True)) / total for n in range(width or len(v[0]))]
        )
    return mixed


def ready_made(q, k, v):
    arrays = (mx.array(matrix)[None, None] for matrix in (q, k, v))
    scores = (mx.array(q) @ mx.array(k).T) / math.sqrt(len(q[0])) + mx.triu(mx.full((len(q), len(q)), -mx.inf), k=1)
    same = len(v[0]) == len(q[0])
    theirs = mx.fast.scaled_dot_product_attention(*arrays, scale=len(q[0]) ** -0.5, mask="causal") if same else None
    return (theirs[0, 0] if same else mx.softmax(scores, axis=1) @ mx.array(v)).tolist()


def kept_loop(model, tokenizer, start, temperature, key):
    """`generate` with other ids to begin with, and its loop as it was."""
    ids = tokenizer.encode(start)[:-1]
    for _ in range(model.config.block_size):
        key, step_key = mx.random.split(key)
        ids.append(mx.random.categorical(model(mx.array(ids))[-1] / temperature, key=step_key).item())
    return tokenizer.decode(ids)


def finish(
    model, tokenizer, start, temperature, key, begin=None, end=True, anew=True, limit=9, whole=True, coldest=True
):
    """A name that begins with `start`, with a switch for each usual slip."""
    ids = tokenizer.encode(start)[:-1] if begin is None else begin(tokenizer.encode(start))
    while len(ids) < limit:
        if anew:
            key, step_key = mx.random.split(key)
        logits = model(mx.array(ids))[-1]
        if temperature == 0 and coldest:
            next_id = mx.argmax(logits).item()
        else:
            next_id = mx.random.categorical(logits / temperature, key=step_key if anew else key).item()
        if next_id == tokenizer.bos and end:
            break
        ids.append(next_id)
    return tokenizer.decode(ids)[0 if whole else len(start) :]


class PlainMLP(MLP):
    def __call__(self, x):
        return self.fc2(mx.maximum(self.fc1(x), 0))


def plain(config, layers=None, anew=True, mlp=PlainMLP):
    model = MicroGPT(config)
    for layer in model.layers[:layers]:
        layer.mlp = mlp(config)
    if anew:
        init_weights(model)
    return model


class AbsMLP(MLP):
    def __call__(self, x):
        return self.fc2(mx.abs(self.fc1(x)))


def half_anew(config):
    """Zeros where the model has zeros, and no other starting values."""
    model = plain(config, anew=False)
    for layer in model.layers:
        layer.mlp.fc2.weight = mx.zeros_like(layer.mlp.fc2.weight)
    return model


def test_the_checks_accept_right_answers():
    assert "n_head" in exercises.parameters_of(count)
    assert exercises.attend(attention_of) and exercises.finish(finish) and exercises.plain_relu_model(plain)


def test_a_head_that_overflows_is_told():
    def careless(q, k, v):
        weights = [[math.exp(sum(map(float.__mul__, a, b))) for b in k] for a in q]
        return attention_of(q, k, v) if weights else None

    assert "subtract the largest" in exercises.attend(careless)


@pytest.mark.parametrize(
    ("check", "answer", "said"),
    [
        (exercises.parameters_of, lambda c: None, "forget the return"),
        (exercises.parameters_of, lambda c: count(c) / 1, "return an int"),
        (exercises.parameters_of, lambda c: count(c, tables=1), "untied"),
        (exercises.parameters_of, lambda c: count(c, places=False), "wpe"),
        (exercises.parameters_of, lambda c: count(c, attention=3), "wq, wk, wv and wo"),
        (exercises.parameters_of, lambda c: count(c, mlp=4), "the MLP has two matrices"),
        (exercises.parameters_of, lambda c: count(c, mlp=2), "four times as wide"),
        (exercises.parameters_of, lambda c: count(c, attention=4 * c.n_head), "heads add nothing"),
        (exercises.parameters_of, lambda c: count(c, attention=4 // c.n_head), "heads take nothing away"),
        (exercises.parameters_of, lambda c: count(c, more=(2 * c.n_layer + 1) * c.n_embd), "norms"),
        (exercises.parameters_of, lambda c: count(c, more=27 + 9 * 16), "bias"),
        (exercises.parameters_of, lambda c: 4064, "whatever the sizes are"),
        (exercises.parameters_of, lambda c: count(MicroGPTConfig()), "whatever the sizes are"),
        (exercises.parameters_of, lambda c: count(c) - (c.n_layer - 1) * 12 * c.n_embd**2, "multiply by n_layer"),
        (
            exercises.parameters_of,
            lambda c: sum(array.size for _, array in tree_flatten(MicroGPT(c).parameters())),
            "by making the model",
        ),
        (exercises.parameters_of, lambda c: c.n_layer * 4064, "once for each layer"),
        (exercises.parameters_of, lambda c: 4000 + 64 * c.n_layer**2, "with {'n_layer': 3} the model has"),
        (exercises.attend, lambda q, k, v: None, "return a list"),
        (exercises.attend, lambda q, k, v: np.array(v).T.tolist(), "lists of"),
        (exercises.attend, lambda q, k, v: attention_of(k, q, v), "swap q and k"),
        (exercises.attend, lambda q, k, v: attention_of(q, v, k), "swapped k and v"),
        (exercises.attend, lambda q, k, v: attention_of(q, k, k), "not the keys"),
        (exercises.attend, lambda *qkv: attention_of(*qkv, scaled=0), "divide each score"),
        (exercises.attend, lambda *qkv: attention_of(*qkv, scaled=1), "square root"),
        (exercises.attend, lambda *qkv: attention_of(*qkv, normalised=False), "sum to 1"),
        (exercises.attend, lambda *qkv: attention_of(*qkv, causal=False), "those before it only"),
        (exercises.attend, lambda *qkv: attention_of(*qkv, itself=False), "looks at itself, too"),
        (exercises.attend, lambda q, k, v: attention_of(q, k, v, width=len(q[0])), "take it from v"),
        (exercises.attend, ready_made, "plain Python loops"),
        (exercises.attend, lambda q, k, v: (np.cumsum(v, 0) / np.arange(1, len(v) + 1)[:, None]).tolist(), "off by"),
        (exercises.attend, lambda q, k, v: [[2 * x for x in row] for row in attention_of(q, k, v)], "own value"),
        (exercises.finish, lambda *args: finish(*args, whole=False), "begins with 'em'"),
        (exercises.finish, lambda m, t, start, *rest: finish(m, t, "", *rest), "begins with 'em'"),
        (exercises.finish, lambda *args: TOKENIZER.encode(finish(*args)), "as text"),
        (exercises.finish, lambda m, t, start, *rest: start + generate(m, t, *rest), "more than block_size"),
        (exercises.finish, lambda m, t, start, *rest: (start + finish(m, t, "", *rest))[:8], "has the model read"),
        (exercises.finish, lambda m, t, start, temperature, key: finish(m, t, start, 1e-9, key), "other keys"),
        (
            exercises.finish,
            lambda m, t, start, temperature, key: finish(m, t, start, 1, key),
            "temperature is close to 0",
        ),
        (exercises.finish, lambda *args: finish(*args[:4], mx.random.key(random.getrandbits(32))), "the same key"),
        (exercises.finish, lambda *args: finish(*args, anew=False), "split the key"),
        (
            exercises.finish,
            lambda *args: finish(*args, begin=lambda ids: ids[1:-1] or ids[:1], limit=8),
            "has the model read",
        ),
        (exercises.finish, lambda *args: finish(*args, limit=8), "you return"),
        (exercises.finish, lambda *args: finish(*args, begin=lambda ids: ids[1:-1]), "does the model read BOS first"),
        (exercises.finish, kept_loop, "fewer draws are left"),
        (exercises.finish, lambda *args: finish(*args, coldest=False), "at temperature 0"),
        (exercises.plain_relu_model, lambda c: None, "return a MicroGPT"),
        (exercises.plain_relu_model, lambda c: MicroGPT(c), "still squares the ReLU"),
        (exercises.plain_relu_model, lambda c: plain(MicroGPTConfig()), "make it from `config`"),
        (exercises.plain_relu_model, lambda c: plain(c, mlp=AbsMLP), "should be fc2"),
        (exercises.plain_relu_model, half_anew, "call init_weights"),
        (exercises.plain_relu_model, lambda c: plain(c, anew=False), "fc2 starts at zero"),
        (exercises.plain_relu_model, lambda c: plain(c, layers=1), "in every layer"),
        (exercises.plain_relu_model, lambda c: plain(c, mlp=functools.cache(PlainMLP)), "share one MLP"),
    ],
)
def test_the_checks_name_the_mistake(check, answer, said):
    with pytest.raises(AssertionError, match=re.escape(said)):
        check(answer)


def test_weights_travel_through_a_tree(tmp_path):
    model = randomised(model_of())
    mx.save_safetensors(str(tmp_path / "w.safetensors"), dict(tree_flatten(model.parameters())))
    other = model_of(seed=9)
    other.update(tree_unflatten(list(mx.load(str(tmp_path / "w.safetensors")).items())))
    ids = mx.array([26, 1, 2, 3])
    assert mx.array_equal(model(ids), other(ids))
