"""Log-probabilities of the tokens of a reply, in OpenAI's form.

Written by hand; chapter 17 uses it.
"""

import mlx.core as mx

from course_lib.data.tokenizer import Tokenizer
from course_lib.generate.sampling import largest


class LogProbs:
    """The `watch` of a `Request`: what the model itself thinks of each token, whatever temperature and top-k are.

    top: how many of the likeliest tokens to name beside each. entries: one a token; it only grows.
    """

    def __init__(self, tokenizer: Tokenizer, top: int):
        self._tokenizer, self._top = tokenizer, top
        self.entries: list[dict] = []

    def __call__(self, token: int, logits: mx.array) -> None:
        logprobs = logits - mx.logsumexp(logits)  # (V,)
        likeliest = []
        if self._top:
            values, ids = (each[0].tolist() for each in largest(logprobs[None], min(self._top, logits.size)))
            likeliest = [self._entry(id, value) for id, value in zip(ids, values, strict=True)]
        self.entries.append({**self._entry(token, logprobs[token].item()), "top_logprobs": likeliest})

    def _entry(self, token: int, logprob: float) -> dict:
        known = token < self._tokenizer.vocab_size  # a model's vocabulary may be larger
        data = self._tokenizer.token(token) if known else b""
        return {"token": data.decode(errors="replace"), "logprob": logprob, "bytes": list(data)}
