"""A run's settings come to numbers that fit together, the machine and the text, or are refused by name."""

import inspect
import math
import re
from dataclasses import asdict, dataclass, fields, replace

import mlx.core as mx
import pytest
import tyro

from course_lib import backend
from course_lib.host.errors import CourseError, FlagError
from course_lib.model.gpt import GPT, GPTConfig
from course_lib.model.sizes import count_parameters, estimate_memory, flops_per_token
from course_lib.train import pretraining
from course_lib.train.flags import FILLED
from course_lib.train.groups2026 import Rates2026
from course_lib.train.loss_watch import LossWatch
from course_lib.train.pretraining import Settings, describe, make_recipe
from course_lib.train.recipe import Rates

GB = 10**9


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """A CPU with 16 GB; machine("metal", 8 * GB) makes it another one."""

    def be(kind, memory):
        monkeypatch.setattr(backend, "device_kind", lambda: kind)
        monkeypatch.setattr(backend, "memory_for_arrays", lambda: memory)

    be("cpu", 16 * GB)
    return be


TINY = Settings(depth=1, sequence_len=32, total_batch_size=256, device_batch_size=2)


# ---- how long


def test_the_horizon_three_ways():
    config = make_recipe(replace(TINY, num_iterations=1), 300, 1e6).model
    assert count_parameters(config) == 12 * 64**2 + 2 * 300 * 64
    steps = make_recipe(replace(TINY, num_iterations=17), 300, 1e6).num_iterations
    assert steps == 17
    flops = 1000.9 * 256 * flops_per_token(config)
    assert make_recipe(replace(TINY, target_flops=flops), 300, 1e6).num_iterations == 1000
    tokens = 2.5 * count_parameters(config)
    assert make_recipe(replace(TINY, tokens_per_param=2.5), 300, 1e6).num_iterations == int(tokens / 256)
    assert make_recipe(TINY, 300, 1e9).num_iterations == int(20 * count_parameters(config) / 256)
    assert make_recipe(TINY, 300, math.inf).num_iterations == int(20 * count_parameters(config) / 256)
    assert make_recipe(TINY, 300, 12_800).num_iterations == 4 * 12_800 // 256  # four epochs of little text
    assert make_recipe(replace(TINY, tokens_per_param=20), 300, 12_800).num_iterations > 4 * 12_800 // 256
    assert make_recipe(replace(TINY, target_flops=1.0), 300, 1e6).num_iterations == 1
    assert make_recipe(TINY, 300, 3.0).num_iterations == 1


