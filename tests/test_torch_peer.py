"""The PyTorch model that a benchmark times is ours: with the same weights, the same loss and the same gradients.

Skipped where torch is not installed; nothing of the course needs it.
"""

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten, tree_unflatten

from course_lib.model.gpt import GPTConfig
from course_lib.model.gpt2026 import GPT2026Config
from course_lib.model.kinds import make_model

SIZES = {"sequence_len": 600, "vocab_size": 70, "n_layer": 5, "n_head": 4, "n_kv_head": 2, "n_embd": 48}
SHAPE = 2, 290  # the short windows of 600 positions end 256 before


def model_of(config):
    """No parameter is zero, as some are at the start."""
    model, random = make_model(config), np.random.default_rng(1)
    drawn = [
        (name, mx.array(0.3 * random.standard_normal(array.shape) + (array.ndim == 1), dtype=mx.float32))
        for name, array in tree_flatten(model.parameters())
    ]
    model.update(tree_unflatten(drawn))
    return model


@pytest.mark.parametrize(
    "config",
    [GPTConfig(**SIZES), GPT2026Config(**SIZES), GPT2026Config(**SIZES | {"n_kv_head": 4, "n_layer": 4})],
    ids=["2025", "2026", "2026-other-sizes"],
)
def test_loss_and_gradients_of_the_peer_are_ours(config, float32):
    torch = pytest.importorskip("torch")
    from torch_peer import Peer

    model, random = model_of(config), np.random.default_rng(2)
    ids = mx.array(random.integers(0, config.vocab_size, SHAPE), dtype=mx.int32)
    targets = mx.array(random.integers(-1, config.vocab_size, SHAPE), dtype=mx.int32)
    ours, gradients = nn.value_and_grad(model, model.loss)(ids, targets)
    gradients = dict(tree_flatten(gradients))

    peer = Peer(model, "cpu", torch.float32)
    batch = peer.tensor(ids), peer.tensor(targets)
    for _ in range(2):  # the second time gradients begin at nothing again
        assert peer.passes(*batch) == pytest.approx(ours.item(), rel=2e-4)
    assert gradients.keys() == peer.weights.keys()
    for name, weight in peer.weights.items():
        theirs = weight.grad.numpy()
        assert np.abs(np.array(gradients[name]) - theirs).max() <= 2e-4 * np.abs(theirs).max() > 0, name

    rounded = Peer(model, "cpu", torch.bfloat16).loss(*batch)  # as on a GPU
    assert rounded.dtype == torch.float32 and rounded.item() == pytest.approx(ours.item(), rel=2e-2)
