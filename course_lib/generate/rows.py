"""Rows of text that are written together: what is asked for, one row, one step for all of them.

A `Request` says what is wanted, a `Row` is one text on its way, a `Batch` holds the rows that take steps together and
their cache, and a `Generation` is what came of a row.

Written by hand; chapter 12 builds the simple form of such a loop and compares the two.
"""

import math
import operator
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import compress

import mlx.core as mx

from course_lib import backend
from course_lib.generate.kv_cache import KVCache
from course_lib.generate.sampling import sample, token_key
from course_lib.host.errors import CourseError
from course_lib.model.gpt import GPT, GPTConfig
from course_lib.model.products import inference_mode

# ---- what is asked for, and what comes of it


@dataclass(frozen=True)
class Request:
    """A prompt, and how to go on from it.

    watch: is called with each token and the logits (V,) before it, in the thread of the engine.
    """

    prompt_ids: list[int]
    max_tokens: int = 256
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    seed: int = 42
    watch: Callable | None = None

    @property
    def sampling(self) -> tuple:
        """What `sample` takes between the logits and the key."""
        return self.temperature, self.top_k, self.top_p, self.min_p


@dataclass(frozen=True)
class Generation:
    """What the model wrote: ids without the prompt and without the token that ended it.

    masks: 1 for a token that was sampled, 0 for one that a tool's result forced.
    finish_reason: "stop" (it wrote <|assistant_end|> or <|bos|>), "max_tokens", "sequence_len" (no room for more),
    "cancelled".
    """

    ids: list[int]
    masks: list[int]
    finish_reason: str


def check_request(request: Request, config: GPTConfig) -> None:
    """Raises CourseError, in one sentence, for a request that this model cannot serve."""
    r, V = request, config.vocab_size
    try:
        ids = [operator.index(token) for token in r.prompt_ids]
    except TypeError:
        raise CourseError("the prompt is not a list of whole numbers; give the ids of tokenizer.encode(text)") from None
    if not ids:
        raise CourseError("the prompt is empty; begin it with tokenizer.bos at least")
    if min(ids) < 0 or max(ids) >= V:
        raise CourseError(
            f"the prompt has ids from {min(ids)} to {max(ids)}, but this model knows 0 to {V - 1}; "
            "use the tokenizer that it was trained with"
        )
    if len(ids) > config.sequence_len:
        raise CourseError(
            f"the prompt has {len(ids)} tokens, but the model has sequence_len={config.sequence_len}; shorten it"
        )
    checks = {
        "max_tokens": (_whole(r.max_tokens, 0), "a whole number, 0 or more"),
        "temperature": (0 <= r.temperature < math.inf, "0 (always the likeliest) or more"),
        "top_k": (r.top_k is None or _whole(r.top_k, 1, V), f"1 to {V}, or None for all"),
        "top_p": (r.top_p is None or 0 < r.top_p <= 1, "more than 0 and at most 1, or None"),
        "min_p": (r.min_p is None or 0 <= r.min_p <= 1, "0 to 1, or None"),
        "seed": (_whole(r.seed, 0), "a whole number, 0 or more"),
    }
    for name, (right, expected) in checks.items():
        if not right:
            raise CourseError(f"{name}={getattr(r, name)}, expected {expected}")


def check_count(name: str, value: int, least: int = 1) -> None:
    """Raises CourseError for anything but a whole number of at least `least`."""
    if not _whole(value, least):
        raise CourseError(f"{name}={value}, expected {least} or more")


def _whole(value: int, least: int, most: float = math.inf) -> bool:
    return hasattr(value, "__index__") and least <= value <= most


# ---- one text


