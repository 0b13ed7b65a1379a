"""Text from a model: one prompt, several samples of it, or several prompts.

Written by hand; chapter 12 builds the simple form and compares the two.
"""

import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterator
from itertools import zip_longest

import mlx.core as mx
from mlx.utils import tree_flatten

from course_lib.data.tokenizer import Tokenizer
from course_lib.generate.kv_cache import KVCache, PrefixStore
from course_lib.generate.rows import Batch, Generation, Request, Row, check_count, check_request, prefill
from course_lib.host.errors import CourseError
from course_lib.model.gpt import GPT
from course_lib.model.products import lay_out

Columns = Generator[tuple[list[int], list[int]], None, list[str | None]]


class Engine:
    """Writes text with a model: one prompt, several samples of it, or several prompts.

    tool: a function of the text between <|python_start|> and <|python_end|>; the text that it returns follows it,
    between <|output_start|> and <|output_end|>. None: nothing is put there.
    keep_prefixes: how many texts' caches to keep, so that a prompt which begins as one of them need not be read from
    its beginning. They are forgotten when the model gets other weights.
    On a CPU its weights are put into the order in memory that is faster here (`lay_out`).
    On a GPU, `model.set_dtype(backend.compute_dtype())` makes a model that is not to be trained any further faster and
    smaller.
    """

    def __init__(self, model: GPT, tokenizer: Tokenizer, tool: Callable | None = None, keep_prefixes: int = 4):
        if tokenizer.vocab_size > model.config.vocab_size:
            raise CourseError(
                f"the tokenizer has {tokenizer.vocab_size} ids, but the model knows {model.config.vocab_size}; use the "
                "tokenizer that it was trained with"
            )
        self.model, self.tokenizer, self.tool = model, tokenizer, tool
        self.end = tokenizer.special("<|assistant_end|>")
        self.stops = {self.end, tokenizer.bos}
        self.prefixes = PrefixStore(keep_prefixes)
        self._known: list[weakref.ref] = []  # the model's arrays when it was seen last, not kept alive

    def generate(self, prompt_ids: list[int], num_samples: int = 1, **settings) -> Columns:
        """Yields, at each step, (token_column, token_masks): a token of every sample, and its mask.

        settings: the other fields of `Request`. mask 1: sampled; 0: forced by a tool's result, or filled up with
        <|assistant_end|> after the end of a sample. A sample ends with <|assistant_end|> or <|bos|> (which is in the
        column), after max_tokens tokens, or when prompt and tokens are more than sequence_len; the generator returns
        the finish reasons. With max_tokens=0 nothing is yielded. Samples differ by their random numbers: sample n is
        the same whatever num_samples is (in bfloat16 on a GPU only up to a near-tie: kernels for one row and for
        several round differently).
        Raises CourseError, at once, for what a model cannot do, and when its logits are NaN.
        """
        request = Request(prompt_ids, **settings)
        check_request(request, self.model.config)
        check_count("num_samples", num_samples)
        return self._columns([Row(self, request, n) for n in range(num_samples)])

    def generate_batch(
        self, prompts: list[list[int]], max_tokens: int = 256, max_rows: int = 16, **settings
    ) -> list[Generation]:
        """What the model writes after each prompt, in their order; lengths may differ.

        settings: as for `generate`; prompt n draws the random numbers of sample n there, so that one prompt may be
        given several times. At most max_rows are written at once; another begins when one has ended.
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

    def _columns(self, rows: list[Row]) -> Columns:
        batch, single = Batch(self.model), len(rows) == 1
        if not rows[0].finish_reason:
            self._start(batch, rows)
        while batch.rows:
            tokens, masks = zip(*(row.shown for row in rows), strict=True)
            self._settle(batch, keep=single)
            try:
                yield list(tokens), list(masks)
            except GeneratorExit:  # the reader has had enough
                if single and batch.rows:
                    self.keep(rows[0], batch)
                raise
            if batch.rows:
                batch.step()
        return [row.finish_reason for row in rows]

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
        self.prefixes.keep(ids, batch.cache.copy(n, len(ids)))  # it may also hold what ended the row

    def _meet_weights(self) -> None:
        """Training puts new arrays into a model: then lay them out, and forget keys and values of the old ones."""
        known = [reference() for reference in self._known]  # None where an array is gone
        if any(old is not new for old, new in zip_longest(known, self._weights())):
            self.prefixes.clear()
            lay_out(self.model)
            self._known = [weakref.ref(array) for array in self._weights()]

    def _weights(self) -> list[mx.array]:
        return [array for _, array in tree_flatten(self.model.parameters())]
