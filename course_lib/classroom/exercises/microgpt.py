"""Checks for the exercises of notebook 03."""

import math
import random

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from course_lib.names.microgpt import MicroGPT, MicroGPTConfig


def count_parameters(answer) -> str:
    """Exercise 3.1."""
    counted = answer(MicroGPTConfig())
    assert isinstance(counted, int), f"return an int, not {type(counted).__name__}"
    assert counted == 4064, f"the default sizes give 4064, you count {counted}"
    for sizes in ({"n_layer": 3}, {"block_size": 16}, {"n_embd": 32, "vocab_size": 50}):
        config = MicroGPTConfig(**sizes)
        expected = sum(array.size for _, array in tree_flatten(MicroGPT(config).parameters()))
        assert answer(config) == expected, f"with {sizes} the model has {expected}, you count {answer(config)}"
    return "Did you need n_head? Heads only share out the width that is there."


def attend(answer) -> str:
    """Exercise 3.2."""
    generator = random.Random(0)
    for length, width in ((1, 2), (2, 3), (5, 4)):
        q, k, v = ([[generator.uniform(-2, 2) for _ in range(width)] for _ in range(length)] for _ in range(3))
        got = answer(q, k, v)
        assert len(got) == length and all(len(row) == width for row in got), (
            f"for {length} positions and width {width} return {length} lists of {width} numbers"
        )
        assert all(math.isclose(a, b, abs_tol=1e-6) for a, b in zip(got[0], v[0], strict=True)), (
            "position 0 can look at itself only, so its output is its own value"
        )
        arrays = (mx.array(matrix)[None, None] for matrix in (q, k, v))
        expected = mx.fast.scaled_dot_product_attention(*arrays, scale=1 / math.sqrt(width), mask="causal")[0, 0]
        worst = mx.abs(mx.array(got) - expected).max().item()
        assert worst < 1e-2, (  # a GPU may keep three digits only
            f"it differs from MLX's attention by {worst:.3g}; did you divide the scores by sqrt({width})?"
        )
    return "Twice as many positions make about four times as many scores: that is what a long context costs."


def plain_relu_model(answer) -> str:
    """Exercise 3.3."""
    config = MicroGPTConfig(n_layer=2)
    mx.random.seed(1)
    model = answer(config)
    assert hasattr(model, "layers"), f"return a MicroGPT, not {type(model).__name__}"
    for layer in model.layers:
        assert not mx.any(layer.attn.wo.weight), "wo starts at zero in this chapter's model"
        x = mx.random.normal((3, config.n_embd))
        hidden = layer.mlp.fc1.weight
        assert not mx.any(layer.mlp.fc2.weight), (
            "fc2 starts at zero in this chapter's model; a new MLP's does not by itself"
        )
        assert 0.015 < mx.sqrt((hidden * hidden).mean()).item() < 0.025, "fc1 starts with a spread of 0.02"
        layer.mlp.fc2.apply(nn.init.normal(std=1.0))
        expected = mx.maximum(x @ hidden.T, 0) @ layer.mlp.fc2.weight.T
        assert mx.allclose(layer.mlp(x), expected, atol=1e-5), "in every layer the MLP should be fc2(max(fc1(x), 0))"
    return "Now train both models with three seeds: how far apart are the seeds of one model?"
