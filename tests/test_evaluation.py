"""Evaluation: bits per byte and CORE's scores are those of a plain reference that asks one option at a time."""

import json
import math
import random

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten, tree_unflatten

from course_lib.classroom.exercises import evaluation as exercises
from course_lib.classroom.pair_table import PairTable
from course_lib.data.tokenizer import Tokenizer
from course_lib.evaluate.core import (
    TaskResult,
    by_cluster,
    clustered_error,
    core_error,
    core_score,
    fewshot_examples,
    render,
    standard_error,
    task_result,
    tokenise,
)
from course_lib.evaluate.records import FIELDS, CoreTask, ScoredSequence, interval, paired_difference
from course_lib.evaluate.reports import draw_results, report_entry
from course_lib.evaluate.scoring import ask_items, evaluate_task, score_sequences, shared_prefix
from course_lib.evaluate.task_files import load_items, load_tasks
from course_lib.host.errors import CourseError
from course_lib.host.paths import data_dir
from course_lib.model.gpt import GPT, GPTConfig
from course_lib.train.validation import validate

WORDS = "the cat dog house tree sun moon star sings sleeps runs under over with a small large old new blue".split()


def sentence(chance: random.Random, words: int) -> str:
    return " ".join(chance.choices(WORDS, k=words))


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train([sentence(random.Random(n), 30) for n in range(50)], 320)


def make_model(tokenizer: Tokenizer, n_head: int = 2, n_kv_head: int = 1, sequence_len: int = 160) -> GPT:
    """A model whose every weight is random: at its start the head is zero, and all options are alike."""
    model = GPT(GPTConfig(sequence_len, tokenizer.vocab_size, 2, n_head, n_kv_head, 32))
    weights = tree_flatten(model.parameters())
    keys = mx.random.split(mx.random.key(3), len(weights))
    model.update(
        tree_unflatten([(n, 0.3 * mx.random.normal(w.shape, key=k)) for (n, w), k in zip(weights, keys, strict=True)])
    )
    return model


@pytest.fixture(scope="module")
def model(tokenizer) -> GPT:
    return make_model(tokenizer)


def log_probs(model: GPT, ids: list[int]) -> np.ndarray:
    """(T, V) of one row of ids, by NumPy in float64 from the model's logits."""
    logits = np.array(model(mx.array([ids]))[0].astype(mx.float32), dtype=np.float64)
    top = logits.max(axis=-1, keepdims=True)
    return logits - top - np.log(np.exp(logits - top).sum(axis=-1, keepdims=True))


# Bits per byte


def test_bits_per_byte_is_the_hand_computed_ratio_without_specials_and_ignored_targets(model, tokenizer):
    chance = random.Random(0)
    ids = tokenizer.encode(sentence(chance, 20), bos=True) + tokenizer.encode(sentence(chance, 20), bos=True)
    inputs, targets = ids[:-1], ids[1:]
    assert tokenizer.bos in targets
    targets[3] = targets[10] = -1
    log_p, nats, size = log_probs(model, inputs), 0.0, 0
    for place, target in enumerate(targets):
        if target not in (-1, tokenizer.bos):
            nats -= log_p[place, target]
            size += len(tokenizer.token(target))
    batch = mx.array([inputs]), mx.array([targets])
    found = validate(model, [batch], tokenizer.token_bytes)
    assert found == pytest.approx(nats / math.log(2) / size, rel=1e-5)


def test_bits_per_byte_sums_before_it_divides(model, tokenizer):
    ids = mx.random.randint(0, tokenizer.vocab_size, (3, 4, 9), key=mx.random.key(1))
    batches = [(rows[:, :-1], rows[:, 1:]) for rows in ids]
    batches[1] = (batches[1][0], mx.where(mx.arange(8) < 6, -1, batches[1][1]))
    together = validate(model, batches, tokenizer.token_bytes)
    singles = [validate(model, [batch], tokenizer.token_bytes) for batch in batches]
    assert abs(sum(singles) / 3 - together) > 1e-4, "the mean of the batches' ratios is another number"


def test_a_batch_with_nothing_to_count_changes_nothing_and_nothing_at_all_is_nan(model, tokenizer):
    ids = mx.random.randint(0, 256, (2, 9), key=mx.random.key(1))
    real = ids[:, :-1], ids[:, 1:]
    empty = [
        (real[0], mx.full(real[1].shape, -1)),
        (real[0], mx.full(real[1].shape, tokenizer.bos)),
    ]
    expected = validate(model, [real], tokenizer.token_bytes)
    assert validate(model, [empty[0], real, empty[1]], tokenizer.token_bytes) == expected
    assert math.isnan(validate(model, empty, tokenizer.token_bytes))
    assert math.isnan(validate(model, [], tokenizer.token_bytes))


# How an item becomes a prompt

CHOICE = {"query": "Two and two are", "choices": ["three", "four"], "gold": 1}
SCHEMA = {"context_options": ["The bag", "The book"], "continuation": "was full.", "gold": 0}
LANGUAGE = {"context": "  Once upon a ", "continuation": "time"}


