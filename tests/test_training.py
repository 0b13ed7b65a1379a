"""A training step is that of a plain loop, leaves nothing behind, and says when it makes no sense to go on."""

import math
from dataclasses import asdict

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers
import numpy as np
import pytest
from count_kernels import total, trace_update
from devices import assert_same_numbers, differing
from mlx.utils import tree_flatten, tree_unflatten

from course_lib import backend
from course_lib.host.errors import CourseError
from course_lib.model.gpt import GPT, GPTConfig, init_weights
from course_lib.train.fast_trainer import FastTrainer
from course_lib.train.loss_watch import LossWatch
from course_lib.train.optim import make_optimizer
from course_lib.train.trainer import Diverged, Trainer
from course_lib.train.validation import continue_text, nats_and_bytes, validate

pytestmark = pytest.mark.usefixtures("float32")

V, T = 37, 16
RATES = {"matrix_lr": 0.03, "embedding_lr": 0.05, "unembedding_lr": 0.007}


def tiny(seed=0):
    model = GPT(GPTConfig(T, V, 2, 4, 2, 32))
    init_weights(model, seed)
    return model


def batches(count, rows=2, seed=0):
    """Micro-batches of random ids (inputs, targets)."""
    ids = np.random.default_rng(seed).integers(0, V, (count, rows, T + 1))
    return [(mx.array(each[:, :-1]), mx.array(each[:, 1:])) for each in ids]


def arrays_of(model, optimizer):
    tree = {"model": model.parameters(), "optimizer": optimizer.state}
    return {name: np.array(array) for name, array in tree_flatten(tree)}


def furthest(a, b):
    assert a.keys() == b.keys()
    return max(float(np.abs(a[name] - b[name]).max()) for name in a)


def weights(model):
    return {name: np.array(array) for name, array in tree_flatten(model.parameters())}


# ---- a step


def naive_loop(steps, clip):
    """The same training written down plainly: one large batch, no schedule function, mlx's own clipping."""
    model = tiny()
    optimizer = make_optimizer(model, **RATES)
    norms, losses = [], []
    for it, micro_batches in enumerate(steps):
        inputs, targets = (mx.concatenate(parts) for parts in zip(*micro_batches, strict=True))
        loss, gradients = nn.value_and_grad(model, model.loss)(inputs, targets)
        norms.append(math.sqrt(sum(float((g**2).sum()) for _, g in tree_flatten(gradients))))
        losses.append(loss.item())
        if clip:
            gradients, _ = mlx.optimizers.clip_grad_norm(gradients, clip)
        # of 10 steps the first two climb, then 1, then from the fifth on down to 0.1 at the tenth
        multiplier = [0.5, 1, 1, 1, 1, 1, 0.82, 0.64, 0.46, 0.28][it]
        table = math.sqrt(768 / 32)
        scales = RATES["matrix_lr"], RATES["embedding_lr"] * table, RATES["unembedding_lr"] * table
        for each, rate in zip(optimizer.optimizers, scales, strict=True):
            each.learning_rate = rate * multiplier
        optimizer.optimizers[0].state["momentum"] = mx.array(0.85 + 0.1 * it / 300)
        optimizer.update(model, gradients)
        mx.eval(model.parameters(), optimizer.state)
    return model, optimizer, norms, losses


SCHEDULE = {"warmup_ratio": 0.2, "warmdown_ratio": 0.5, "final_lr_frac": 0.1}


