"""A model of July 2026 goes through every program: trained, stopped and resumed, fine-tuned, rewarded, asked."""

import dataclasses
import json
import signal

import mlx.core as mx
import pytest
from mlx.utils import tree_map
from test_base_train import assert_same_run, folder_of, stop_after, train, write_text  # noqa: F401

from course_lib import backend
from course_lib.chat import fine_tuning, reinforcing
from course_lib.chat.conversation import render_for_completion
from course_lib.data.tokenizer import Tokenizer
from course_lib.evaluate.records import ScoredSequence
from course_lib.evaluate.scoring import scored_logits
from course_lib.generate.engine import Engine
from course_lib.generate.rows import Request
from course_lib.host.errors import CourseError, FlagError
from course_lib.model.config2026 import GPT2026Config
from course_lib.model.gpt2026 import GPT2026
from course_lib.model.sizes import estimate_memory, flops_per_token, scaling_parameters
from course_lib.scripts import base_eval, chat_eval, chat_rl, chat_sft
from course_lib.serve.batch_engine import BatchEngine
from course_lib.train.checkpoint import load_model, run_folder
from course_lib.train.checks import config_of
from course_lib.train.fast_trainer import FastTrainer
from course_lib.train.flags import usual_rates
from course_lib.train.groups2026 import Rates2026
from course_lib.train.pretraining import Settings, make_recipe
from course_lib.train.recipe import Rates

TINY = "--model=2026 --depth=2 --aspect-ratio=16 --head-dim=16 --sequence-len=160 --total-batch-size=320"
TINY = [*TINY.split(), "--device-batch-size=1", "--num-iterations=6", "--save-every=2"]


@pytest.fixture
def text(tmp_path, home):
    return write_text(tmp_path / "own")


@pytest.mark.slow
@pytest.mark.parametrize("rows", ["stream", "best-fit"])
def test_interrupted_and_resumed_equals_uninterrupted(train, home, monkeypatch, rows):  # noqa: F811
    flags = (f"--rows={rows}",)
    assert train(*flags, "--tag=whole", tiny=TINY)[0] == 0
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 3, (signal.SIGTERM,))
        assert train(*flags, "--tag=parts", tiny=TINY)[0] != 0
    assert train("--tag=parts", "--resume", tiny=())[0] == 0
    assert_same_run(folder_of(home, "whole"), folder_of(home, "parts"), 6)
    meta = json.loads((folder_of(home, "parts") / "step_000006" / "meta.json").read_text())
    assert meta["config"]["window_pattern"] == "SSSL" and meta["recipe"]["rates"]["embedding_lr"] == 0.15


@pytest.mark.slow
def test_every_program_takes_it(train, home, capfd):  # noqa: F811
    train("--tag=july", tiny=TINY)
    base_eval.main(["--tag=july", "--max-per-task=2", "--eval=bpb"])
    chat_sft.main("--tag=july --num-iterations=2 --total-batch-size=320 --sequence-len=160 --processes=1".split())
    chat_rl.main("--tag=july --tasks=counting --questions=2 --samples=2 --num-iterations=1 --max-tokens=4".split())
    chat_eval.main(["--tag=july", "--tasks=counting", "--max-per-task=2", "--max-tokens=4"])
    for stage in ("base", "sft", "rl"):
        model, tokenizer, _ = load_model(run_folder("july", stage))
        assert isinstance(model, GPT2026) and model.config.windows == [128, 160]
    ids = render_for_completion(tokenizer, [{"role": "user", "content": "how many? " * 20}])[:100]
    engine = Engine(model, tokenizer, keep_prefixes=4)
    alone = [token for column, _ in engine.generate(ids, max_tokens=50, temperature=0) for token in column]
    with BatchEngine(model, tokenizer, chunk=7) as server:
        handles = [server.submit(Request(ids[: len(ids) - n], 50, 0)) for n in (0, 3, 40)]
        together = handles[0].result().ids
    assert together == alone[: len(together)] and len(together) > 0


def test_engine_writes_what_the_model_says_without_a_cache():
    config = GPT2026Config(sequence_len=400, vocab_size=265, n_layer=3, n_head=2, n_kv_head=1, n_embd=32)
    model, tokenizer = GPT2026(config), Tokenizer.train(["a b c"], 265, allow_smaller=True)
    mx.random.seed(1)
    model.update(tree_map(lambda a: a + 0.3 * mx.random.normal(a.shape), model.parameters()))
    prompt, long = [1, 2, 3, 4] * 40, [5, 6] * 20
    engine = Engine(model, tokenizer)
    engine.stops = set()
    replies = engine.generate_batch([prompt, long, prompt[:150]], max_tokens=60, temperature=0)
    for ids, reply in zip((prompt, long, prompt[:150]), replies, strict=True):
        text = list(ids)
        for _ in range(60):
            text.append(model(mx.array([text]))[0, -1].argmax().item())
        assert reply.ids == text[len(ids) :]