def test_prompts_are_context_delimiter_continuation_after_the_solved_examples():
    task = CoreTask("t", "multiple_choice", delimiter="\nAnswer: ")
    other = {"query": "One and one are", "choices": ["two", "nine", "ten"], "gold": 0}
    before = "One and one are\nAnswer: two\n\n"
    assert render(task, CHOICE, [other]) == [
        (before + "Two and two are\nAnswer: ", before + "Two and two are\nAnswer: three"),
        (before + "Two and two are\nAnswer: ", before + "Two and two are\nAnswer: four"),
    ]
    other = {"context_options": ["A", "B"], "continuation": "is last.", "gold": 1}
    assert [text for _, text in render(CoreTask("t", "schema"), SCHEMA, [other])] == [
        "B is last.\n\nThe bag was full.",
        "B is last.\n\nThe book was full.",
    ]
    other = {"context": "Long long\n", "continuation": "ago"}
    assert render(CoreTask("t", "language_modeling"), LANGUAGE, [other, other]) == [
        ("Long long ago\n\n" * 2 + "Once upon a ", "Long long ago\n\n" * 2 + "Once upon a time")
    ]


def test_examples_are_nanochats_for_each_item_and_never_the_item_itself():
    data = [{"n": n} for n in range(20)]
    for index in range(20):
        found = [item["n"] for item in fewshot_examples(data, index, 5)]
        others = [n for n in range(20) if n != index]
        assert found == random.Random(1234 + index).sample(others, 5)
        assert index not in found and len(set(found)) == 5
    assert [item["n"] for item in fewshot_examples(data, 7, 4)] == [16, 6, 10, 9], "numbers of a trusted run"
    assert fewshot_examples(data, 0, 0) == []
    with pytest.raises(CourseError, match="20 examples for each of 20 items"):
        fewshot_examples(data, 0, 20)


def judged(tokenizer: Tokenizer, row: ScoredSequence) -> str:
    return tokenizer.decode(row.ids[row.start :])


def test_judged_are_the_options_the_shared_end_or_the_continuation_and_bos_stands_in_front(tokenizer):
    for kind, item, expected in (
        ("multiple_choice", CHOICE, [" three", " four"]),
        ("schema", SCHEMA, [" was full.", " was full."]),
        ("language_modeling", LANGUAGE, [" time"]),
    ):
        task = CoreTask("t", kind)
        prompts = render(task, item)
        rows = tokenise(task, tokenizer, prompts, 160)
        assert [row.ids for row in rows] == [tokenizer.encode(text, bos=True) for _, text in prompts]
        assert all(row.ids[0] == tokenizer.bos for row in rows)
        for row, text in zip(rows, expected, strict=True):
            # the tokens may be shared a little further; what is judged ends the option
            assert text.endswith(judged(tokenizer, row)) and judged(tokenizer, row)
    assert judged(tokenizer, rows[0]) == " time", "the space belongs to the continuation's first token"


def test_an_option_that_another_one_begins_with_still_has_a_token_to_judge(tokenizer):
    task = CoreTask("t", "multiple_choice")
    item = {"query": "it is", "choices": ["a", "a cat", "a"], "gold": 1}
    rows = tokenise(task, tokenizer, render(task, item), 160)
    assert all(row.start < len(row.ids) for row in rows)
    same = {"context_options": ["x", "x"], "continuation": "y", "gold": 0}
    rows = tokenise(CoreTask("t", "schema"), tokenizer, render(CoreTask("t", "schema"), same), 160)
    assert all(1 <= row.start < len(row.ids) for row in rows)


def test_a_long_prompt_loses_its_beginning_and_keeps_what_is_judged(tokenizer):
    task = CoreTask("t", "multiple_choice")
    item = {"query": sentence(random.Random(0), 100), "choices": ["the sun", "a moon"], "gold": 1}
    long = tokenise(task, tokenizer, render(task, item), 1000)
    short = tokenise(task, tokenizer, render(task, item), 20)
    for whole, cut in zip(long, short, strict=True):
        assert cut.ids == whole.ids[-21:], "20 inputs, and the last target"
        assert cut.ids[cut.start :] == whole.ids[whole.start :]
    tiny = tokenise(task, tokenizer, render(task, {**item, "choices": [sentence(random.Random(1), 30), "x"]}), 8)
    assert all(len(row.ids) <= 9 and 1 <= row.start < len(row.ids) for row in tiny)


@pytest.mark.parametrize("continuation", ["", "  "])
def test_an_empty_continuation_is_refused(tokenizer, continuation):
    task = CoreTask("t", "language_modeling", delimiter="")
    prompts = render(task, {"context": "the cat", "continuation": ""})
    with pytest.raises(CourseError, match="is empty; give it a text"):
        tokenise(task, tokenizer, prompts, 160)


# Scores