@pytest.mark.parametrize("clip", [1.0, 0.05, 0])
def test_ten_steps_are_those_of_a_plain_loop_on_the_whole_batch(clip):
    steps = [batches(3, seed=it) for it in range(10)]
    trainer = Trainer(tiny(), 10, grad_clip=clip, **RATES, **SCHEDULE)
    results = [trainer.step(micro_batches) for micro_batches in steps]
    model, optimizer, norms, losses = naive_loop(steps, clip)
    # Adam's first steps are signs: where a gradient is all but zero, rounding decides; hence not 2e-6 for all
    far = [np.abs(weights(model)[name] - array) for name, array in weights(trainer.model).items()]
    assert max(np.quantile(each, 0.999) for each in far) < 2e-5 and max(each.max() for each in far) < 2e-3
    assert [result.iteration for result in results] == list(range(10)) and trainer.iteration == 10
    np.testing.assert_allclose([result.grad_norm for result in results], norms, rtol=2e-4)
    np.testing.assert_allclose([result.loss for result in results], losses, rtol=2e-5)
    np.testing.assert_allclose([np.mean(result.losses) for result in results], losses, rtol=2e-5)
    multipliers = [0.5, 1, 1, 1, 1, 1, 0.82, 0.64, 0.46, 0.28]
    np.testing.assert_allclose([result.lr_multiplier for result in results], multipliers, rtol=1e-6)
    with pytest.raises(CourseError, match="all 10 steps are done"):
        trainer.step(steps[0])
    assert trainer.iteration == 10


def test_rates_and_momentum_are_those_of_the_step_and_not_of_its_neighbours():
    trainer = Trainer(tiny(), 10, **RATES, **SCHEDULE)
    for it in range(3):
        trainer.step(batches(1, seed=it))
        matrices, embedding, head = trainer.optimizer.optimizers
        multiplier = (0.5, 1, 1)[it]
        assert matrices.state["momentum"].item() == pytest.approx(0.85 + 0.1 * it / 300, rel=1e-6)
        assert matrices.learning_rate.item() == pytest.approx(0.03 * multiplier, rel=1e-6)
        assert embedding.learning_rate.item() == pytest.approx(0.05 * math.sqrt(24) * multiplier, rel=1e-6)
        assert head.learning_rate.item() == pytest.approx(0.007 * math.sqrt(24) * multiplier, rel=1e-6)
        assert [int(each.step.item()) for each in trainer.optimizer.optimizers] == [it + 1] * 3


def test_by_default_the_first_step_has_the_whole_rate_and_the_last_a_small_one():
    trainer = Trainer(tiny(), 10)
    multipliers = [trainer.step(batches(1, seed=it)).lr_multiplier for it in range(10)]
    assert multipliers == [1] * 9 + [0.5]


def test_micro_batches_are_the_large_batch_in_parts():
    whole = Trainer(tiny(), 5)
    parts = Trainer(tiny(), 5)
    for it in range(5):
        micro = batches(4, rows=1, seed=it)
        one = whole.step([tuple(mx.concatenate(side) for side in zip(*micro, strict=True))])
        four = parts.step(iter(micro))  # any iterable will do
        assert len(one.losses) == 1 and len(four.losses) == 4
        assert four.loss == pytest.approx(one.loss, rel=1e-5)
        assert four.grad_norm == pytest.approx(one.grad_norm, rel=1e-4)
    far = [np.abs(weights(whole.model)[name] - array) for name, array in weights(parts.model).items()]
    assert max(np.quantile(each, 0.999) for each in far) < 2e-5


def test_the_losses_are_those_of_each_micro_batch_before_the_step():
    model = tiny()
    Trainer(model, 3).step(batches(1))  # the head has left zero: losses differ
    micro = batches(3, seed=8)
    expected = [model.loss(*batch).item() for batch in micro]
    result = Trainer(model, 3).step(micro)
    np.testing.assert_allclose(result.losses, expected, rtol=1e-6)
    assert result.loss == pytest.approx(sum(expected) / 3) and len(set(expected)) == 3


def test_large_gradients_are_clipped_to_the_norm_and_small_ones_left(monkeypatch):
    seen = []
    for clip in (0.01, 1e6, 0.0):
        trainer = Trainer(tiny(), 3, grad_clip=clip)
        update = trainer.optimizer.update
        monkeypatch.setattr(
            trainer.optimizer,
            "update",
            lambda model, gradients, update=update: (seen.append(gradients), update(model, gradients)),
        )
        result = trainer.step(batches(2))
        norm = math.sqrt(sum(float((g**2).sum()) for _, g in tree_flatten(seen[-1])))
        assert norm == pytest.approx(0.01 if clip == 0.01 else result.grad_norm, rel=1e-3)
        assert result.grad_norm > 0.02  # what it was before clipping


