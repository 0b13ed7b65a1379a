"""Speculative decoding: a draft proposes several tokens, and the model checks them all in one pass.

A model that reads one token needs all of its weights, and so does one that reads five: on a GPU both take about as
long. What is right of the draft is taken, so the text is the model's own: at temperature 0 the same ids (up to a
near-tie, as several rows are rounded otherwise than one), else the same distribution.
Source: Leviathan et al., 2023; Chen et al., 2023; the draft from the text itself: Saxena, 2023.

Written by hand; chapter 22 uses it.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import mlx.core as mx
import numpy as np

from course_lib.generate.cutoffs import keep_top_k, keep_top_p
from course_lib.generate.kv_cache import SPARE, KVCache
from course_lib.generate.rows import Request, check_count, check_request, next_logits, prefill
from course_lib.generate.sampling import keep_min_p
from course_lib.host.errors import CourseError
from course_lib.model.gpt import GPT

# A draft of at most so many tokens to follow these ids, and the probabilities (count, V) from which each was drawn;
# None: it was certain of each.
Draft = Callable[[list[int], int], tuple[list[int], np.ndarray | None]]


@dataclass
class Speculation:
    """ids: what was written, without what ended it; finish_reason: as in `Generation`.

    proposed, accepted, refused: tokens of the draft, those after a refused one in neither of the last two; passes: of
    the model, the one that reads the prompt not counted.
    """

    ids: list[int] = field(default_factory=list)
    finish_reason: str | None = None
    proposed: int = 0
    accepted: int = 0
    refused: int = 0
    passes: int = 0


# ---- the rule


def distribution(logits: mx.array, request: Request) -> np.ndarray:
    """The probabilities (n, V), in float64, from which a request draws after logits (n, V); at temperature 0, 1 and 0.

    Raises CourseError where logits are no numbers.
    """
    best = logits.max(axis=-1, keepdims=True)
    if not mx.isfinite(best).all():
        raise CourseError("the model's logits are not numbers (NaN): its weights are damaged; take an older checkpoint")
    if request.temperature == 0:
        return np.eye(logits.shape[-1])[np.array(logits.argmax(axis=-1))]
    if request.top_k is not None and request.top_k < logits.shape[-1]:
        logits = keep_top_k(logits, request.top_k)
    logits = (logits - best) / request.temperature
    if request.top_p is not None and request.top_p < 1:
        logits = keep_top_p(logits, request.top_p)
    if request.min_p:
        logits = keep_min_p(logits, request.min_p)
    weights = np.exp(np.array(logits, dtype=np.float64))
    return weights / weights.sum(axis=-1, keepdims=True)


def check_draft(p: np.ndarray, q: np.ndarray, tokens: list[int], random: np.random.Generator) -> list[int]:
    """The tokens to take: those of the draft up to the first that is refused, and one from the model itself.

    p: (n + 1, V), the model's probabilities at the places of the n tokens and after them; q: (n, V), the draft's. A
    token is accepted with probability p / q, at most 1. In place of a refused one comes one from what p has more
    than q: then each token has probability min(p, q) + max(p - q, 0) = p.
    """
    for place, token in enumerate(tokens):
        if random.random() * q[place, token] >= p[place, token]:
            more = np.maximum(p[place] - q[place], 0)
            return [*tokens[:place], _drawn(more if more.any() else p[place], random)]  # all 0: p is q but for rounding
    return [*tokens, _drawn(p[len(tokens)], random)]


def _drawn(weights: np.ndarray, random: np.random.Generator) -> int:
    """An index with a probability in proportion to its weight; never one of weight 0."""
    ends = np.cumsum(weights)
    return int(np.searchsorted(ends, random.random() * ends[-1], side="right"))


# ---- two drafts


def repeat_draft(longest: int = 3) -> Draft:
    """A draft that costs nothing: what came after the last occurrence of the latest tokens, `longest` of them or fewer.

    It pays where a text repeats itself: code, a summary, an answer that quotes the question.
    """

    def draft(ids: list[int], count: int) -> tuple[list[int], None]:
        for n in range(min(longest, len(ids) - 1), 0, -1):
            latest = ids[-n:]
            for start in range(len(ids) - n - 1, -1, -1):
                if ids[start : start + n] == latest:
                    return ids[start + n : start + n + count], None
        return [], None

    return draft


class ModelDraft:
    """A smaller model with the same tokenizer as a draft: it draws as the request does.

    Raises CourseError for a model of another vocabulary.
    """

    def __init__(self, draft: GPT, model: GPT, request: Request):
        if draft.config.vocab_size != model.config.vocab_size:
            raise CourseError(
                f"the draft knows {draft.config.vocab_size} ids, the model {model.config.vocab_size}; take one with "
                "the same tokenizer"
            )
        self.model, self.request = draft, request
        self._random = np.random.default_rng([request.seed, 1])
        self._cache, self._read = KVCache(draft.config), []  # the ids that the cache holds

    def __call__(self, ids: list[int], count: int) -> tuple[list[int], np.ndarray]:
        count = min(count, self.model.config.sequence_len - len(ids) + 1)
        same = next((n for n, (a, b) in enumerate(zip(self._read, ids, strict=False)) if a != b), len(self._read))
        same = min(same, len(ids) - 1)
        if not self._cache.reaches(same):  # a window has gone on
            self._cache, same = KVCache(self.model.config), 0
        shorten(self._cache, same)
        self._read = list(ids)
        tokens, rows = [], []
        for _ in range(count):
            new = [*ids, *tokens][self._cache.lengths[0] :]
            logits = next_logits(self.model, mx.array([new]), self._cache)
            rows.append(distribution(logits, self.request)[0])
            tokens.append(_drawn(rows[-1], self._random))
        self._read += tokens[:-1]  # the last one was not read
        return tokens, np.array(rows)


# ---- the loop


def shorten(cache: KVCache, length: int) -> None:
    """Keep the first `length` positions of a cache of one row; they must reach so far back."""
    for layer in cache.layers:
        layer.lengths = [length]


def speculate(
    model: GPT, request: Request, draft: Draft, stops: Collection[int] = (), draft_tokens: int = 4
) -> Speculation:
    """Write after a prompt, checking `draft_tokens` of the draft at a time.

    stops: ids that end the text. No tool is asked. Raises CourseError for what a model cannot do, and for NaN.
    """
    check_request(request, model.config)
    check_count("draft_tokens", draft_tokens)
    if draft_tokens > SPARE:  # a cache with a window can forget no more
        raise CourseError(f"draft_tokens={draft_tokens}, expected {SPARE} or fewer")
    random = np.random.default_rng(request.seed)
    text, done = list(request.prompt_ids), Speculation()
    if not request.max_tokens:
        done.finish_reason = "max_tokens"
        return done
    cache = KVCache(model.config)
    logits = next(each for each in prefill(model, text, cache) if each is not None)
    new = [_drawn(distribution(logits, request)[0], random)]
    while True:
        for token in new:
            if token in stops:
                done.finish_reason = "stop"
                return done
            text.append(token)
            done.ids.append(token)
            if len(done.ids) >= request.max_tokens:
                done.finish_reason = "max_tokens"
            elif len(text) > model.config.sequence_len:
                done.finish_reason = "sequence_len"
            if done.finish_reason:
                return done
        shorten(cache, len(text) - 1)  # what was refused is forgotten
        most = min(draft_tokens, request.max_tokens - len(done.ids) - 1, model.config.sequence_len - len(text))
        tokens, q = draft(text, most) if most else ([], None)
        logits = model.head(model.hidden(mx.array([[text[-1], *tokens]]), cache.layers)[0])  # (n + 1, V)
        q = np.eye(logits.shape[-1])[tokens] if q is None else q
        new = check_draft(distribution(logits, request), q, tokens, random)
        done.passes += 1
        done.proposed += len(tokens)
        done.accepted += len(new) - 1
        done.refused += len(new) <= len(tokens)