def make_items(kind: str, count: int, seed: int = 0) -> list[dict]:
    chance = random.Random(seed)
    items = []
    for _ in range(count):
        starts = chance.sample(WORDS, chance.randint(2, 4))  # no option is the beginning of another one
        texts = [f"{start} {sentence(chance, chance.randint(1, 4))}" for start in starts]
        long = sentence(chance, chance.randint(3, 12))
        gold = chance.randrange(len(texts))
        items.append(
            {
                "multiple_choice": {"query": long, "choices": texts, "gold": gold},
                "schema": {"context_options": texts, "continuation": long, "gold": gold},
                "language_modeling": {"context": long, "continuation": chance.choice(WORDS)},
            }[kind]
        )
    return items


def reference(
    model: GPT, tokenizer: Tokenizer, task: CoreTask, data: list[dict], index: int
) -> tuple[list[float], bool]:
    """(loss of each option, right?) of one item, written anew: no batch, no padding, no cache, float64."""
    item = data[index]
    examples = random.Random(1234 + index).sample(
        [other for n, other in enumerate(data) if n != index], task.num_fewshot
    )
    begin = ""
    for example in examples:
        if task.kind == "multiple_choice":
            begin += example["query"] + task.delimiter + example["choices"][example["gold"]] + "\n\n"
        elif task.kind == "schema":
            begin += example["context_options"][example["gold"]] + task.delimiter + example["continuation"] + "\n\n"
        else:
            begin += example["context"].strip() + task.delimiter + example["continuation"] + "\n\n"
    if task.kind == "language_modeling":
        without = (begin + item["context"].strip() + task.delimiter).strip()
        first = len(tokenizer.encode(without)) + 1
        ids = [
            tokenizer.bos,
            *tokenizer.encode(begin + item["context"].strip() + task.delimiter + item["continuation"]),
        ]
        log_p = log_probs(model, ids)
        places = range(first - 1, len(ids) - 1)
        loss = -np.mean([log_p[place, ids[place + 1]] for place in places])
        return [loss], all(log_p[place].argmax() == ids[place + 1] for place in places)
    if task.kind == "multiple_choice":
        texts = [begin + item["query"] + task.delimiter + choice for choice in item["choices"]]
    else:
        texts = [begin + context + task.delimiter + item["continuation"] for context in item["context_options"]]
    all_ids = [[tokenizer.bos, *tokenizer.encode(text)] for text in texts]
    losses = []
    for ids in all_ids:
        judged = 0
        if task.kind == "multiple_choice":
            while all(len(other) > judged and other[judged] == ids[judged] for other in all_ids):
                judged += 1
            places = range(judged - 1, len(ids) - 1)
        else:
            while all(other[-1 - judged] == ids[-1 - judged] for other in all_ids):
                judged += 1
            places = range(len(ids) - judged - 1, len(ids) - 1)
        log_p = log_probs(model, ids)
        losses.append(-np.mean([log_p[place, ids[place + 1]] for place in places]))
    return losses, int(np.argmin(losses)) == item["gold"]


@pytest.mark.slow
@pytest.mark.parametrize("shots", [0, 3])
@pytest.mark.parametrize("kind", list(FIELDS))
def test_scores_are_those_of_the_reference_that_asks_one_option_at_a_time(model, tokenizer, kind, shots):
    task, data = CoreTask("t", kind, shots, delimiter=" "), make_items(kind, 24)
    hits = []
    for index in range(24):
        expected, expected_right = reference(model, tokenizer, task, data, index)
        rows = tokenise(task, tokenizer, render(task, data[index], fewshot_examples(data, index, shots)), 160)
        for shared in {0, shared_prefix(rows)}:
            found = score_sequences(model, rows, shared)
            assert [each.loss for each in found] == pytest.approx(expected, abs=2e-4)
        if kind == "language_modeling":
            assert found[0].exact == expected_right
        hits.append(expected_right)
    for batch_size in (1, 7, 100):
        assert ask_items(model, tokenizer, task, data, batch_size=batch_size) == hits, "in the order of the items"
        result = evaluate_task(model, tokenizer, task, data, batch_size=batch_size)
        assert (result.right, result.count) == (sum(hits), 24)


def test_language_modelling_is_right_when_every_token_is_the_first_choice(model, tokenizer):
    context = "the old house"
    ids = tokenizer.encode(context, bos=True)
    start = len(ids)
    for _ in range(3):
        ids.append(int(log_probs(model, ids)[-1].argmax()))
    assert score_sequences(model, [ScoredSequence(ids, start)])[0].exact
    for place in range(start, start + 3):
        wrong = list(ids)
        wrong[place] = (wrong[place] + 1) % 256
        assert not score_sequences(model, [ScoredSequence(wrong, start)])[0].exact, "one wrong token is enough"