class Row:
    """One text that is being written.

    engine: whose model, tokenizer, tool and stops it has; number: its place among the rows of one request, each of
    which draws its own random numbers.
    shown: the token and the mask of the last step; <|assistant_end|> and 0 after the end.
    """

    def __init__(self, engine, request: Request, number: int = 0):
        self.request, self.number = request, number
        self.prompt_ids = [int(token) for token in request.prompt_ids]
        self.ids: list[int] = []
        self.masks: list[int] = []
        self.shown = engine.end, 0
        self.finish_reason = None if request.max_tokens else "max_tokens"
        self.error: Exception | None = None
        self.coming: deque[mx.array] = deque()  # for `watch`: logits of tokens not taken yet
        self._engine = engine
        self._forced: deque[int] = deque()  # a tool's result, to be taken in place of what is sampled
        self._expression: list[int] | None = None  # what the tool is being asked

    def key(self, place: int) -> list[int]:
        """Key of the token at this place, from seed, number and place alone."""
        return token_key(self.request.seed, self.number, place)

    def known(self, place: int) -> int:
        """The token at `place` after the prompt: taken, or to be forced there; -1 if neither."""
        if place < len(self.ids):
            return self.ids[place]
        return self._forced[0] if self._forced else -1

    def take(self, sampled: int) -> None:
        """Take the next token. Raises CourseError for -1 (it was NaN), and what the tool raises."""
        if sampled < 0:
            raise CourseError(
                "the model's logits are not numbers (NaN): its weights are damaged, or its training has diverged; take "
                "an older checkpoint"
            )
        forced = bool(self._forced)
        token = self._forced.popleft() if forced else sampled
        self.shown = token, int(not forced)
        if not forced and token in self._engine.stops:
            self.finish_reason = "stop"
            return
        if self.request.watch is not None:
            self.request.watch(token, self.coming.popleft())
        self.masks.append(int(not forced))
        self.ids.append(token)
        if not forced and self._engine.tool:
            self._use_tool(token)
        if len(self.ids) >= self.request.max_tokens:
            self.finish_reason = "max_tokens"
        elif len(self.prompt_ids) + len(self.ids) > self._engine.model.config.sequence_len:
            self.finish_reason = "sequence_len"  # the last token was sampled from a full cache, and is never read

    def _use_tool(self, token: int) -> None:
        """An expression stands between <|python_start|> and <|python_end|>."""
        tokenizer = self._engine.tokenizer
        special = tokenizer.special
        if token == special("<|python_start|>"):
            self._expression = []
        elif token == special("<|python_end|>") and self._expression is not None:
            result = self._engine.tool(tokenizer.decode(self._expression))
            self._expression = None
            if result is not None:
                ids = tokenizer.encode(result)
                self._forced.extend([special("<|output_start|>"), *ids, special("<|output_end|>")])
        elif self._expression is not None:
            self._expression.append(token)

    def fail(self, error: Exception) -> None:
        """End with an error, which `generation` raises."""
        self.error, self.finish_reason = error, "error"

    def generation(self) -> Generation:
        """What has been written. Raises what ended it, if that was an error."""
        if self.error:
            raise self.error
        return Generation(list(self.ids), list(self.masks), self.finish_reason)


# ---- through the model


def next_logits(model: GPT, ids: mx.array, cache: KVCache) -> mx.array:
    """Logits (B, V) for what follows ids (B, T), which are new to the cache.

    Only the last place goes through the head, which in small models is a large part of all weights.
    """
    return model.head(model.hidden(ids, cache.layers)[:, -1])  # (B, n_embd) -> (B, V)


def prefill(model: GPT, ids: list[int], cache: KVCache, chunk: int = 256) -> Iterator[mx.array | None]:
    """Read what the one row of a cache does not hold of `ids`, `chunk` at a time.

    Yields None after each chunk, and logits (1, V) after the last.
    """
    while cache.lengths[0] < len(ids):
        start = cache.lengths[0]
        logits = next_logits(model, mx.array([ids[start : start + chunk]]), cache)
        if cache.lengths[0] == len(ids):
            mx.eval(logits)
            yield logits
        else:  # the logits are never computed
            mx.eval(cache.arrays)
            yield None