@pytest.mark.parametrize("shared", [1, 5, 150])
def test_options_that_share_a_beginning_are_scored_as_alone(shared):
    config = GPT2026Config(sequence_len=400, vocab_size=90, n_layer=3, n_head=2, n_kv_head=1, n_embd=32)
    mx.random.seed(2)
    model = GPT2026(config)
    model.update(tree_map(lambda a: a + 0.3 * mx.random.normal(a.shape), model.parameters()))
    start = [n % 89 for n in range(160)]
    options = [ScoredSequence([*start, *ending], 160) for ending in ([3, 4, 5], [7], [9, 9])]
    apart = mx.abs(scored_logits(model, options, shared) - scored_logits(model, options, 0))
    assert apart.max().item() < 1e-4


def test_sizes_of_nanochats_d12():
    config = GPT2026Config.from_depth(12)
    d, V = 768, 32768
    blocks = 12 * 12 * d * d + 6 * 6 * 12  # the gates: six blocks, a row of 12 for each head
    assert scaling_parameters(config) == blocks + V * d
    attention = 12 * d * (9 * 512 + 3 * 2048)
    assert flops_per_token(config) == 6 * (blocks + V * d) + attention


def test_defaults_on_much_text_follow_from_depth():
    asked = Settings(model="2026", depth=12)
    recipe = make_recipe(asked, 32768, 1e11)
    if recipe.total_batch_size == 4096:  # on a CPU text is never much
        pytest.skip("no GPU")
    assert recipe.total_batch_size == 2**19 and recipe.rates.weight_decay == pytest.approx(0.28, rel=0.01)


def test_small_steps_take_half_the_rates_of_adamw_where_none_are_given():
    usual, small = Rates2026(), make_recipe(Settings(model="2026"), 300, 1e6).rates
    assert (small.matrix_lr, small.smear_lr) == (usual.matrix_lr, usual.smear_lr)
    for name in ("embedding_lr", "unembedding_lr", "value_embedding_lr", "resid_lr", "x0_lr"):
        assert getattr(small, name) == getattr(usual, name) / 2
    assert make_recipe(Settings(model="2026", embedding_lr=0.3), 300, 1e6).rates.embedding_lr == 0.3
    assert make_recipe(Settings(), 300, 1e6).rates == Rates()


def test_fine_tuning_begins_at_its_full_rates():
    config = make_recipe(Settings(model="2026"), 300, 1e6).model
    for recipe in (
        fine_tuning.make_recipe(fine_tuning.Settings(num_iterations=50), config, 1e6),
        reinforcing.make_recipe(reinforcing.Settings(), config),
    ):
        rates = recipe.rates
        assert (rates.warmup_steps, rates.weight_decay, rates.final_lr_frac) == (0, 0, 0)
        assert rates.multiplier(0, recipe.num_iterations) == 1 and rates.multiplier(50, 50) == 0


@pytest.mark.parametrize("pattern", [7, "S" * 2000, {"S": 1}, "SX"])
def test_a_checkpoint_with_another_pattern_is_refused(pattern):
    config = make_recipe(Settings(model="2026"), 300, 1e6).model
    meta = {"config": {**dataclasses.asdict(config), "window_pattern": pattern}, "tokenizer": "abc"}
    with pytest.raises(CourseError, match="window_pattern"):
        config_of(meta, {})


def test_window_pattern_is_for_2026_only():
    with pytest.raises(FlagError, match="--window-pattern is for --model 2026"):
        make_recipe(Settings(window_pattern="L"), 300, 1e6)
    with pytest.raises(FlagError, match="--weight-decay is for a model of 2026"):
        make_recipe(Settings(weight_decay=0.1), 300, 1e6)
    assert make_recipe(Settings(model="2026", window_pattern="L", weight_decay=0.1), 300, 1e6).rates.weight_decay == 0.1


@pytest.mark.slow
@pytest.mark.skipif(backend.device_kind() != "cpu", reason="fitted to MLX on a CPU")
@pytest.mark.parametrize("depth, rows", [(4, 8), (8, 1)])  # full while it learns, and while weights move
def test_memory_of_a_step_is_as_estimated(depth, rows):
    config = GPT2026Config.from_depth(depth, vocab_size=32_768, sequence_len=128)
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    trainer = FastTrainer(GPT2026(config), 4, usual_rates(config))
    for _ in range(2):
        trainer.step([tuple(mx.random.randint(0, 32_768, (2, rows, 128)))])
    assert mx.get_peak_memory() - before == pytest.approx(estimate_memory(config, rows)["total"], rel=0.25)