@pytest.mark.parametrize(("n_head", "n_kv_head"), [(2, 2), (2, 1)])
def test_the_shared_prefix_read_once_gives_the_scores_of_whole_rows(tokenizer, n_head, n_kv_head):
    model = make_model(tokenizer, n_head, n_kv_head)
    task = CoreTask("t", "multiple_choice")
    item = {"query": sentence(random.Random(0), 60), "choices": ["the sun sings", "a", "old moon"], "gold": 0}
    rows = tokenise(task, tokenizer, render(task, item), 160)
    shared = shared_prefix(rows)
    assert shared >= 55 and shared == rows[0].start - 1, "the last shared token asks for the first judged one"
    seen = []
    ask = type(model.transformer).__call__

    class Counted(type(model.transformer)):
        def __call__(self, ids, caches=None):
            seen.append(ids.shape)
            return ask(self, ids, caches)

    model.transformer.__class__ = Counted
    whole = score_sequences(model, rows)
    assert seen == [(3, max(len(row.ids) for row in rows) - 1)]
    seen.clear()
    once = score_sequences(model, rows, shared)
    assert seen[0] == (1, shared) and seen[1][0] == 3 and seen[1][1] < 12, "the rest is short"
    for a, b in zip(whole, once, strict=True):
        assert a.loss == pytest.approx(b.loss, abs=1e-4) and a.exact == b.exact


def test_prompts_longer_than_the_model_are_scored_on_their_end(tokenizer):
    model = make_model(tokenizer, sequence_len=24)
    task, data = CoreTask("t", "multiple_choice", 4), make_items("multiple_choice", 6)
    rows = tokenise(task, tokenizer, render(task, data[0], fewshot_examples(data, 0, 4)), 24)
    assert all(len(row.ids) == 25 for row in rows)
    for row, found in zip(rows, score_sequences(model, rows), strict=True):
        log_p = log_probs(model, row.ids[:-1])
        expected = -np.mean([log_p[n - 1, row.ids[n]] for n in range(row.start, 25)])
        assert found.loss == pytest.approx(expected, abs=2e-4)
    assert evaluate_task(model, tokenizer, task, data).count == 6


def test_the_first_items_score_as_in_the_whole_task_and_progress_is_told(model, tokenizer):
    task, data = CoreTask("t", "multiple_choice", 2), make_items("multiple_choice", 12)
    single = [evaluate_task(model, tokenizer, task, data, limit=n).right for n in range(1, 13)]
    assert all(0 <= b - a <= 1 for a, b in zip(single, single[1:], strict=False))
    told = []
    result = evaluate_task(model, tokenizer, task, data, limit=5, on_items=lambda *numbers: told.append(numbers))
    assert result.right == single[4] and result.count == 5
    assert told[-1] == (5, 5) and told == sorted(told)
    assert evaluate_task(model, tokenizer, task, data, limit=99).count == 12


def test_no_items_and_another_tokenizer_are_refused(model, tokenizer):
    task = CoreTask("t", "schema")
    with pytest.raises(CourseError, match="0 items"):
        evaluate_task(model, tokenizer, task, [])
    with pytest.raises(CourseError, match="has 300 ids, the model 320; give the tokenizer"):
        other = Tokenizer.train([sentence(random.Random(n), 30) for n in range(50)], 300)
        evaluate_task(model, other, task, make_items("schema", 2))


# Numbers


def test_centring_puts_guessing_at_0_and_all_right_at_1():
    task = CoreTask("t", "multiple_choice", baseline=0.25)
    assert TaskResult(task, 25, 100).centred == 0
    assert TaskResult(task, 100, 100).centred == 1
    assert TaskResult(task, 0, 100).centred == pytest.approx(-1 / 3)
    result = TaskResult(task, 40, 100)
    assert result.accuracy == 0.4 and result.centred == pytest.approx(0.2)
    assert result.standard_error == pytest.approx(math.sqrt(0.4 * 0.6 / 100))
    assert result.centred_error == pytest.approx(result.standard_error / 0.75)


def test_core_is_the_mean_of_the_centred_scores_whatever_the_sizes():
    results = [
        TaskResult(CoreTask("a", "multiple_choice", baseline=0.25), 400, 1000),
        TaskResult(CoreTask("b", "schema", baseline=0.5), 9, 10),
        TaskResult(CoreTask("c", "language_modeling"), 1, 4),
    ]
    assert core_score(results) == pytest.approx((0.2 + 0.8 + 0.25) / 3)
    errors = [result.centred_error for result in results]
    assert core_error(results) == pytest.approx(math.hypot(*errors) / 3)
    with pytest.raises(CourseError, match="there are none"):
        core_score([])


def test_the_standard_error_is_the_spread_of_many_measurements():
    chance = np.random.default_rng(0)
    for truth, count in ((0.3, 50), (0.5, 200), (0.9, 80)):
        measured = chance.binomial(count, truth, size=20_000) / count
        assert standard_error(truth, count) == pytest.approx(measured.std(), rel=0.02)


def drawn_pairs(chance: np.random.Generator, rounds: int, differ: float) -> np.ndarray:
    """How many of its two items are right, for 60 pairs in each round."""
    first = chance.integers(0, 2, (rounds, 60))
    return first + np.where(chance.random(first.shape) < differ, 1 - first, first)


@pytest.mark.parametrize("differ", [0.9, 0.5, 0.1])
def test_the_clustered_error_is_the_spread_of_many_measurements_whichever_way_twins_go(differ):
    pairs = drawn_pairs(np.random.default_rng(2), 4000, differ)
    errors = [clustered_error([(right, 2) for right in row]) for row in pairs[:300].tolist()]
    assert np.mean(errors) == pytest.approx((pairs.sum(axis=1) / 120).std(), rel=0.05)


