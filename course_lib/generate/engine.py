"""Text from a model for one user (Engine), and for many at once (BatchEngine).

Exported from notebooks/12_engine.ipynb; edit it there.
"""

import atexit
import operator
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator

import mlx.core as mx
from mlx.utils import tree_flatten

from course_lib.data.tokenizer import Tokenizer
from course_lib.generate.kv_cache import KVCache, PrefixStore
from course_lib.generate.rows import (
    Batch,
    Generation,
    Request,
    Row,
    check_count,
    check_request,
    next_logits,
    prefill,
)
from course_lib.host.errors import CourseError
from course_lib.model.gpt import GPT
from course_lib.model.products import lay_out

# ---- 5. The engine


class Engine:
    """Writes text with a model: one prompt, several samples of it, or several prompts.

    tool: a function of the text between <|python_start|> and <|python_end|>; the text that it
    returns is put behind, between <|output_start|> and <|output_end|>. None: nothing is put there.
    keep_prefixes: how many texts' caches to keep, so that a prompt which begins as one of them need
    not be read from its beginning. They are forgotten when the model gets other weights.
    On a CPU its weights are put into the order in memory that is faster here (`lay_out`).
    On a GPU, `model.set_dtype(backend.compute_dtype())` makes a model that is not to be trained any
    further faster and smaller.
    """

    def __init__(self, model: GPT, tokenizer: Tokenizer, tool: Callable | None = None, keep_prefixes: int = 4):
        if tokenizer.vocab_size > model.config.vocab_size:
            raise CourseError(
                f"the tokenizer has {tokenizer.vocab_size} ids, but the model knows "
                f"{model.config.vocab_size}; use the tokenizer that it was trained with"
            )
        self.model, self.tokenizer, self.tool = model, tokenizer, tool
        self.end = tokenizer.special("<|assistant_end|>")
        self.stops = {self.end, tokenizer.bos}
        self.prefixes = PrefixStore(keep_prefixes)
        self._weights: list[weakref.ref] = []

    def read(self, row: Row, chunk: int = 256) -> Iterator[tuple[KVCache, mx.array] | None]:
        """Read the prompt of a row: None after each chunk, (its cache, logits) after the last."""
        self._meet_weights()
        cache = self.prefixes.find(row.prompt_ids) or KVCache(self.model.config)
        for logits in prefill(self.model, row.prompt_ids, cache, chunk):
            if logits is not None:
                self.prefixes.keep(row.prompt_ids, cache)
            yield logits if logits is None else (cache, logits)

    def keep(self, row: Row, batch: Batch) -> None:
        """Keep the cache of a row for a prompt that begins with its text."""
        n = batch.rows.index(row)
        ids = (row.prompt_ids + row.ids)[: batch.cache.lengths[n]]
        self.prefixes.keep(ids, batch.cache.copy(n))

    def _start(self, batch: Batch, rows: list[Row]) -> None:
        """Read the one prompt of some rows, and let them join."""
        for done in self.read(rows[0]):
            if done:
                batch.join(rows, *done)

    def _settle(self, batch: Batch, keep: bool = False) -> None:
        """Raise what went wrong; take out the rows that have ended."""
        for row in list(batch.rows):
            if row.error:
                self.prefixes.clear()
                raise row.error
            if row.finish_reason:
                if keep:
                    self.keep(row, batch)
                batch.leave(row)
                row.shown = self.end, 0

    def _meet_weights(self) -> None:
        """New weights are laid out, and keys and values of older ones forgotten; training makes new."""
        weights = [array for _, array in tree_flatten(self.model.parameters())]
        known = [ref() for ref in self._weights]
        same = len(weights) == len(known) and all(map(operator.is_, weights, known))
        if not same:
            self.prefixes.clear()
            lay_out(self.model)
            laid_out = tree_flatten(self.model.parameters())
            self._weights = [weakref.ref(array) for _, array in laid_out]

    def generate(
        self,
        prompt_ids: list[int],
        num_samples: int = 1,
        max_tokens: int = 256,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        seed: int = 42,
    ) -> Iterator[tuple[list[int], list[int]]]:
        """Yields, at each step, (token_column, token_masks): a token of every sample, and its mask.

        mask 1: sampled; 0: forced by a tool's result, or filled up with <|assistant_end|> behind a
        sample that has ended. A sample ends with <|assistant_end|> or <|bos|> (which is in the
        column), after max_tokens tokens, or when prompt and tokens are more than sequence_len; the
        generator returns the finish reasons. With max_tokens=0 nothing is yielded. Samples differ
        by their random numbers: sample n is the same whatever num_samples is.
        Raises CourseError, at once, for what a model cannot do, and when its logits are NaN.
        """
        request = Request(prompt_ids, max_tokens, temperature, top_k, top_p, min_p, seed)
        check_request(request, self.model.config)
        check_count("num_samples", num_samples)
        return self._columns([Row(self, request, n) for n in range(num_samples)])

    def _columns(self, rows: list[Row]) -> Iterator[tuple[list[int], list[int]]]:
        batch, single = Batch(self.model), len(rows) == 1
        if not rows[0].finish_reason:
            self._start(batch, rows)
        while batch.rows:
            column = [row.shown for row in rows]
            self._settle(batch, keep=single)
            try:
                yield tuple(map(list, zip(*column, strict=True)))
            except GeneratorExit:  # the reader has had enough
                if single and batch.rows:
                    self.keep(rows[0], batch)
                raise
            if batch.rows:
                batch.step()
        return [row.finish_reason for row in rows]

    def generate_batch(
        self, prompts: list[list[int]], max_tokens: int = 256, max_rows: int = 16, **settings
    ) -> list[Generation]:
        """What the model writes after each prompt, in their order; lengths may differ.

        settings: as for `generate`; prompt n draws the random numbers of sample n there, so that
        one prompt may be given several times. At most max_rows are written at once; another begins
        when one has ended.
        """
        check_count("max_rows", max_rows)
        rows = []
        for n, prompt in enumerate(prompts):
            request = Request(prompt, max_tokens, **settings)
            check_request(request, self.model.config)
            rows.append(Row(self, request, n))
        waiting, batch = deque(row for row in rows if not row.finish_reason), Batch(self.model)
        while waiting or batch.rows:
            if waiting and len(batch.rows) < max_rows:
                self._start(batch, [waiting.popleft()])
            else:
                batch.step()
            self._settle(batch)
        return [row.generation() for row in rows]