class Batch:
    """Rows that are written together, a token each at a step. They join and leave between steps.

    A GPU must not wait for Python: before a step reads its tokens it begins the next one with them, as an array whose
    numbers nobody has seen. Random numbers are known ahead (seed and place), and so are tokens that a tool forces. If
    a row turns out to have ended, its part is thrown away; its cache holds a position too many, which nobody reads.

    look_ahead: whether to do so; None: not on a CPU, where Python and the computing want the same cores.
    """

    look_ahead: bool | None = None

    def __init__(self, model: GPT):
        self.model = model
        self.rows: list[Row] = []
        self.cache = KVCache(model.config, rows=0)  # row n of the cache belongs to rows[n]
        self._ahead: mx.array | None = None  # (rows,), what a step that looked ahead has sampled

    def join(self, rows: list[Row], prompt: KVCache, logits: mx.array) -> None:
        """Add rows of one prompt, each with a first token of its own.

        prompt: its cache, of one row, which is copied; logits: (1, V), for what follows it.
        """
        self.cache.append(prompt, times=len(rows))
        self.rows += rows
        logits = mx.broadcast_to(logits, (len(rows), logits.shape[-1]))
        tokens = self._sample(rows, prompt.lengths * len(rows), logits)
        if self._ahead is not None:
            self._ahead = mx.concatenate([self._ahead, tokens])
        self._take(zip(rows, tokens.tolist(), strict=True))

    def leave(self, row: Row) -> None:
        """Take a row out; the last one moves to its place, here as in the cache."""
        n, last = self.rows.index(row), self.rows.pop()
        self.cache.remove(n)
        if row is not last:
            self.rows[n] = last
        if self._ahead is not None:
            stay = [len(self.rows) if m == n else m for m in range(len(self.rows))]
            self._ahead = self._ahead[mx.array(stay)] if stay else None

    def step(self) -> None:
        """One more token for every row.

        One that has joined since a step looked ahead gets none yet: its first goes through the model.
        """
        tokens = self._ahead if any(self._unread()) else self._next_tokens()
        unread = self._unread()
        self._ahead = self._next_tokens(tokens) if self._may_look_ahead() else None
        pairs = zip(self.rows, tokens.tolist(), strict=True)  # waits until the tokens are there
        self._take(compress(pairs, unread))

    def _unread(self) -> list[bool]:
        """Which rows have a token to take: those whose cache holds all of their text."""
        pairs = zip(self.rows, self.cache.lengths, strict=True)
        return [length == len(row.prompt_ids) + len(row.ids) for row, length in pairs]

    def _may_look_ahead(self) -> bool:
        """Whether a row goes on after the tokens that are about to be taken, and no cache is full."""
        on = backend.device_kind() != "cpu" if self.look_ahead is None else self.look_ahead
        if not on or max(self.cache.lengths) >= self.model.config.sequence_len:
            return False
        pairs = zip(self.rows, self.cache.lengths, strict=True)
        return any(length + 1 - len(row.prompt_ids) < row.request.max_tokens for row, length in pairs)

    def _next_tokens(self, sampled: mx.array | None = None) -> mx.array:
        """Begin to compute (B,) tokens: put each row's next one through the model, and sample.

        sampled: (B,), the next ones of rows that have not taken them yet.
        """
        pairs = zip(self.rows, self.cache.lengths, strict=True)
        known = [row.known(length - len(row.prompt_ids)) for row, length in pairs]
        ids = mx.array(known)
        if sampled is not None:  # a -1 among them (NaN) reads the last row of wte: that row has ended
            ids = mx.where(ids < 0, sampled, ids) if max(known) >= 0 else sampled
        with inference_mode():
            logits = next_logits(self.model, ids[:, None], self.cache)
        tokens = self._sample(self.rows, self.cache.lengths, logits)
        mx.async_eval(tokens)
        return tokens

    def _sample(self, rows: list[Row], lengths: list[int], logits: mx.array) -> mx.array:
        """A token (B,) for each row after so many positions, from logits (B, V); rows with equal settings together."""
        alike = defaultdict(list)
        for n, row in enumerate(rows):
            alike[row.request.sampling].append(n)
            if row.request.watch is not None:
                row.coming.append(logits[n])
        tokens = []
        for settings, places in alike.items():
            some = logits if len(places) == len(rows) else logits[mx.array(places)]
            keys = None
            if settings[0]:  # at temperature 0 nothing is drawn
                numbers = [rows[n].key(lengths[n] - len(rows[n].prompt_ids)) for n in places]
                keys = mx.array(numbers, dtype=mx.uint32)
            tokens.append(sample(some, *settings, keys))
        if len(tokens) == 1:
            return tokens[0]
        order = [n for places in alike.values() for n in places]
        back = sorted(range(len(order)), key=order.__getitem__)
        return mx.concatenate(tokens)[mx.array(back)]

    def _take(self, pairs: Iterable[tuple[Row, int]]) -> None:
        """Give rows their tokens; what fails (NaN, a tool) ends its row alone."""
        for row, token in pairs:
            try:
                row.take(token)
            except Exception as error:
                row.fail(error)