def test_clusters_of_one_item_have_the_plain_error_and_twins_with_one_right_each_none():
    assert clustered_error([(1, 1)] * 7 + [(0, 1)] * 13) == pytest.approx(standard_error(7 / 20, 20))
    assert clustered_error([(1, 2)] * 22) == 0
    both_or_none = clustered_error([(2, 2)] * 3 + [(0, 2)] * 3)
    assert both_or_none == pytest.approx(math.sqrt(2) * standard_error(0.5, 12)), "as six items, not twelve"
    unlike = [(1, 1), (2, 2), (1, 3)]  # mean 4/6, so 1/3, 2/3 and −1 away
    assert clustered_error(unlike) == pytest.approx(math.sqrt(1 / 9 + 4 / 9 + 1) / 6)


def test_items_are_gathered_by_their_cluster_wherever_they_stand_and_others_stand_alone():
    items = [{"cluster": "a"}, {}, {"cluster": 1}, {"cluster": "a"}, {}, {"cluster": 1}, {"cluster": 2}]
    assert by_cluster(items, [1, 0, 1, 1, 1, 0, 1]) == [(2, 2), (0, 1), (1, 2), (1, 1), (1, 1)]
    assert by_cluster(items, [True, False]) == [(1, 1), (0, 1)], "only the first items were asked"


def test_the_paired_difference_is_that_of_chapter_11_for_independent_items():
    generator = random.Random(3)
    for _ in range(50):
        n = generator.randint(5, 80)
        first, second = ("".join(generator.choice("01") for _ in range(n)) for _ in range(2))
        gains = [int(b) - int(a) for a, b in zip(first, second, strict=True)]
        difference, error = paired_difference(first, second)
        assert difference == pytest.approx(sum(gains) / n)
        assert error == pytest.approx(max(clustered_error([(gain, 1) for gain in gains]), 1 / n))
        assert paired_difference(second, first) == (-difference, error)


def test_no_difference_on_few_questions_is_not_certain():
    assert paired_difference("0" * 10, "0" * 10) == (0, 0.1)
    assert paired_difference("0" * 10, "1" * 10) == (1, 0.1)
    for first, second in (("", ""), ("01", "0"), ("01", "0x")):
        with pytest.raises(CourseError, match="cannot be compared"):
            paired_difference(first, second)


def test_an_interval_holds_the_shares_that_are_two_standard_errors_away_and_no_others():
    for right, count in ((0, 10), (3, 10), (10, 10), (91, 100), (1, 200)):
        low, high = interval(right, count)
        assert 0 <= low <= right / count <= high <= 1 and high - low > 0.01
        for share in (low, high):
            if 1e-9 < share < 1 - 1e-9:
                assert abs(right / count - share) == pytest.approx(2 * standard_error(share, count))
    assert interval(0, 10)[1] == pytest.approx(4 / 14), "0 of 10 may be more than a quarter"
    with pytest.raises(CourseError, match="11 right of 10"):
        interval(11, 10)


