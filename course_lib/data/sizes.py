"""How large a text is in tokens, without encoding all of it.

Written by hand; chapter 10 uses it.
"""

import math
from itertools import islice

from course_lib.data.dataset import Dataset
from course_lib.data.tokenizer import Tokenizer
from course_lib.host.errors import CourseError


def corpus_tokens(dataset: Dataset, tokenizer: Tokenizer) -> tuple[float, float]:
    """Tokens of the training and of the validation text, estimated from 200 documents; infinite for a streamed one.

    Raises CourseError for a validation shard without text.
    """
    if dataset.streamed:
        return math.inf, math.inf
    texts = list(islice(dataset.documents("val"), 200))
    tokens = sum(map(len, tokenizer.encode_batch(texts)))
    if not tokens:
        raise CourseError(f"the validation shard in {dataset.folder} has no text; fetch or make the dataset again")
    bytes_per_token = sum(len(text.encode()) for text in texts) / tokens
    return dataset.num_bytes("train") / bytes_per_token, dataset.num_bytes("val") / bytes_per_token
