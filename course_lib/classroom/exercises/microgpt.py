"""Checks for the exercises of notebook 03."""

import math
import random
from types import CodeType

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from course_lib.host.errors import CourseError
from course_lib.names.bigram import CharTokenizer
from course_lib.names.microgpt import MicroGPT, MicroGPTConfig


def parameters_of(answer) -> str:
    """Exercise 3.1."""
    first, deep, wide = (answer(MicroGPTConfig(**sizes)) for sizes in ({}, {"n_layer": 3}, {"n_embd": 32}))
    fixed = first == deep == wide
    for sizes in ({}, {"n_layer": 3}, {"block_size": 16}, {"n_head": 2}, {"n_embd": 32, "vocab_size": 50}):
        config = MicroGPTConfig(**sizes)
        counted, expected = answer(config), _size_of(MicroGPT(config))
        assert counted is not None, "it returned None; did you forget the return?"
        assert isinstance(counted, int), f"return an int, not {type(counted).__name__}"
        assert not fixed or not sizes or counted == expected, (
            f"you count {counted:,} whatever the sizes are, but with {sizes} it is {expected:,}: "
            "use the numbers of `config`, the argument"
        )
        which = f"with {sizes}" if sizes else "with the default sizes"
        assert counted == expected, (
            f"{which} the model has {expected:,}, you count {counted:,}{_likely_miscount(config, counted - expected)}"
        )
    config = MicroGPTConfig(n_embd=2**40)  # far too wide to be made
    expected = (2 * config.vocab_size + config.block_size) * config.n_embd + 12 * config.n_embd**2
    try:
        counted = answer(config)
    except Exception:
        counted = None
    assert counted == expected, (
        "the numbers are right, but found by making the model: no machine holds one with n_embd = 2**40, and "
        "arithmetic can count it all the same"
    )
    return "Did you need n_head? Heads only share out the width that is there."


def _size_of(model: nn.Module) -> int:
    return sum(array.size for _, array in tree_flatten(model.parameters()))