def test_a_result_takes_its_error_from_clusters_and_so_do_core_the_report_and_the_verdict():
    from matplotlib.figure import Figure

    task = CoreTask("t", "schema", baseline=0.5)
    items = [{"cluster": n // 2} for n in range(80)]
    hits = [True, False] * 30 + [True, True] * 10
    result = task_result(task, items, hits)
    alone = task_result(task, [{}] * 80, hits)
    assert (alone.right, alone.count, alone.clusters) == (50, 80, ()) == (result.right, result.count, ())
    assert alone.standard_error == standard_error(50 / 80, 80)
    expected = math.sqrt(30 * (1 - 1.25) ** 2 + 10 * (2 - 1.25) ** 2) / 80
    assert result.standard_error == pytest.approx(expected) and expected < alone.standard_error / 1.5
    assert result.centred_error == pytest.approx(2 * expected) == core_error([result])
    assert report_entry(result)["standard_error"] == result.standard_error
    assert (report_entry(result)["clusters"], report_entry(alone)["clusters"]) == (40, 80)
    ax = Figure().subplots()
    hits = [True, False] * 36 + [True, True] * 4
    draw_results(ax, [task_result(task, items, hits), task_result(task, [{}] * 80, hits)])
    fills = [line.get_markerfacecolor() for line in ax.lines if line.get_marker() in ("o", "s")]
    assert fills == ["#0072B2", "white"], "55 % of twins is clear, 55 % of 80 independent items is not"


def test_a_model_that_likes_one_of_two_contexts_gets_half_of_each_pair(model, tokenizer):
    task, twins = CoreTask("t", "schema", baseline=0.5), []
    for n, item in enumerate(make_items("schema", 20)):
        contexts = item["context_options"][:2]
        twins += [{**item, "context_options": contexts, "gold": gold, "cluster": n} for gold in (0, 1)]
    hits = ask_items(model, tokenizer, task, twins)
    assert by_cluster(twins, hits) == [(1, 2)] * 20
    result = evaluate_task(model, tokenizer, task, twins, batch_size=7)
    assert (result.right, result.standard_error) == (20, 0)


def test_the_drawing_marks_what_is_clearly_above_guessing():
    from matplotlib.figure import Figure

    task = CoreTask("t", "schema", baseline=0.5)
    ax = Figure().subplots()
    draw_results(ax, [TaskResult(task, 90, 100), TaskResult(task, 52, 100)])
    assert [label.get_text() for label in ax.get_yticklabels()] == ["t", "t"]
    fills = [line.get_markerfacecolor() for line in ax.lines if line.get_marker() in ("o", "s")]
    assert fills == ["#0072B2", "white"]


def test_a_table_of_pairs_has_the_counted_chances_and_answers_tasks(tokenizer, model):
    ids = [tokenizer.encode(sentence(random.Random(n), 40), bos=True)[:41] for n in range(8)]
    batch = mx.array([each[:-1] for each in ids]), mx.array([each[1:] for each in ids])
    table = PairTable(model.config, [batch], strength=2)
    pairs, V = [pair for each in ids for pair in zip(each, each[1:], strict=False)], tokenizer.vocab_size
    chances = np.exp(np.array(table.head(mx.arange(V)), dtype=np.float64))
    assert chances.sum(axis=1) == pytest.approx(np.ones(V), rel=1e-4)
    first, second = pairs[7]
    share = (sum(b == second for _, b in pairs) + 1) / (len(pairs) + V)
    expected = (pairs.count((first, second)) + 2 * share) / (sum(a == first for a, _ in pairs) + 2)
    assert chances[first, second] == pytest.approx(expected, rel=1e-4)
    task, data = CoreTask("t", "multiple_choice", 2), make_items("multiple_choice", 8)
    assert len(ask_items(table, tokenizer, task, data)) == 8


# The tasks


def test_the_tasks_that_ship_are_sound():
    tasks = load_tasks()
    assert {task.kind for task in tasks} == set(FIELDS) and 3 <= len(tasks) <= 5
    for task in tasks:
        items = load_items(task)
        assert 40 <= len(items) <= 100
        texts = [json.dumps({**item, "gold": 0}) for item in items]
        assert len(set(texts)) == len(items), "no item twice"
        if task.kind != "language_modeling":
            options = [item[FIELDS[task.kind][1]] for item in items]
            assert all(len(set(each)) == len(each) == len(options[0]) for each in options)
            assert task.baseline == 1 / len(options[0])
            golds = [item["gold"] for item in items]
            spread = math.sqrt(len(items) * task.baseline * (1 - task.baseline))
            for place in range(len(options[0])):
                assert abs(golds.count(place) - len(items) * task.baseline) < 3 * spread, "no place is favoured"


def test_twins_of_the_tasks_that_ship_are_clusters_of_two_with_both_answers():
    for task in load_tasks():
        items = load_items(task)
        if task.name not in ("agreement", "pronouns"):
            assert not any("cluster" in item for item in items)
            continue
        for label in {item["cluster"] for item in items}:
            one, other = (item for item in items if item["cluster"] == label)
            assert set(one["context_options"]) == set(other["context_options"])
            answers = {item["context_options"][item["gold"]] for item in (one, other)}
            assert len(answers) == 2, "each context is the right one once"


def test_items_are_shuffled_as_nanochat_does():
    task = load_tasks()[0]
    lines = task.path.read_text(encoding="utf-8").splitlines()
    expected = [json.loads(line) for line in lines]
    random.Random(1337).shuffle(expected)
    assert load_items(task) == expected


def write_bundle(folder, yaml_text=None, csv_text=None, items='{"context": "a", "continuation": "b"}\n'):
    (folder / "eval_data" / "sub").mkdir(parents=True)
    (folder / "core.yaml").write_text(
        yaml_text
        or "icl_tasks:\n-\n  label: one\n  dataset_uri: sub/one.jsonl\n  num_fewshot: [3]\n"
        '  icl_task_type: language_modeling\n  continuation_delimiter: "\\nAnswer: "\n  has_categories: false\n'
    )
    (folder / "eval_meta_data.csv").write_text(
        csv_text or "Eval Task,Task Category,Random baseline,Centered Metric?\none,reading,6.5,\ntwo,x,0,\n"
    )
    (folder / "eval_data" / "sub" / "one.jsonl").write_text(items)
    return folder


def test_the_layout_of_the_bundle_is_read(tmp_path):
    (task,) = load_tasks(write_bundle(tmp_path / "b"))
    expected = CoreTask("one", "language_modeling", 3, "\nAnswer: ", 0.065, tmp_path / "b" / "eval_data/sub/one.jsonl")
    assert task == expected
    assert load_items(task) == [{"context": "a", "continuation": "b"}]


@pytest.mark.parametrize(
    "change",
    [
        {"yaml_text": "icl_tasks: [{label: one}]"},
        {"yaml_text": "a: ["},
        {"yaml_text": "just text"},
        {"csv_text": "Eval Task,Random baseline\ntwo,3\n"},
        {"csv_text": "Eval Task,Random baseline\none,many\n"},
        {"csv_text": "x"},
    ],
    ids=str,
)
def test_damaged_settings_of_tasks_are_said_in_one_sentence(tmp_path, change):
    with pytest.raises(CourseError, match="cannot be read .*: get them anew$") as caught:
        load_tasks(write_bundle(tmp_path / "b", **change))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("missing", ["core.yaml", "eval_meta_data.csv"])
def test_missing_settings_of_tasks_are_said(tmp_path, missing):
    (write_bundle(tmp_path / "b") / missing).unlink()
    with pytest.raises(CourseError, match=missing):
        load_tasks(tmp_path / "b")


def test_wrong_tasks_are_refused():
    with pytest.raises(CourseError, match="of kind 'riddle'; expected one of multiple_choice"):
        CoreTask("t", "riddle")
    for wrong in ({"baseline": 1.0}, {"baseline": -0.1}, {"num_fewshot": -1}):
        with pytest.raises(CourseError, match="expected 0 or more"):
            CoreTask("t", "schema", **wrong)


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("language_modeling", "{"),
        ("language_modeling", '{"context": "a"}'),
        ("language_modeling", '{"context": "a", "continuation": null}'),
        ("multiple_choice", '{"query": "a", "choices": ["b", "c"]}'),
        ("multiple_choice", '{"query": "a", "choices": ["b", "c"], "gold": 2}'),
        ("multiple_choice", '{"query": "a", "choices": ["b", "c"], "gold": "b"}'),
        ("multiple_choice", '{"query": "a", "choices": ["b", "c"], "gold": -1}'),
        ("schema", '{"context_options": "ab", "continuation": "c", "gold": 0}'),
        ("schema", '{"context_options": ["a", null], "continuation": "c", "gold": 0}'),
        ("schema", '["a"]'),
        ("schema", '{"context_options": ["a", "b"], "continuation": "c", "gold": 0, "cluster": [1]}'),
    ],
)
def test_a_wrong_item_is_named_by_its_line(tmp_path, kind, line):
    path = tmp_path / "items.jsonl"
    path.write_text("\n" + line + "\n")
    with pytest.raises(CourseError, match=f"items.jsonl, line 2: expected a {kind} item") as caught:
        load_items(CoreTask("t", kind, path=path))
    assert "\n" not in str(caught.value)