@pytest.mark.parametrize(
    "kind, tokens, sequence_len, total_batch_size",
    [
        ("cpu", 1e6, 256, 4096),
        ("cpu", math.inf, 256, 4096),
        ("metal", 1e6, 256, 4096),
        ("metal", 49_999_999, 256, 4096),
        ("metal", 50_000_000, 2048, 524_288),
        ("cuda", math.inf, 2048, 524_288),
    ],
)
def test_defaults_follow_the_machine_and_the_text(machine, kind, tokens, sequence_len, total_batch_size):
    machine(kind, 400 * GB)
    settings = make_recipe(Settings(depth=4), 4096, tokens)
    assert (settings.sequence_len, settings.total_batch_size) == (sequence_len, total_batch_size)
    assert settings.device_batch_size == min(32, total_batch_size // sequence_len)
    named = make_recipe(Settings(depth=4, sequence_len=128, total_batch_size=1024, device_batch_size=2), 4096, tokens)
    assert (named.sequence_len, named.total_batch_size, named.device_batch_size) == (128, 1024, 2)


@pytest.mark.parametrize(
    "steps, often, samples", [(1, 1, 1), (9, 1, 1), (40, 4, 8), (2500, 250, 500), (20_000, 250, 2000)]
)
def test_saves_and_samples_are_a_tenth_and_a_fifth_of_the_run(steps, often, samples):
    settings = make_recipe(replace(TINY, num_iterations=steps), 300, 1e6)
    assert (settings.cadence.save_every, settings.cadence.sample_every) == (often, samples)
    named = make_recipe(replace(TINY, num_iterations=steps, save_every=3, sample_every=4, eval_every=5), 300, 1e6)
    assert (named.cadence.save_every, named.cadence.sample_every, named.cadence.eval_every) == (3, 4, 5)


def test_nothing_is_left_open_and_asking_for_what_was_found_changes_nothing():
    recipe = make_recipe(Settings(depth=2), 4096, 1e6)
    open_numbers = {name for name, value in asdict(recipe).items() if value is None}
    assert open_numbers == {"minutes"} and None not in asdict(recipe.cadence).values()
    found = {**asdict(recipe), **asdict(recipe.cadence)}
    asked = {
        field.name: found[field.name] for field in fields(Settings) if field.name in found and field.name != "model"
    }
    assert make_recipe(Settings(depth=2, **asked), 4096, 1e6) == recipe


# ---- how much validation


@pytest.mark.parametrize("eval_share", [0.0, 0.001, 0.05, 0.3, 1.0])
@pytest.mark.parametrize("steps", [3, 40, 3000])
@pytest.mark.parametrize("total_batch_size", [256, 64])
def test_validation_costs_its_share_and_no_more(eval_share, steps, total_batch_size):
    asked = replace(TINY, num_iterations=steps, eval_share=eval_share, total_batch_size=total_batch_size)
    recipe = make_recipe(asked, 300, 1e6, 1e9)
    evaluated = recipe.cadence.eval_batches * 2 * 32
    trained = 3 * recipe.cadence.eval_every * total_batch_size  # a token of training is work for three
    assert evaluated <= max(eval_share, 0.001) * trained * (1 + 1e-9)
    if eval_share >= 0.3:
        assert evaluated > eval_share * trained - 64.001
    assert f"{evaluated:,} tokens every" in describe(recipe, 1e6)
    assert f"{evaluated / trained:.1%} of the work" in describe(recipe, 1e6)


@pytest.mark.parametrize(
    "steps, val_tokens, every, tokens",
    [
        (60, 1e9, 20, 12_288),  # a third of the run
        (100, 1e9, 27, 16_384),  # as often as that many tokens cost 5 %
        (1000, 1e9, 100, 61_440),
        (100, 9000.0, 15, 8192),  # all of the text
    ],
)
def test_a_short_run_is_evaluated_less_often_on_more_text(steps, val_tokens, every, tokens):
    recipe = make_recipe(Settings(depth=2, num_iterations=steps), 2048, 1e6, val_tokens)
    evaluated = recipe.cadence.eval_batches * recipe.device_batch_size * recipe.sequence_len
    assert (recipe.cadence.eval_every, evaluated) == (every, tokens)


def test_validation_is_at_least_a_batch_and_at_most_the_text():
    settings = replace(TINY, num_iterations=4000, eval_every=1000)

    def batches(val_tokens):
        return make_recipe(settings, 300, 1e6, val_tokens).cadence.eval_batches

    assert batches(640.9) == 10
    assert batches(63) == 1
    assert batches(math.inf) == int(3 * 0.05 * 1000 * 256 / 64)


# ---- what fits


def needed(settings, vocab_size, size):
    config = GPTConfig.from_depth(settings.depth, vocab_size, settings.sequence_len)
    return estimate_memory(config, size, recompute=settings.recompute)["total"]


@pytest.mark.parametrize("here", [1, 2])
@pytest.mark.parametrize("asked", [None, 32])
def test_a_device_batch_size_that_fits_is_chosen_or_named(machine, asked, here):
    settings = Settings(depth=4, sequence_len=256, total_batch_size=64 * 256, device_batch_size=asked)
    for fits in (1, 2, 8, 16):
        machine("cpu", here * needed(settings, 4096, fits) / 0.85 + 1)
        if asked is None:
            assert make_recipe(settings, 4096, 1e6, math.inf, here, here).device_batch_size == fits
            continue
        with pytest.raises(CourseError, match="needs .* GB") as caught:
            make_recipe(settings, 4096, 1e6, math.inf, here, here)
        named = int(re.search(r"--device-batch-size=(\d+) would fit", str(caught.value))[1])
        assert named == fits
        assert (
            make_recipe(replace(settings, device_batch_size=named), 4096, 1e6, math.inf, here, here).device_batch_size
            == named
        )
        with pytest.raises(CourseError, match="would fit"):
            make_recipe(replace(settings, device_batch_size=2 * named), 4096, 1e6, math.inf, here, here)


def test_where_not_even_one_row_fits_the_advice_is_another(machine):
    machine("cpu", GB // 100)
    for asked in (None, 4):
        with pytest.raises(
            CourseError, match="no --device-batch-size fits; take --recompute, fewer --processes"
        ) as caught:
            make_recipe(Settings(depth=12, device_batch_size=asked), 65536, 1e6)
        assert not isinstance(caught.value, FlagError) and f"--device-batch-size={asked or 1} needs" in str(
            caught.value
        )


def test_processes_on_other_machines_need_no_memory_here(machine):
    settings = Settings(depth=4, sequence_len=256, total_batch_size=64 * 256)
    machine("cpu", needed(settings, 4096, 8) / 0.85 + 1)
    assert make_recipe(settings, 4096, 1e6, processes=2, here=1).device_batch_size == 8
    assert make_recipe(settings, 4096, 1e6, processes=2, here=2).device_batch_size < 8


@pytest.mark.parametrize(
    "rows, processes, size", [(33, 1, 11), (64, 1, 32), (6, 2, 3), (62, 2, 31), (1, 1, 1), (37, 1, 1)]
)
def test_rows_at_a_time_divide_the_rows_of_each_process(rows, processes, size):
    settings = make_recipe(
        Settings(depth=1, sequence_len=16, total_batch_size=16 * rows), 300, 1e6, processes=processes
    )
    assert settings.device_batch_size == size


def test_a_device_batch_size_that_divides_nothing_is_refused_and_one_named_that_does():
    with pytest.raises(FlagError, match="expected a divisor of 8") as caught:
        make_recipe(replace(TINY, device_batch_size=3), 300, 1e6)
    named = int(re.search(r": (\d+) is one", str(caught.value))[1])
    assert make_recipe(replace(TINY, device_batch_size=named), 300, 1e6).device_batch_size == named
    with pytest.raises(FlagError, match="multiple of 96: a row of 32 in each of 3 processes"):
        make_recipe(replace(TINY, device_batch_size=None), 300, 1e6, processes=3)
    with pytest.raises(FlagError, match="multiple of 32: a row of 32$"):
        make_recipe(replace(TINY, total_batch_size=250), 300, 1e6)


GIB = 1 << 30


@pytest.mark.parametrize("depth", [1, 4, 8, 12, 20])
@pytest.mark.parametrize(
    "memory, recommended",
    [(8 * GIB, 2 / 3), (16 * GIB, 2 / 3), (32 * GIB, 2 / 3), (64 * GIB, 3 / 4), (192 * GIB, 3 / 4)],
)
@pytest.mark.parametrize("vocab_size, tokens", [(4096, 1e6), (65536, math.inf)])
def test_the_defaults_stay_within_what_metal_recommends_or_are_refused(
    monkeypatch, depth, memory, recommended, vocab_size, tokens
):
    monkeypatch.undo()  # the machine above, whose memory is given
    info = {"memory_size": memory, "max_recommended_working_set_size": int(recommended * memory)}
    monkeypatch.setattr(backend, "device_kind", lambda: "metal")
    monkeypatch.setattr(mx, "device_info", lambda of=None: info)
    try:
        recipe = make_recipe(Settings(depth=depth), vocab_size, tokens)
    except CourseError as refused:
        row = needed(Settings(depth=depth, sequence_len=2048), vocab_size, 1)
        assert row > 0.8 * recommended * memory and "no --device-batch-size fits; take --recompute" in str(refused)
        return
    sizes = estimate_memory(recipe.model, recipe.device_batch_size, recipe.sequence_len)
    assert sizes["total"] <= 0.95 * info["max_recommended_working_set_size"]
    text = describe(recipe, tokens)
    assert f"{info['max_recommended_working_set_size'] / 1e9:.1f} GB here" in text


def test_the_d12_of_a_mac_with_16_gb_takes_no_more_than_metal_recommends(machine):
    machine("metal", 11_453_251_584)  # of an M2 with 16 GB
    recipe = make_recipe(Settings(depth=12), 65536, math.inf)
    machine("metal", 16 * GIB)
    assert recipe.device_batch_size < make_recipe(Settings(depth=12), 65536, math.inf).device_batch_size


# ---- flags


BAD = [
    *[{flag: 0} for flag in "depth sequence_len total_batch_size device_batch_size num_iterations".split()],
    *[{flag: 0} for flag in "eval_every sample_every save_every keep processes max_cached_shards n_kv_head".split()],
    *[{flag: -0.1} for flag in "matrix_lr embedding_lr unembedding_lr grad_clip eval_share".split()],
    *[{flag: math.nan} for flag in "matrix_lr embedding_lr unembedding_lr grad_clip eval_share".split()],
    *[{flag: math.inf} for flag in "matrix_lr embedding_lr unembedding_lr grad_clip eval_share".split()],
    *[{flag: bad} for flag in "warmup_ratio warmdown_ratio final_lr_frac".split() for bad in (-0.1, 1.1, math.nan)],
    *[{flag: bad} for flag in "max_rise target_flops tokens_per_param".split() for bad in (0.0, -1.0, math.nan)],
    *[{flag: math.inf} for flag in "target_flops tokens_per_param".split()],
    {"seed": -1},
    {"seed": 2**32},
]


@pytest.mark.parametrize("flags", BAD, ids=str)
def test_a_flag_out_of_range_is_named(flags):
    if "num_iterations" not in flags and not flags.keys() & {"target_flops", "tokens_per_param"}:
        flags = {**flags, "num_iterations": 5}
    with pytest.raises(FlagError, match=f"--{next(iter(flags)).replace('_', '-')} is .*, expected") as caught:
        make_recipe(replace(TINY, **flags), 300, 1e6)
    assert "\n" not in str(caught.value)


def test_only_one_flag_says_how_long():
    for flags in ({"num_iterations": 5, "target_flops": 1e9}, {"num_iterations": 5, "tokens_per_param": 1.0}):
        with pytest.raises(FlagError, match="give one of them"):
            make_recipe(replace(TINY, **flags), 300, 1e6)


def test_a_run_is_gone_on_with_or_thrown_away():
    with pytest.raises(FlagError, match="--resume goes on with a run and --overwrite throws it away"):
        make_recipe(replace(TINY, resume=True, overwrite=True), 300, 1e6)


@pytest.mark.parametrize("flag", [field.name for field in fields(Settings) if field.type is not bool])
def test_flags_with_dashes_and_underscores(flag):
    kind = {field.name: str(field.type) for field in fields(Settings)}[flag]
    choices = re.findall(r"Literal\['([^']+)", kind)
    value = "7" if "int" in kind else "0.5" if "float" in kind else [*choices, "x"][0]
    dashes, underscores = (tyro.cli(Settings, args=[f"--{name}", value]) for name in (flag.replace("_", "-"), flag))
    assert dashes == underscores and str(getattr(dashes, flag)) == value


def test_defaults_of_the_flags_are_those_of_what_they_set():
    for model, usual in (("2025", Rates()), ("2026", Rates2026().for_small_steps())):
        made = make_recipe(Settings(model=model, total_batch_size=256, sequence_len=64), 256, 1e6).rates
        assert made == usual, model
    assert Settings().max_rise == inspect.signature(LossWatch).parameters["max_rise"].default


def tiny_model():
    return GPT(GPTConfig(16, 64, 1, 1, 1, 16))


def test_what_a_run_comes_to():
    recipe = make_recipe(replace(TINY, num_iterations=50), 300, 1e6, 5e4)
    text = describe(recipe, 1e6, here=2)
    parameters = 12 * 64**2 + 2 * 300 * 64
    flops = 6 * (parameters - 300 * 64) + 12 * 64 * 32
    for words in (
        "d1: 1 layer, n_embd 64, 1 head, vocabulary 300",
        f"{parameters:,}",
        f"12,800 in 50 steps of 256 ({12_800 / parameters:.1f} a parameter, under 0.1 times the corpus)",
        f"{flops / 1e6:,.0f} million FLOPs a token, {flops * 12_800:.3g} in all",
        "in each of 2 processes, 16.0 GB here",
    ):
        assert words in text
    assert "times the corpus" not in describe(recipe, math.inf)


def test_small_text_is_50_million_tokens_and_memory_is_not_filled_to_the_brim():
    assert pretraining.SMALL == 50_000_000 and pretraining.EPOCHS == 4 and 0.5 < FILLED < 1


def test_only_much_text_for_the_model_of_2026_is_packed_unless_it_is_asked_for():
    @dataclass(frozen=True)
    class Of2026(Settings):
        model: str = "2026"

    assert pretraining.rows_of(Settings(), math.inf) == pretraining.rows_of(Of2026(), 1e6) == "stream"
    assert pretraining.rows_of(Of2026(), math.inf) == pretraining.rows_of(Of2026(), 5e7) == "best-fit"
    assert pretraining.rows_of(Of2026(rows="stream"), math.inf) == "stream"
    assert pretraining.rows_of(Settings(rows="best-fit"), 1e6) == "best-fit"