def _likely_miscount(config: MicroGPTConfig, wrong_by: int) -> str:
    """The part whose size, or a simple multiple of it, is what a count is wrong by; empty when none is."""
    C, V, T = config.n_embd, config.vocab_size, config.block_size
    layers, square = config.n_layer, C * C
    for amount, words in (
        (-V * C, "; one table of the letters is missing: wte and lm_head are untied, so both count"),
        (-T * C, "; the table of the places, wpe, is missing"),
        (-V * C - T * C, "; two of the three tables are missing: wte, wpe, lm_head"),
        (V + layers * (9 * C), "; no matrix here has a bias"),
        (-layers * square, "; attention has four matrices: wq, wk, wv and wo"),
        (-layers * 4 * square, "; the MLP has two matrices, there and back, and attention has four"),
        (-layers * 6 * square, "; the MLP is four times as wide inside: 4C × C there and C × 4C back"),
        (layers * 4 * square * (config.n_head - 1), "; heads add nothing, they cut one width into parts"),
        (layers * 4 * square // config.n_head - layers * 4 * square, "; heads take nothing away, they cut one width"),
        ((2 * layers + 1) * C, "; the norms have no weights"),
        (-(layers - 1) * 12 * square, "; each layer has matrices of its own: multiply by n_layer"),
        ((layers - 1) * (2 * V + T) * C, "; the tables are there once, not once for each layer"),
    ):
        if amount and wrong_by == amount:
            return words
    return ""


def attend(answer) -> str:
    """Exercise 3.2."""
    generator = random.Random(0)
    for length, width, out in ((2, 3, 3), (5, 4, 4), (1, 2, 2), (4, 2, 3)):
        q, k, v = ([[generator.uniform(-2, 2) for _ in range(n)] for _ in range(length)] for n in (width, width, out))
        got = answer(q, k, v)
        assert isinstance(got, list), f"return a list of lists, not {type(got).__name__}"
        assert len(got) == length and all(len(row) == out for row in got), (
            f"for {length} values of {out} numbers return {length} lists of {out} numbers"
            + ("; queries have another width here, so take it from v" if out != width else "")
        )
        expected = _attention(q, k, v)
        worst = _distance(got, expected)
        assert worst < 1e-4, f"it is off by up to {worst:.3g}{_likely_slip(got, q, k, v)}"
        if out != width:
            continue  # MLX's attention wants one width
        arrays = (mx.array(matrix)[None, None] for matrix in (q, k, v))
        mlx = mx.fast.scaled_dot_product_attention(*arrays, scale=1 / math.sqrt(width), mask="causal")[0, 0]
        assert _distance(got, mlx.tolist()) < 1e-2, "it differs from MLX's attention"  # a GPU may keep three digits
    ready = _names(answer.__code__) & {"mx", "mlx", "np", "nn", "numpy", "softmax", "scaled_dot_product_attention"}
    assert not ready, f"the numbers are right; now with plain Python loops over the lists, without {min(ready)}"
    large = [[100.0, 0.0], [0.0, 100.0]]
    try:
        answer(large, large, large)
    except OverflowError:
        return (
            "But large scores overflow math.exp: subtract the largest of a row from all of it, which changes no weight."
        )
    return "Twice as many positions make about four times as many scores: that is what a long context costs."


def _names(code: CodeType) -> set[str]:
    """The global names and attributes that a function uses, its inner functions included."""
    inner = (_names(const) for const in code.co_consts if isinstance(const, CodeType))
    return {*code.co_names, *code.co_freevars}.union(*inner)


def _attention(q, k, v, scale=0.5, causal=True, normalised=True, itself=True) -> list[list[float]]:
    """One head; scale: the power of the length of a query by which the scores are divided."""
    outputs = []
    for t, query in enumerate(q):
        seen = range(t + 1 if causal else len(k)) if itself else range(max(t, 1))
        scores = [sum(a * b for a, b in zip(query, k[s], strict=True)) / len(query) ** scale for s in seen]
        weights = [math.exp(score) for score in scores]
        total = sum(weights) if normalised else 1.0
        outputs.append([sum(w * v[s][n] for w, s in zip(weights, seen, strict=True)) / total for n in range(len(v[0]))])
    return outputs


def _distance(one: list[list[float]], other: list[list[float]]) -> float:
    return max(abs(a - b) for x, y in zip(one, other, strict=True) for a, b in zip(x, y, strict=True))


def _likely_slip(got, q, k, v) -> str:
    """The mistake that gives just these numbers; empty when it is none of the usual ones."""
    if len(q) > 1 and _distance(got[1:], _attention(q, k, v, itself=False)[1:]) < 1e-6:
        return "; a position looks at itself, too: loop over s from 0 to t, with t"
    for wrong, words in (
        (_attention(q, k, v, scale=0), "; divide each score by the square root of the query's length"),
        (_attention(q, k, v, scale=1), "; divide by the *square root* of the query's length, not by the length"),
        (_attention(q, k, v, normalised=False), "; the weights of a position must sum to 1: divide by their sum"),
        (_attention(q, k, v, causal=False), "; a position may look at itself and those before it only"),
        (_attention(k, q, v), "; the query is of the position that looks, the keys of those it looks at: swap q and k"),
        (_attention(q, v, k), "; scores come from q and k, and the weights mix v: you swapped k and v"),
        (_attention(q, k, k), "; the weights mix the values v, not the keys"),
    ):
        if _distance(got, wrong) < 1e-6:
            return words
    if _distance(got[:1], v[:1]) > 1e-6:
        return "; position 0 can look at itself only, so its output must be its own value"
    return ""


def finish(answer) -> str:
    """Exercise 3.3."""
    tokenizer = CharTokenizer(["abcdefghijklmnopqrstuvwxyz"])
    mx.random.seed(3)
    model = MicroGPT(MicroGPTConfig())
    model.apply(nn.init.normal(std=0.2))
    keys = mx.random.split(mx.random.key(0), 4)

    def write(start: str, temperature: float, key: mx.array, model: MicroGPT = model) -> str:
        try:
            return answer(model, tokenizer, start, temperature, key)
        except CourseError as error:
            raise AssertionError(
                f"after {start!r} you let the model read more than block_size = 8 ids, BOS included; the letters of "
                "`start` are there already, so fewer draws are left: go on only while len(ids) <= block_size"
            ) from error

    for start in ("em", "maria", ""):
        written = [write(start, 1.0, key) for key in keys]
        for name in written:
            assert isinstance(name, str), f"return the whole name as text, not {type(name).__name__}"
            assert name.startswith(start), f"a name that begins with {start!r} is wanted, you return {name!r}"
            assert len(name) <= 8, (
                f"{name!r} has more than block_size = 8 letters; does the model read BOS first, and do you count it?"
            )
        assert len(set(written)) > 1, f"with other keys other names are wanted; {start!r} always becomes {written[0]!r}"
        assert written == [write(start, 1.0, key) for key in keys], (
            "with the same key the same name is wanted: hand a part of the key to each draw"
        )
        greedy = _greedy(model, tokenizer, start)
        cold = write(start, 1e-6, keys[0])
        assert cold == greedy, (
            f"when the temperature is close to 0, {start!r} must become {greedy!r}, you return {cold!r}; has the model "
            "read BOS and all the letters, and do you stop at BOS?"
        )
        coldest = write(start, 0, keys[0])
        assert coldest == greedy, (
            f"at temperature 0, {start!r} must become {greedy!r}, you return {coldest!r}: nothing can be divided by 0, "
            "so take the likeliest letter there, as `generate` does"
        )
    hot = [write("a", 1e6, key) for key in mx.random.split(mx.random.key(1), 30)]
    assert len({name[1:2] for name in hot}) > 10, (
        "a high temperature must make all letters about equally likely: divide the logits by it"
    )
    assert any(len(set(name[1:])) > 1 for name in hot), (
        f"each draw had the same luck, see {hot[0]!r}: split the key anew before each draw"
    )
    model = MicroGPT(MicroGPTConfig())  # one that always ends: every vector becomes ones, and only BOS fits them
    model.wte.weight, model.wpe.weight = mx.ones((27, 16)), mx.zeros((8, 16))
    model.lm_head.weight = mx.where(mx.arange(27)[:, None] == tokenizer.bos, 2.0, 0.0) * mx.ones((27, 16))
    ended = write("em", 1.0, keys[0], model)
    assert ended == "em", f"where BOS comes next the name ends: 'em' is wanted, you return {ended!r}"
    return "Try a start that no name has, such as vx: the model must go on from there, and it does."


def _greedy(model: MicroGPT, tokenizer: CharTokenizer, start: str) -> str:
    ids = tokenizer.encode(start)[:-1]
    while len(ids) <= model.config.block_size:
        next_id = mx.argmax(model(mx.array(ids))[-1]).item()
        if next_id == tokenizer.bos:
            break
        ids.append(next_id)
    return tokenizer.decode(ids)


def plain_relu_model(answer) -> str:
    """Exercise 3.4."""
    config = MicroGPTConfig(n_layer=2)
    mx.random.seed(1)
    model = answer(config)
    assert hasattr(model, "layers"), f"return a MicroGPT, not {type(model).__name__}"
    assert len(model.layers) == config.n_layer, (
        f"{config.n_layer} layers are wanted, your model has {len(model.layers)}: make it from `config`, the argument"
    )
    assert len({id(layer.mlp) for layer in model.layers}) == config.n_layer, (
        "the layers share one MLP; make one of its own for each, inside the loop"
    )
    for layer in model.layers:
        assert not mx.any(layer.attn.wo.weight), "wo starts at zero in this chapter's model"
        x = mx.random.normal((3, config.n_embd))
        hidden = layer.mlp.fc1.weight
        assert not mx.any(layer.mlp.fc2.weight), (
            "fc2 starts at zero in this chapter's model; a new MLP's does not by itself"
        )
        assert 0.015 < mx.sqrt((hidden * hidden).mean()).item() < 0.025, (
            "fc1 starts with a standard deviation of 0.02; call init_weights on the model when the MLPs are in place"
        )
        layer.mlp.fc2.apply(nn.init.normal(std=1.0))
        positive = mx.maximum(x @ hidden.T, 0)
        expected, squared = positive @ layer.mlp.fc2.weight.T, positive**2 @ layer.mlp.fc2.weight.T
        assert not mx.allclose(layer.mlp(x), squared, rtol=1e-3, atol=0), (
            "a layer still squares the ReLU; in every layer the MLP should be fc2(max(fc1(x), 0))"
        )
        assert mx.allclose(layer.mlp(x), expected, atol=1e-5), "in every layer the MLP should be fc2(max(fc1(x), 0))"
    return "Now train both models with three seeds: how far apart are the seeds of one model?"
