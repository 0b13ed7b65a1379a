"""The checks of the exercises of chapters 08 and 19: right answers pass, and the message for a wrong one teaches."""

from functools import partial

import mlx.core as mx
import pytest

from course_lib.classroom.exercises import gpt, memory
from course_lib.model.gpt import GPTConfig
from course_lib.model.sizes import count_parameters, flops_per_token

pytestmark = pytest.mark.usefixtures("float32")


def right_parameters(depth, n_kv_head, tables=2, kv_matrices=2, layers=None):
    config = GPTConfig.from_depth(depth, n_kv_head=n_kv_head)
    d, kv = config.n_embd, n_kv_head * config.head_dim
    in_block = (4 - kv_matrices) * d * d + kv_matrices * kv * d + 8 * d * d
    return (layers or depth) * in_block + tables * 65_536 * d


def right_days(depth, gflops, per_token=flops_per_token, tokens=20, seconds=86_400):
    config = GPTConfig.from_depth(depth)
    return tokens * count_parameters(config) * per_token(config) / (gflops * 1e9) / seconds


def six_for_each(config, less=0):
    return 6 * (count_parameters(config) - less * config.vocab_size * config.n_embd)


def attention_flops(config):
    return 12 * config.n_layer * config.n_embd * config.sequence_len


def right_shares(config, T, tables=1, products=2, L=None, heads=None, length=None, of=1.0):
    d, L = config.n_embd, L or config.n_layer
    kv = (heads or config.n_kv_head) * config.head_dim
    parts = {
        "attention matrices": L * (2 * d * d + 2 * kv * d),
        "scores": L * products * (length or T) * d,
        "MLP": L * 8 * d * d,
        "head": tables * config.vocab_size * d,
    }
    return {name: of * part / sum(parts.values()) for name, part in parts.items()}


def right_accuracy(x, weight, targets, rows, counted=True, whole=False, last=True):
    right = 0
    size = x.shape[0] if whole else rows
    for start in range(0, x.shape[0] if last else x.shape[0] // rows * rows, size):
        guesses = mx.argmax(x[start : start + size] @ weight.T, axis=-1)
        right += (guesses == targets[start : start + size]).sum().item()
    return right / max((targets >= 0).sum().item() if counted else targets.size, 1)


def right_mfu(config, steps, tokens, hours, tflops, per_token=flops_per_token, factor=1):
    return factor * steps * tokens * per_token(config) / (hours * 3600 * tflops * 1e12)


def right_softcap(z, slope, output):
    return slope * (1 - mx.square(output / 15))


@pytest.mark.parametrize(
    ("test", "answer"),
    [
        (gpt.parameters, right_parameters),
        (gpt.days, right_days),
        (gpt.shares, right_shares),
        (memory.softcap, right_softcap),
        (memory.accuracy, right_accuracy),
        (memory.mfu, right_mfu),
    ],
)
def test_right_answers_pass(test, answer):
    test(answer)


@pytest.mark.parametrize(
    ("test", "answer", "said"),
    [
        (gpt.parameters, lambda *_: None, "return"),
        (gpt.parameters, partial(right_parameters, tables=1), "both wte and lm_head count"),
        (gpt.parameters, partial(right_parameters, kv_matrices=0), "c_k and c_v are smaller"),
        (gpt.parameters, partial(right_parameters, kv_matrices=1), "parameters, not"),
        (gpt.parameters, partial(right_parameters, layers=1), "parameters, not"),
        (gpt.days, lambda *_: None, "return"),
        (gpt.days, partial(right_days, seconds=1), "the number of seconds"),
        (gpt.days, partial(right_days, seconds=3600), "the number of hours"),
        (gpt.days, partial(right_days, tokens=1), "one token for each parameter"),
        (gpt.days, partial(right_days, per_token=six_for_each), "take flops_per_token"),
        (gpt.days, partial(right_days, per_token=partial(six_for_each, less=1)), "the scores are missing"),
        (gpt.days, partial(right_days, per_token=lambda c: six_for_each(c) + attention_flops(c)), "wte is looked up"),
        (gpt.days, partial(right_days, per_token=lambda c: flops_per_token(c) / 3), "days, not"),
        (gpt.shares, lambda *_: None, "return"),
        (gpt.shares, lambda config, T: list(right_shares(config, T).values()), "a dict with the keys"),
        (gpt.shares, partial(right_shares, of=100), "add up to 100"),
        (gpt.shares, partial(right_shares, tables=2), "only lm_head multiplies"),
        (gpt.shares, partial(right_shares, products=1), "the scores are two products"),
        (gpt.shares, partial(right_shares, length=2048), "use the T that was given"),
        (gpt.shares, partial(right_shares, L=1), "each of the 12 blocks"),
        (gpt.shares, lambda config, T: right_shares(config, T, heads=config.n_head), "c_k and c_v are smaller"),
        (gpt.shares, partial(right_shares, products=6), "the share of"),
        (memory.softcap, lambda *_: None, "return"),
        (memory.softcap, lambda z, slope, output: 1 - mx.square(output / 15), "the slope that comes in is missing"),
        (memory.softcap, lambda z, slope, output: slope * (1 - mx.square(mx.tanh(z / 15))), "it reads u"),
        (memory.softcap, lambda z, slope, output: slope * (1 - mx.square(output)), "the gradient at"),
        (memory.softcap, lambda z, slope, output: slope * output, "the gradient at"),
        (memory.accuracy, lambda *_: None, "return"),
        (memory.accuracy, partial(right_accuracy, counted=False), "targets of -1 do not count"),
        (memory.accuracy, partial(right_accuracy, last=False), "30 of 40 guesses are right"),
        (memory.accuracy, partial(right_accuracy, whole=True), "take no more than `rows` rows"),
        (memory.accuracy, lambda *args: 100 * right_accuracy(*args), "30 of 40 guesses are right"),
        (memory.mfu, lambda *_: None, "return"),
        (memory.mfu, partial(right_mfu, factor=100), "no percent"),
        (memory.mfu, partial(right_mfu, factor=3600), "3,600 seconds"),
        (memory.mfu, partial(right_mfu, factor=3), "holds the way back already"),
        (memory.mfu, partial(right_mfu, per_token=six_for_each), "leaves out the scores"),
        (memory.mfu, lambda *args: 1 / right_mfu(*args), "goes above the line"),
        (memory.mfu, lambda config, steps, *rest: right_mfu(config, 1, *rest), "that is one step"),
    ],
)
def test_wrong_answers_are_told_why(test, answer, said):
    with pytest.raises(AssertionError) as caught:
        test(answer)
    assert said in str(caught.value)