def test_the_trainer_of_the_programs_takes_the_steps_of_the_chapters_bit_for_bit():
    group = mx.distributed.init()
    plain, fast = Trainer(tiny(), 6, **RATES), FastTrainer(tiny(), 6, compiled=False, group=group, **RATES)
    for it in range(6):
        micro = batches(3, seed=it)
        one, two = plain.step(micro), fast.step(iter(micro))
        assert_same_numbers(asdict(one), asdict(two), rel=1e-3)
        if it == 2:
            fast.load_state(3, plain.state())
    a, b = (arrays_of(each.model, each.optimizer) for each in (plain, fast))
    assert differing(a, b) == []


class Small(nn.Module):
    """The names and groups of a GPT with next to no arithmetic: each kernel that MLX compiles costs half a second."""

    def __init__(self):
        super().__init__()
        self.config = GPTConfig(T, V, 1, 1, 1, 32)
        self.transformer = {"wte": nn.Embedding(V, 32), "h": [nn.Linear(32, 32, bias=False)]}
        self.lm_head = nn.Linear(32, V, bias=False)

    def loss(self, inputs, targets):
        logits = self.lm_head(self.transformer["h"][0](self.transformer["wte"](inputs)))  # (B, T, V)
        return (mx.logsumexp(logits, axis=-1) - mx.take_along_axis(logits, targets[..., None], -1)[..., 0]).mean()


