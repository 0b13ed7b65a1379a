"""Speculative decoding writes what the model alone would: the same ids, or the same distribution."""

from collections import Counter
from itertools import product

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.generate.engine import Engine
from course_lib.generate.kv_cache import SPARE, KVCache
from course_lib.generate.rows import Request, next_logits
from course_lib.host.errors import CourseError
from course_lib.model.gpt import GPT, GPTConfig
from course_lib.model.gpt2026 import GPT2026, GPT2026Config
from course_lib.train.starter import load_starter
from course_lib.weights.speculative import ModelDraft, check_draft, distribution, repeat_draft, speculate

pytestmark = pytest.mark.usefixtures("float32")

PROMPTS = ["The sky is blue and the sky is", "1, 2, 3, 1, 2, 3, 1,", "def f(x):\n    return x\n\ndef g(x):\n", "Once"]


@pytest.fixture(scope="module")
def starter():
    return load_starter("base")


def random_model(seed, vocab_size=3, scale=1.5, n_embd=8, sequence_len=16):
    """A small model whose next token is neither certain nor even."""
    model = GPT(GPTConfig(sequence_len, vocab_size, 1, 2, 2, n_embd))
    keys = iter(mx.random.split(mx.random.key(seed), 20))
    model.apply(lambda array: scale * mx.random.normal(array.shape, key=next(keys)) / n_embd**0.5)
    return model


def alone(model, tokenizer, prompt, max_tokens):
    return Engine(model, tokenizer).generate_batch([prompt], max_tokens, temperature=0)[0]


@pytest.mark.parametrize("text", PROMPTS)
def test_greedy_ids_are_the_engines_with_any_draft(starter, text):
    model, tokenizer = starter
    prompt = tokenizer.encode(text, bos=True)
    request = Request(prompt, 24, temperature=0)
    stops = {tokenizer.bos, tokenizer.special("<|assistant_end|>")}
    expected = alone(model, tokenizer, prompt, 24)
    wrong = random_model(0, vocab_size=2048, sequence_len=256)
    for draft, draft_tokens in (
        (repeat_draft(), 1),
        (repeat_draft(), 4),
        (ModelDraft(model, model, request), 4),
        (ModelDraft(wrong, model, request), 3),
    ):
        done = speculate(model, request, draft, stops, draft_tokens)
        assert (done.ids, done.finish_reason) == (expected.ids, expected.finish_reason)
        assert done.passes + done.accepted >= len(done.ids) - 1


def test_a_perfect_draft_is_accepted_whole_and_saves_passes(starter):
    model, tokenizer = starter
    request = Request(tokenizer.encode(PROMPTS[0], bos=True), 41, temperature=0)
    done = speculate(model, request, ModelDraft(model, model, request))
    assert done.finish_reason == "max_tokens" and len(done.ids) == 41
    # 1 token of the prompt's pass, and 8 · 5
    assert (done.passes, done.proposed, done.accepted, done.refused) == (8, 32, 32, 0)
    none = speculate(model, request, lambda ids, count: ([], None))
    assert none.ids == done.ids and (none.passes, none.proposed) == (40, 0)


def test_a_text_that_repeats_itself_is_drafted_from_itself(starter):
    model, tokenizer = starter
    draft = repeat_draft()
    assert draft([5, 1, 2, 3, 4, 9, 1, 2, 3], 2) == ([4, 9], None)
    assert draft([7, 3, 8, 3, 6, 3], 4) == ([6, 3], None)  # the last occurrence, and no more than there is
    assert draft([1, 2, 3], 4) == ([], None) and draft([1], 4) == ([], None)
    assert draft([1, 1, 1], 4) == ([1], None)


def test_it_ends_where_the_engine_ends_it(starter):
    model, tokenizer = starter
    prompt = tokenizer.encode(PROMPTS[0], bos=True)
    expected = alone(model, tokenizer, prompt, 300)
    request = Request(prompt, 300, temperature=0)
    stops = {tokenizer.bos, tokenizer.special("<|assistant_end|>")}
    done = speculate(model, request, repeat_draft(), stops)
    assert (done.ids, done.finish_reason) == (expected.ids, expected.finish_reason)
    endless = speculate(model, request, ModelDraft(model, model, request), (), 5)
    assert endless.finish_reason == "sequence_len" and len(prompt) + len(endless.ids) == 257
    first = speculate(model, request, repeat_draft(), {expected.ids[0]})
    assert (first.ids, first.finish_reason) == ([], "stop")
    assert speculate(model, Request(prompt, 0), repeat_draft()).finish_reason == "max_tokens"
    assert len(speculate(model, Request(prompt, 1), repeat_draft()).ids) == 1


@given(seed=st.integers(0, 10**6), size=st.integers(2, 5))
@settings(max_examples=50)
def test_a_token_of_the_draft_or_in_its_place_has_the_models_probability(seed, size):
    """Over all that can happen: the token that the draft draws, and each way in which the random number falls."""
    rng = np.random.default_rng(seed)
    p, q = (np.where(rng.random(size) < 0.2, 0, rng.random(size)) + 1e-3 * rng.random(size) for _ in range(2))
    p, q = p / p.sum(), q / q.sum()

    class Uniform:
        """Gives these numbers, one after the other."""

        def __init__(self, *numbers):
            self.numbers = list(numbers)

        def random(self):
            return self.numbers.pop(0)

    n = 400  # midpoints of the unit interval, for each of the two numbers that decide
    middles = (np.arange(n) + 0.5) / n
    out = np.zeros(size)
    for token in range(size):
        accepted = [len(check_draft(np.array([p, p]), q[None], [token], Uniform(u, 0.5))) == 2 for u in middles]
        share = np.mean(accepted)
        assert share == pytest.approx(min(1, p[token] / q[token]), abs=1 / n)
        out[token] += q[token] * share
        if share < 1:
            for u in middles:
                (instead,) = check_draft(np.array([p, p]), q[None], [token], Uniform(1 - 1e-12, u))
                out[instead] += q[token] * (1 - share) / n
    np.testing.assert_allclose(out, p, atol=6 / n)