def test_numbers_are_texts_too(tmp_path):
    path = tmp_path / "items.jsonl"
    path.write_text('{"query": 3, "choices": ["a", 4.5], "gold": 1, "more": null}\n')
    (item,) = load_items(CoreTask("t", "multiple_choice", path=path))
    assert item == {"query": "3", "choices": ["a", "4.5"], "gold": 1, "more": None}


def test_a_missing_file_of_items_is_said(tmp_path):
    with pytest.raises(CourseError, match="cannot read .*gone.jsonl"):
        load_items(CoreTask("t", "schema", path=tmp_path / "gone.jsonl"))


def test_the_data_readme_tells_of_the_tasks():
    readme = (data_dir() / "README.md").read_text(encoding="utf-8")
    assert all(f"`{task.path.name}`" in readme for task in load_tasks())


# ---- the exercises of chapter 11: right answers pass, and the message for a wrong one teaches


def by_rate(rate, first=True, best=min):
    def choose(losses, sizes):
        scores = [rate(np.array(a), np.array(b)) for a, b in zip(losses, sizes, strict=True)]
        places = [n for n, score in enumerate(scores) if score == best(scores)]
        return places[0 if first else -1]

    return choose


def total_rate(nats, sizes):
    return nats.sum() / sizes.sum()


def right_difference(first, second, clusters, error=lambda away, d, groups: np.sqrt((away**2).sum()) / len(d), sign=1):
    d, labels = sign * (np.array(second) - np.array(first)), np.array(clusters)
    groups = [d[labels == each] for each in dict.fromkeys(clusters)]
    return d.mean(), error(np.array([(group - d.mean()).sum() for group in groups]), d, groups)


def unpaired(first, second, clusters):
    return np.mean(second) - np.mean(first), math.sqrt((np.var(first) + np.var(second)) / len(first))


def neighbours(first, second, clusters):
    """Takes a cluster to end where the label changes."""
    runs = np.cumsum([0, *(a != b for a, b in zip(clusters, clusters[1:], strict=False))]).tolist()
    return right_difference(first, second, runs)


def right_bootstrap(
    nats, sizes, seed, rounds=1000, many=1.0, repeat=True, number=lambda n, s: n.sum(1) / s.sum(1), end=np.std
):
    rng, count = np.random.default_rng(seed), int(many * len(nats))
    if repeat:
        drawn = rng.integers(0, len(nats), (rounds, count))
    else:
        drawn = np.array([rng.permutation(len(nats)) for _ in range(rounds)])
    return float(end(number(np.array(nats)[drawn], np.array(sizes)[drawn]) / math.log(2)))


def separately(nats, sizes, seed):
    rng, n = np.random.default_rng(seed), len(nats)
    some, others = rng.integers(0, n, (2, 1000, n))
    return float((np.array(nats)[some].sum(1) / np.array(sizes)[others].sum(1)).std() / math.log(2))