@pytest.mark.slow
def test_compiled_and_plain_steps_agree(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    mx.random.seed(0)
    models = [Small(), Small()]
    models[1].update(models[0].parameters())
    start = weights(models[0])
    plain, compiled = Trainer(models[0], 5), FastTrainer(models[1], 5, compiled=True)
    for it in range(5):
        micro = batches(2, seed=it)
        one, other = plain.step(micro), compiled.step(micro)
        np.testing.assert_allclose(one.losses, other.losses, rtol=1e-5)
        assert one.lr_multiplier == other.lr_multiplier == 1
        assert other.grad_norm == pytest.approx(one.grad_norm, rel=1e-4)
        if it == 2:  # what was compiled follows what is loaded
            state = compiled.state()
            compiled.load_state(3, state)
    assert furthest(weights(models[0]), weights(models[1])) < 1e-5
    assert all((array != start[name]).any() for name, array in weights(models[1]).items())
    assert compiled.optimizer.optimizers[0].state["momentum"].item() == pytest.approx(0.85 + 0.1 * 4 / 300)


@pytest.mark.parametrize("compiled", [False, True])
def test_ids_outside_the_vocabulary_are_refused_compiled_or_not_and_nothing_moves(compiled):
    trainer = FastTrainer(tiny(), 9, compiled=compiled)
    before = arrays_of(trainer.model, trainer.optimizer)
    (inputs, targets), *_ = batches(1)
    far = inputs + mx.where(mx.arange(T) == 3, V + 5, 0)
    for batch, words in (
        ((far, targets), "ids go from"),
        ((inputs, far), "targets go from"),
        ((-inputs, targets), "ids"),
    ):
        with pytest.raises(CourseError, match=words):
            trainer.step([batch])
    assert furthest(before, arrays_of(trainer.model, trainer.optimizer)) == 0 and trainer.iteration == 0


@pytest.mark.parametrize("depth, most", [(4, 100), (12, 200)])
def test_an_update_on_a_gpu_has_few_primitives(depth, most, monkeypatch):
    monkeypatch.setattr(backend, "device_kind", lambda: "metal")
    config = GPTConfig.from_depth(depth, vocab_size=32, aspect_ratio=8, head_dim=16)  # as many matrices, but small
    in_all, _ = total(trace_update(FastTrainer(GPT(config), 9)))
    assert in_all < most
    assert in_all < 2 * 6 * depth + 50, "two for each matrix, its averages and its move; the rest is for all together"


# ---- what published ports got wrong


def test_it_learns_the_loss_falls_far_below_that_of_a_guess():
    trainer = Trainer(tiny(), 40)
    row = mx.array([[n * 5 % V for n in range(T + 1)]])
    micro = [(row[:, :-1], row[:, 1:])]
    losses = [trainer.step(micro).loss for _ in range(40)]
    assert losses[0] == pytest.approx(math.log(V), rel=1e-5)
    assert losses[-1] < 0.2 * math.log(V)


def test_every_parameter_moves_at_its_own_rate():
    for still in RATES:
        model = tiny()
        before = weights(model)
        trainer = Trainer(model, 10, **{**RATES, still: 0.0})
        for it in range(4):
            trainer.step(batches(1, seed=it))
        moved = {name for name, array in weights(model).items() if (array != before[name]).any()}
        names = {"embedding_lr": {"transformer.wte.weight"}, "unembedding_lr": {"lm_head.weight"}}
        blocks = {name for name in before if ".h." in name}
        if still == "unembedding_lr":  # a head of zeros that never moves gives no gradient to the rest
            assert moved == set()
        else:
            assert moved == before.keys() - names.get(still, blocks)


@pytest.mark.slow
def test_after_a_step_nothing_is_left_to_compute_and_memory_does_not_grow():
    trainer = Trainer(tiny(), 200)
    micro = batches(2)
    for _ in range(5):
        trainer.step(micro)
    before = mx.get_active_memory()
    mx.eval(trainer.model.parameters(), trainer.optimizer.state)
    assert mx.get_active_memory() == before
    for _ in range(100):
        trainer.step(micro)
    assert mx.get_active_memory() <= before + (1 << 16)  # compiled, it goes up and down by some KB


def test_the_memory_of_a_step_does_not_grow_with_its_micro_batches():
    peaks = []
    for count in (2, 12):
        trainer, micro = Trainer(tiny(), 9), batches(count, rows=16)
        mx.eval(micro)
        trainer.step(micro)
        held = sum(array.nbytes for pair in micro for array in pair)
        mx.reset_peak_memory()
        trainer.step(micro)
        peaks.append(mx.get_peak_memory() - held)
    assert peaks[1] < 1.2 * peaks[0]


# ---- what is refused


def test_no_number_leaves_weights_optimizer_and_step_as_they_were():
    trainer = Trainer(tiny(), 9)
    trainer.step(batches(1))
    good = arrays_of(trainer.model, trainer.optimizer)
    name, weight = tree_flatten(trainer.model.parameters())[0]
    trainer.model.update(tree_unflatten([(name, mx.full(weight.shape, math.nan))]))
    bad = arrays_of(trainer.model, trainer.optimizer)
    with pytest.raises(Diverged, match="the loss is nan, the norm of its gradients nan"):
        trainer.step(batches(2))
    assert trainer.iteration == 1
    after = arrays_of(trainer.model, trainer.optimizer)
    for key in bad:
        np.testing.assert_array_equal(after[key], bad[key])
    trainer.model.update(tree_unflatten([(name, weight)]))
    np.testing.assert_array_equal(arrays_of(trainer.model, trainer.optimizer)[f"model.{name}"], good[f"model.{name}"])
    assert trainer.step(batches(2)).iteration == 1  # goes on as if nothing had been


def test_a_gradient_too_large_for_its_norm_is_divergence_too():
    trainer = Trainer(tiny(), 9)
    add = trainer.add_gradients

    def huge(so_far, *batch):
        loss, gradients = add(so_far, *batch)
        return loss, tree_unflatten([(name, g + 1e30) for name, g in tree_flatten(gradients)])

    trainer.add_gradients = huge
    before = arrays_of(trainer.model, trainer.optimizer)
    with pytest.raises(Diverged, match="inf"):
        trainer.step(batches(1))
    assert furthest(before, arrays_of(trainer.model, trainer.optimizer)) == 0


@pytest.mark.parametrize("arguments", [{"num_iterations": 0}, {"grad_clip": -1.0}, {"grad_clip": math.nan}])
def test_settings_that_cannot_be_are_refused(arguments):
    with pytest.raises(CourseError, match="expected 1 or more, and 0 or more"):
        Trainer(tiny(), **{"num_iterations": 3, **arguments})


@pytest.mark.parametrize("kind", [Trainer, FastTrainer])
def test_a_step_without_a_micro_batch_is_refused_and_not_counted(kind):
    trainer = kind(tiny(), 3)
    with pytest.raises(CourseError, match="no micro-batch"):
        trainer.step([])
    assert trainer.iteration == 0


# ---- going on


def test_a_loaded_state_goes_on_bitwise_and_is_only_taken_by_its_own_model():
    straight = Trainer(tiny(), 12)
    for it in range(5):
        straight.step(batches(2, seed=it))
    mx.random.seed(7)
    saved, saved_weights = dict(straight.state()), tree_flatten(straight.model.parameters())
    assert all(isinstance(array, mx.array) for array in saved.values())
    drawn = mx.random.normal((3,)).tolist()

    mx.random.seed(8)
    other = Trainer(tiny(seed=3), 12)
    other.step(batches(1, seed=99))
    other.model.load_weights(saved_weights)
    other.load_state(5, saved)
    assert other.iteration == 5 and mx.random.normal((3,)).tolist() == drawn
    for it in range(5, 12):
        one, two = straight.step(batches(2, seed=it)), other.step(batches(2, seed=it))
        assert_same_numbers(asdict(one), asdict(two), rel=1e-3)
    a, b = (arrays_of(each.model, each.optimizer) for each in (straight, other))
    assert differing(a, b) == []

    deeper = Trainer(GPT(GPTConfig(T, V, 1, 4, 2, 32)), 12)
    for state in (saved, {name: array for name, array in deeper.state().items() if name != "random"}):
        with pytest.raises(CourseError, match="does not fit this model"):
            deeper.load_state(5, state)


def test_without_its_optimizer_state_a_run_would_go_on_differently():
    """The resumed run above is no accident: AdamW and Muon do remember."""
    ends = []
    for forget in (False, True):
        trainer = Trainer(tiny(), 12)
        for it in range(5):
            trainer.step(batches(2, seed=it))
        if forget:
            held = trainer.model
            trainer = Trainer(held, 12)
            trainer.iteration = 5
        for it in range(5, 8):
            trainer.step(batches(2, seed=it))
        ends.append(weights(trainer.model))
    assert all((ends[0][name] != ends[1][name]).any() for name in ends[0])


# ---- the watch


def test_the_smoothed_loss_is_the_debiased_average_and_goes_on_where_it_was():
    losses = [3.3, 2.9, 3.6, 2.5, 2.4, 3.0, 2.2]
    watch, got = LossWatch(), []
    for number, loss in enumerate(losses):
        if number == 4:
            watch = LossWatch(1.5, **watch.state())
        got.append(watch.add(loss))
    for number, smoothed in enumerate(got):
        shares = [0.9 ** (number - n) for n in range(number + 1)]
        plain = sum(share * loss for share, loss in zip(shares, losses, strict=False)) / sum(shares)
        assert smoothed == pytest.approx(plain, rel=1e-12)
    assert got[0] == pytest.approx(3.3) and watch.state()["lowest"] == min(got) and watch.state()["steps"] == 7


def test_the_alarm_comes_when_the_smoothed_loss_is_too_far_above_its_lowest():
    def rises_to(loss, max_rise):
        watch = LossWatch(max_rise)
        for _ in range(200):
            watch.add(2.0)
        for _ in range(200):
            watch.add(loss)
        return watch

    rises_to(2.99, 1.0)
    with pytest.raises(Diverged, match=r"risen from 2\.000 to 3\.0"):
        rises_to(3.05, 1.0)
    watch = LossWatch(1.0)
    for _ in range(100):
        watch.add(2.0)
    watch.add(9.0)  # one spike is 0.7 in the average
    with pytest.raises(Diverged):
        watch.add(9.0)


# ---- evaluation and samples


def test_bits_per_byte_counts_real_text_only():
    model = tiny()
    Trainer(model, 9).step(batches(1))
    token_bytes = mx.array([0, 0] + [1 + n % 4 for n in range(V - 2)])
    pairs = batches(2, seed=4)
    pairs[1][1][0, :9] = -1
    pairs[1][1][1, 3] = 0
    nats = size = 0.0
    for inputs, targets in pairs:
        logits = np.array(model(inputs), dtype=np.float64)
        shares = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        for b in range(inputs.shape[0]):
            for t in range(T):
                target = targets[b, t].item()
                if target >= 0 and token_bytes[target].item():
                    nats, size = nats - shares[b, t, target], size + token_bytes[target].item()
    expected = nats / math.log(2) / size
    assert validate(model, pairs, token_bytes) == pytest.approx(expected, rel=1e-5)
    assert nats_and_bytes(model, *pairs[0], token_bytes)[1].item() + nats_and_bytes(model, *pairs[1], token_bytes)[
        1
    ].item() == pytest.approx(size)


def test_nothing_to_count_gives_no_number_and_no_error():
    model, token_bytes = tiny(), mx.array([0] + [1] * (V - 1))
    assert math.isnan(validate(model, [], token_bytes))
    inputs = mx.zeros((1, T), mx.int32)
    for targets in (inputs, inputs - 1):
        assert math.isnan(validate(model, [(inputs, targets)], token_bytes))


def test_validation_changes_nothing():
    trainer, token_bytes = Trainer(tiny(), 9), mx.ones((V,), mx.int32)
    trainer.step(batches(1))
    before = arrays_of(trainer.model, trainer.optimizer)
    random = mx.array(mx.random.state[0])
    validate(trainer.model, batches(3), token_bytes)
    assert furthest(before, arrays_of(trainer.model, trainer.optimizer)) == 0
    assert (mx.random.state[0] == random).all().item()


class Letters:
    """A tokenizer of one letter for each id."""

    bos = 0

    def __init__(self):
        self.asked = None

    def encode(self, text, bos=False):
        self.asked = (text, bos)
        return [self.bos] * bos + [1 + ord(letter) % (V - 1) for letter in text]

    def decode(self, ids):
        return ",".join(map(str, ids))


def test_a_sample_is_its_seeds_alone_as_long_as_asked_for_and_without_the_prompt():
    model, tokenizer = tiny(), Letters()
    trainer = Trainer(model, 9)
    for it in range(3):
        trainer.step(batches(1, seed=it))
    random = mx.array(mx.random.state[0])
    one = continue_text(model, tokenizer, "ab", max_tokens=30, seed=3)  # longer than the model's sequence
    assert tokenizer.asked == ("ab", True)
    assert one == continue_text(model, tokenizer, "ab", max_tokens=30, seed=3)
    assert one != continue_text(model, tokenizer, "ab", max_tokens=30, seed=4)
    ids = one.split(",")
    assert "0" not in ids and len(ids) <= 30
    assert (mx.random.state[0] == random).all().item()


def test_a_sample_ends_at_bos_and_follows_the_logits():
    tokenizer = Letters()

    class Sure:
        config = GPTConfig(T, V, 1, 1, 1, 32)

        def __call__(self, ids):
            following = {3: 4, 4: 5, 5: 0}.get(ids[0, -1].item(), 3)
            return mx.where(mx.arange(V) == following, 100.0, 0.0)[None, None]

    assert continue_text(Sure(), tokenizer, "a") == "3,4,5"
    assert continue_text(Sure(), tokenizer, "a", max_tokens=2) == "3,4"
    assert continue_text(Sure(), tokenizer, "") == "3,4,5"
