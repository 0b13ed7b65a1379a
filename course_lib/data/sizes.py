"""How much text a dataset holds, in tokens.

Written by hand; chapters 10 and 11 use it.
"""

import math
from itertools import islice

from course_lib.data.dataset import Dataset
from course_lib.data.tokenizer import Tokenizer


def corpus_tokens(dataset: Dataset, tokenizer: Tokenizer) -> tuple[float, float]:
    """Tokens of the training and of the validation text, about; infinite for a streamed one."""
    if dataset.streamed:
        return math.inf, math.inf
    texts = list(islice(dataset.documents("val"), 200))
    tokens = sum(map(len, tokenizer.encode_batch(texts)))
    bytes_per_token = sum(len(text.encode()) for text in texts) / tokens
    return dataset.num_bytes("train") / bytes_per_token, dataset.num_bytes("val") / bytes_per_token
