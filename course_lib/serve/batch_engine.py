"""One model for many users at once: continuous batching, in a thread of its own.

Many threads submit requests, one thread computes: it must be one, since what MLX has not computed yet belongs to the
thread that wrote it down.

Written by hand; chapter 16 explains it.
"""

import atexit
import threading
from collections import deque
from collections.abc import Callable, Iterator

import mlx.core as mx

from course_lib.data.tokenizer import Tokenizer
from course_lib.generate.engine import Engine
from course_lib.generate.kv_cache import KVCache
from course_lib.generate.rows import Batch, Generation, Request, Row, check_count, check_request, next_logits
from course_lib.host.errors import CourseError
from course_lib.model.gpt import GPT


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
        with self._server._changed:
            waits = self in self._server._waiting
            if waits:
                self._server._waiting.remove(self)
        if waits:
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
    ends it, and cancels what has not ended. What a request gets does not depend on the others (in
    bfloat16 on a GPU only up to a near-tie: kernels for one row and for several round differently).
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
            mx.synchronize()  # a step begun ahead must not outlive its thread
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
            for row in rows:
                row.fail(error)
            self._batch = Batch(self._engine.model)
        for handle in self._served:
            if handle.ids and not handle.finish_reason:
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