def test_exercise_checks_accept_right_answers():
    exercises.choose(by_rate(total_rate))
    exercises.choose(by_rate(lambda nats, sizes: total_rate(nats, sizes) / math.log(2)))
    exercises.difference(right_difference)
    exercises.bootstrap(right_bootstrap)
    exercises.bootstrap(lambda *args, **seed: right_bootstrap(*args, **seed, rounds=4000))
    exercises.bootstrap(lambda *args, **seed: right_bootstrap(*args, **seed, end=lambda each: np.std(each, ddof=1)))


@pytest.mark.parametrize(
    ("test", "answer", "said"),
    [
        (exercises.choose, lambda *args: None, "return"),
        (exercises.choose, by_rate(lambda nats, sizes: (nats / sizes).mean()), "sum the nats, sum the bytes"),
        (exercises.choose, by_rate(lambda nats, sizes: (nats / sizes).sum()), "adds up the tokens' own ratios"),
        (exercises.choose, by_rate(lambda nats, sizes: nats.mean()), "mean over tokens"),
        (exercises.choose, by_rate(lambda nats, sizes: nats.sum()), "favours short options"),
        (exercises.choose, by_rate(total_rate, best=max), "a max in place of a min"),
        (exercises.choose, by_rate(lambda nats, sizes: 1 / total_rate(nats, sizes)), "the ratio upside down"),
        (exercises.choose, by_rate(total_rate, first=False), "take the first"),
        (exercises.choose, lambda *args: by_rate(total_rate)(*args) + 1, "count the options from 0"),
        (exercises.choose, lambda losses, sizes: min(map(sum, losses)) / 2, "the number of the option"),
        (exercises.difference, lambda *args: None, "return"),
        (exercises.difference, lambda *args: right_difference(*args)[1], "two numbers"),
        (exercises.difference, lambda *args: right_difference(*args, sign=-1), "second minus first"),
        (
            exercises.difference,
            lambda *args: (abs(right_difference(*args)[0]), right_difference(*args)[1]),
            "below 0 where the second is worse",
        ),
        (exercises.difference, unpaired, "take the difference on every item first"),
        (exercises.difference, lambda a, b, c: right_difference(a, b, range(len(a))), "inside each cluster"),
        (exercises.difference, neighbours, "not always side by side"),
        (
            exercises.difference,
            lambda *args: right_difference(*args, error=lambda away, d, g: d.std(ddof=1) / math.sqrt(len(d))),
            "n − 1",
        ),
        (
            exercises.difference,
            lambda *args: right_difference(
                *args, error=lambda away, d, g: math.sqrt(sum(each.sum() ** 2 for each in g)) / len(d)
            ),
            "subtract the mean difference",
        ),
        (
            exercises.difference,
            lambda *args: right_difference(*args, error=lambda away, d, g: np.sqrt((away**2).sum()) / len(g)),
            "not of clusters",
        ),
        (
            exercises.difference,
            lambda *args: right_difference(
                *args, error=lambda away, d, g: np.std([each.mean() for each in g]) / math.sqrt(len(g))
            ),
            "weighs as much as one of six",
        ),
        (
            exercises.difference,
            lambda *args: right_difference(*args, error=lambda away, d, g: (away**2).sum() / len(d) ** 2),
            "the root is missing",
        ),
        (
            exercises.difference,
            lambda *args: right_difference(*args, error=lambda away, d, g: np.abs(away).sum() / len(d)),
            "the root comes last",
        ),
        (exercises.bootstrap, lambda *args, **kwargs: None, "return"),
        (exercises.bootstrap, lambda *args, **k: right_bootstrap(*args, **k) * math.log(2), "divide by ln 2"),
        (
            exercises.bootstrap,
            lambda *args, **k: right_bootstrap(*args, **k, number=lambda n, s: (n / s).mean(1)),
            "the mean of the documents' own ratios",
        ),
        (exercises.bootstrap, separately, "belong together"),
        (exercises.bootstrap, lambda *args, **k: right_bootstrap(*args, **k, repeat=False), "with repetition"),
        (exercises.bootstrap, lambda *args, **k: right_bootstrap(*args, **k, end=np.var), "take the root"),
        (exercises.bootstrap, lambda nats, sizes, seed: right_bootstrap(nats, sizes, 0), "is `seed` used"),
        (exercises.bootstrap, lambda nats, sizes, seed: right_bootstrap(nats, sizes, None), "the same seed"),
        (exercises.bootstrap, lambda *args, **k: right_bootstrap(*args, **k, many=0.5), "as many documents"),
        (exercises.bootstrap, lambda *args, **k: right_bootstrap(*args, **k, rounds=10), "1,000 rounds"),
        (
            exercises.bootstrap,
            lambda *args, **k: right_bootstrap(*args, **k) / math.sqrt(1000),
            "more rounds do not make it smaller",
        ),
        (
            exercises.bootstrap,
            lambda nats, sizes, **k: right_bootstrap(nats, sizes, **k) / math.sqrt(len(nats)),
            "no further root",
        ),
    ],
)
def test_exercise_checks_name_the_likely_mistake(test, answer, said):
    with pytest.raises(AssertionError) as caught:
        test(answer)
    assert said in str(caught.value)