@pytest.mark.parametrize("cut", [{}, {"temperature": 0.7, "top_k": 2}, {"top_p": 0.8}, {"min_p": 0.3}])
def test_the_distribution_is_the_one_that_the_sampler_draws_from(cut):
    from course_lib.generate.sampling import sample

    request = Request([0], **cut)
    logits = mx.array([[1.0, 0.2, -0.5, 0.9, -3.0]])
    probabilities = distribution(logits, request)[0]
    n = 20_000
    drawn = sample(mx.broadcast_to(logits, (n, 5)), *request.sampling, mx.random.key(0))
    counts = np.bincount(np.array(drawn), minlength=5)
    assert probabilities.sum() == pytest.approx(1)
    assert (counts[probabilities == 0] == 0).all()
    assert chi_square(counts, n * probabilities) < 25  # 4 degrees of freedom: by luck once in 20,000


def chi_square(counts, expected):
    some = expected > 0
    return float(((counts[some] - expected[some]) ** 2 / expected[some]).sum())


@pytest.mark.parametrize("draft_tokens", [3, SPARE])
def test_windows_that_drop_what_is_behind_them_do_not_matter(draft_tokens):
    """What was refused is forgotten in a cache that has dropped positions, and ids come from a model of July 2026."""
    config = GPT2026Config(
        sequence_len=768, vocab_size=64, n_layer=2, n_head=2, n_kv_head=2, n_embd=64, window_pattern="S"
    )
    model = GPT2026(config)
    keys = iter(mx.random.split(mx.random.key(0), 40))
    for layer in (*(block.attn.c_proj for block in model.transformer.h), model.lm_head):
        layer.weight = mx.random.normal(layer.weight.shape, key=next(keys))
    model.smear_lambda = mx.ones(1)
    prompt = [n * n % 61 for n in range(520)]
    cache, ids = KVCache(config), list(prompt)
    for _ in range(40):
        new = ids[cache.lengths[0] :]
        ids.append(next_logits(model, mx.array([new]), cache).argmax().item())
    assert cache.layers[0].starts[0] > 0
    tail = iter(ids[520:])

    def draft(text, count):
        """Half of it is right."""
        right = ids[len(text) : len(text) + count]
        return [token if n < 2 else (token + 1) % 64 for n, token in enumerate(right)], None

    done = speculate(model, Request(prompt, 40, temperature=0), draft, (), draft_tokens)
    assert done.ids == list(tail) and 0 < done.accepted < done.proposed
    assert 0 < done.refused <= done.passes


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["repeat", "model"])
def test_sampled_texts_have_the_probabilities_of_the_model_alone(kind):
    """All 27 texts of three tokens, of a vocabulary of three, with their exact probabilities."""
    model, other = random_model(1), random_model(2)
    prompt, n = [0, 1, 2, 0, 1], 700
    exact = {}
    texts = list(product(range(3), repeat=3))
    rows = mx.array([[*prompt, *text] for text in texts])
    probabilities = np.array(mx.softmax(model(rows) / 0.8, axis=-1))
    for row, text in zip(probabilities, texts, strict=True):
        exact[text] = np.prod([row[len(prompt) - 1 + place, token] for place, token in enumerate(text)])
    assert sum(exact.values()) == pytest.approx(1, abs=1e-5)
    counts, accepted, proposed = Counter(), 0, 0
    for seed in range(n):
        request = Request(prompt, 3, temperature=0.8, seed=seed)
        draft = repeat_draft() if kind == "repeat" else ModelDraft(other, model, request)
        done = speculate(model, request, draft, (), 2)
        counts[tuple(done.ids)] += 1
        accepted, proposed = accepted + done.accepted, proposed + done.proposed
    expected = n * np.array([exact[text] for text in texts])
    assert 0.1 < accepted / proposed < 0.95  # both branches were taken
    assert chi_square(np.array([counts[text] for text in texts]), expected) < 65  # 26 degrees: once in 30,000


def test_a_draft_of_another_vocabulary_and_damaged_weights_are_refused(starter):
    model, tokenizer = starter
    request = Request(tokenizer.encode("a", bos=True), 4)
    with pytest.raises(CourseError, match="the draft knows 3 ids, the model 2048; take one"):
        ModelDraft(random_model(0), model, request)
    broken = random_model(0)
    broken.lm_head.weight = broken.lm_head.weight * mx.nan
    with pytest.raises(CourseError, match="not numbers"):
        speculate(broken, Request([0], 4), repeat_draft())
    with pytest.raises(CourseError, match="draft_tokens=0, expected 1 or more"):
        speculate(model, request, repeat_draft(), draft_tokens=0)
    with pytest.raises(CourseError, match=f"draft_tokens={SPARE + 1}, expected {SPARE} or fewer"):
        speculate(model, request, repeat_draft(), draft_tokens=SPARE + 1)
