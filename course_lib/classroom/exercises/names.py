"""What the exercises of chapter 01 must do."""

import math
from collections.abc import Callable
from itertools import pairwise

import mlx.core as mx
import numpy as np

from course_lib.names.bigram import CharTokenizer, bigram_loss, bigram_probs, load_names, split_names


def name_loss(answer: Callable) -> str:
    """Mean negative log-likelihood of one name."""
    names = ["emma", "ada", "otto", "maya"]
    tokenizer = CharTokenizer(names)
    probs = bigram_probs(names, tokenizer)
    for name in ("emma", "ada", "m"):
        ids = tokenizer.encode(name)
        total = -sum(math.log(probs[first, second].item()) for first, second in pairwise(ids))
        right = total / (len(name) + 1)
        found = answer(name, probs, tokenizer)
        assert found is not None, "it returns nothing: is there a `return`?"
        found = float(found)

        def near(other: float, found: float = found) -> bool:
            return abs(found - other) < 1e-4 * abs(other)

        assert not near(-right), "the sign: logarithms of probabilities are negative, the loss is positive"
        assert not near(total), "that is the sum over the guesses; divide by their number for the mean"
        assert not near(total / len(name)), (
            f"{name} has {len(name)} letters and makes {len(name) + 1} guesses: its end counts too"
        )
        assert not near(total / len(ids)), (
            f"{name} has {len(ids)} ids with BOS at both ends, but one guess fewer: nothing comes before the first"
        )
        for what, first, second in (("start", ids[0], ids[1]), ("end", ids[-2], ids[-1])):
            without = total + math.log(probs[first, second].item())
            assert not any(near(without / n) for n in (1, len(name), len(name) + 1)), (
                f"the {what} of {name} is left out: BOS stands at both ends, so {name} makes {len(name) + 1} guesses"
            )
        assert not near(right / math.log(2)), "that is in bits; for nats take the natural logarithm, math.log"
        assert not near(math.exp(right)), "that is e to the loss, the perplexity; give the loss itself"
        assert not near(float(answer(name, mx.ones_like(probs) / tokenizer.vocab_size, tokenizer))), (
            "another table gives the same number: use the arguments, not `smoothed` and `tokenizer` of the notebook"
        )
        assert near(right), (
            f"the loss of {name} is {right:.4f} here, you gave {found:.4f}: do both probabilities and ids come from "
            "the arguments?"
        )
    return "Now your own name: how does it compare with the 2 to 3.5 of most held-out names?"


def best_smoothing(answer: Callable) -> str:
    """The choice with the smallest loss on the held-out names."""
    names = load_names()
    tokenizer = CharTokenizer(names)
    for size, choices in ((1000, [0.001, 0.1, 1.0, 10.0, 1000.0]), (50, [100.0, 3.0, 0.001])):
        train_names, held_out = split_names(names[: size + 300], held_out=300 / (size + 300))

        def loss(smoothing: float, counted: list[str] = train_names, judges: list[str] = held_out) -> float:
            return bigram_loss(bigram_probs(counted, tokenizer, smoothing), judges, tokenizer)

        right = min(choices, key=loss)
        found = answer(train_names, held_out, tokenizer, choices)
        assert found in choices, f"return one of the choices {choices}, not {found!r}"
        assert found != min(choices, key=lambda smoothing: loss(smoothing, judges=train_names)), (
            f"{found} does best on names that the model has counted; count on train_names only, judge by held_out only"
        )
        assert found == right or found != min(choices, key=lambda s: loss(s, held_out, train_names)), (
            f"{found} does best when the two lists are swapped; count on train_names, judge by held_out"
        )
        assert found != max(choices, key=loss), (
            f"{found} has the largest loss on the held-out names; the best has the smallest"
        )
        assert found == right, (
            f"with {size} training names {right} does best on the held-out ones ({loss(right):.4f} nats), "
            f"you chose {found} ({loss(found):.4f})"
        )
    return "Now try it with few names and with all, as above: where does the amount matter more?"


def trigram_probs(answer: Callable) -> str:
    """P(z | x, y) from counts of triples, (V, V, V)."""
    names = ["emma", "ada", "otto", "maya", "ot"]
    tokenizer = CharTokenizer(names)
    size, bos = tokenizer.vocab_size, tokenizer.bos
    for smoothing in (1.0, 0.25):
        found = answer(names, tokenizer, smoothing)
        assert found is not None, "it returns nothing: is there a `return`?"
        found = np.array(found, dtype=np.float64)
        assert found.shape == (size, size, size), f"expected the shape {(size, size, size)}, got {found.shape}"
        assert np.isfinite(found).all(), (
            "some entries are not numbers: a pair x, y that no name has is 0 / 0; add `smoothing` to every count "
            "before you divide"
        )
        sums = found.sum(axis=-1)
        assert np.allclose(sums, 1, atol=1e-4), (
            f"found[x, y] must add up to 1 for every x and y, yours go from {sums.min():.3f} to {sums.max():.3f}"
        )

        def expect(text: str, count: int, of: int, found: np.ndarray = found, smoothing: float = smoothing) -> None:
            x, y, z = (bos if char == "•" else tokenizer.id_of[char] for char in text)
            right = (count + smoothing) / (of + size * smoothing)
            assert abs(found[x, y, z] - right) < 1e-4, (
                f"in {', '.join(names)} {text[:2]} comes {of} times and {text} {count} times: with "
                f"smoothing={smoothing} and {size} ids P({text[2]} | {text[:2]}) is {right:.4f}, "
                f"yours is {found[x, y, z]:.4f}"
            )

        after_end = found[tokenizer.id_of["a"], bos, bos] * size
        assert abs(after_end - 1) < 1e-4, (
            "your counts go on after the end of a name (a••): one more BOS belongs in front, but none at the end"
        )
        expect("••o", 2, 5)
        expect("•ot", 2, 2)
        expect("ott", 1, 2)
        expect("ot•", 1, 2)
        expect("ma•", 1, 2)
        expect("dda", 0, 0)
    return "Now its loss on the held-out names: does the second letter help, also with only 300 training names?"


def trigram_loss(probs: mx.array | np.ndarray, docs: list[str], tokenizer: CharTokenizer) -> float:
    """Mean negative log-likelihood of `docs` under a trigram table (V, V, V), in nats per guess."""
    losses = -np.log(np.array(probs))
    triples = [
        triple
        for doc in docs
        for ids in [[tokenizer.bos, *tokenizer.encode(doc)]]
        for triple in zip(ids, ids[1:], ids[2:], strict=False)
    ]
    return float(np.mean([losses[triple] for triple in triples]))