# ---- 6. Continuous batching


class QueueFull(CourseError):
    """Too many requests wait already."""


class Handle(Row):
    """A row of a BatchEngine, for any thread to read: `ids` and `masks` only grow.

    Iterate for (token, mask) as they come, or wait for `result()`. finish_reason: None while it
    waits or runs; then as in `Generation`, or "error".
    """

    def __init__(self, server: "BatchEngine", request: Request, notify: Callable | None):
        super().__init__(server._engine, request)
        self.cancelled = False
        self._server, self._notify = server, notify
        self._changed = threading.Condition()

    def cancel(self) -> None:
        """Take it out: at once if it waits, before the next step if it runs."""
        self.cancelled = True
        if self._server._forget(self):
            self._end("cancelled")

    def __iter__(self) -> Iterator[tuple[int, int]]:
        seen, done = 0, None
        while not done:
            with self._changed:
                while len(self.ids) == seen and not self.finish_reason:
                    self._changed.wait()
                done, new = self.finish_reason, len(self.ids)
            yield from zip(self.ids[seen:new], self.masks[seen:new], strict=True)
            seen = new
        self.generation()  # raises, after an error

    def result(self, timeout: float | None = None) -> Generation:
        """All of it, when it has ended. Raises the error that ended it.

        Raises TimeoutError if it has not ended after `timeout` seconds.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self.finish_reason, timeout):
                raise TimeoutError(f"the request has not ended within {timeout} seconds")
        return self.generation()

    def _tell(self) -> None:
        """Something is new. A listener that fails has gone away."""
        with self._changed:
            self._changed.notify_all()
        try:
            if self._notify:
                self._notify()
        except Exception:
            self._notify, self.cancelled = None, True

    def _end(self, reason: str, error: Exception | None = None) -> None:
        self.error, self.finish_reason = error, reason
        self._tell()


class BatchEngine:
    """Many requests at once: each joins the running batch when a row is free, and leaves it.

    They start in the order in which they came. A long prompt is read in chunks, with a step of the
    running rows after each. One thread does all the work; `close()`, or the end of a `with` block,
    ends it, and cancels what has not ended. What a request gets does not depend on the others.
    max_rows: how many are written at once; max_waiting: how many may wait; chunk: tokens of a
    prompt to read between two steps. Other arguments: as for `Engine`.
    """

    def __init__(
        self,
        model: GPT,
        tokenizer: Tokenizer,
        tool: Callable | None = None,
        max_rows: int = 8,
        max_waiting: int = 64,
        chunk: int = 128,
        keep_prefixes: int = 8,
    ):
        check_count("max_rows", max_rows)
        check_count("max_waiting", max_waiting, least=0)
        check_count("chunk", chunk)
        self._engine = Engine(model, tokenizer, tool, keep_prefixes)
        self._max_rows, self._max_waiting, self._chunk = max_rows, max_waiting, chunk
        # What is still to be computed, only the thread that has defined it can compute: this one.
        mx.eval(model.parameters(), next_logits(model, mx.array([[0]]), KVCache(model.config)))
        self._waiting: deque[Handle] = deque()
        self._served: list[Handle] = []
        self._reading: tuple[Handle, Iterator] | None = None  # the prompt of the last one served
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="BatchEngine", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    @property
    def load(self) -> tuple[int, int]:
        """How many requests are being served, and how many wait."""
        with self._changed:
            return len(self._served), len(self._waiting)

    def submit(self, request: Request, notify: Callable | None = None) -> Handle:
        """Queue a request, from any thread.

        notify: is called, in the engine's thread, when there are new tokens, and when it has ended.
        Raises QueueFull when too many wait, and CourseError for a bad request or a closed engine.
        """
        check_request(request, self._engine.model.config)
        handle = Handle(self, request, notify)
        with self._changed:
            if self._closed:
                raise CourseError("this BatchEngine is closed; make another")
            free = self._max_rows - len(self._served)
            if len(self._waiting) >= self._max_waiting + free:
                raise QueueFull(f"{len(self._waiting)} requests wait already; try again in a while")
            if not handle.finish_reason:
                self._waiting.append(handle)
                self._changed.notify_all()
        if handle.finish_reason:
            handle._tell()
        return handle

    def close(self) -> None:
        """End the thread; requests that have not ended end as "cancelled"."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()
        atexit.unregister(self.close)

    def __enter__(self) -> "BatchEngine":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _forget(self, handle: Handle) -> bool:
        """Take a handle out of the queue; False if it does not wait there."""
        with self._changed:
            waits = handle in self._waiting
            if waits:
                self._waiting.remove(handle)
            return waits

    def _run(self) -> None:
        """The thread: as long as there is work, a chunk of a prompt, then a step of all rows."""
        self._batch = Batch(self._engine.model)
        reason, error = "cancelled", None
        try:
            while self._next_request():
                self._read()
                self._settle()
                self._step()
                self._settle()
        except Exception as caught:
            reason, error = "error", caught
        with self._changed:
            self._closed = True
            left = [*self._served, *self._waiting]
            self._served.clear()
            self._waiting.clear()
        for handle in left:
            handle._end(reason, error)

    def _next_request(self) -> bool:
        """Wait for work; begin with the next request if a row is free. False at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._waiting or self._served)
            if self._waiting and not self._reading and len(self._served) < self._max_rows:
                handle = self._waiting.popleft()
                self._served.append(handle)
                self._reading = handle, self._engine.read(handle, self._chunk)
            return not self._closed

    def _read(self) -> None:
        """Read a chunk of the prompt whose turn it is; after the last, its row joins the batch."""
        if not self._reading:
            return
        handle, chunks = self._reading
        try:
            done = next(chunks)
            if done:
                self._batch.join([handle], *done)
        except Exception as error:
            handle.fail(error)
        if handle.ids:
            self._reading = None

    def _step(self) -> None:
        """One token for every row. A failure ends them all: their cache may hold anything."""
        rows = self._batch.rows
        try:
            if rows:
                self._batch.step()
        except Exception as error:
            for handle in rows:
                handle.fail(error)
            self._batch = Batch(self._engine.model)
        for handle in rows:
            if not handle.finish_reason:
                handle._tell()

    def _settle(self) -> None:
        """Free the rows that have ended or were cancelled."""
        for handle in list(self._served):
            if not (handle.finish_reason or handle.cancelled):
                continue
            if self._reading and self._reading[0] is handle:
                self._reading = None
            if handle.error:
                self._engine.prefixes.clear()
            if handle in self._batch.rows:
                if not handle.error:
                    self._engine.keep(handle, self._batch)
                self._batch.leave(handle)
            with self._changed:
                self._served.remove(handle)
            handle._end(handle.finish_reason or "cancelled", handle.error)
