"""mlx-lm's generator beside the course's own: the same weights, the same process, greedy.

The course does not need mlx-lm, so whoever has it brings its parts along.

Written by hand; chapter 12 uses it.
"""

from collections.abc import Callable
from types import ModuleType

import mlx.core as mx
from mlx.utils import tree_flatten

from course_lib.generate.engine import Engine


def writers(
    engine: Engine, nanochat: ModuleType, generate_step: Callable, ids: list[int], count: int
) -> dict[str, Callable[[], mx.array]]:
    """For each of the two engines a function that writes `count` ids after `ids`.

    nanochat: `mlx_lm.models.nanochat`, the model of October 2025, which reads this course's weights by name;
    generate_step: of `mlx_lm.generate`. The course's engine stops at no id any more: with random weights each text
    is to be as long as asked for.
    """
    c = engine.model.config
    sizes = {"hidden_size": c.n_embd, "num_hidden_layers": c.n_layer, "vocab_size": c.vocab_size}
    sizes |= {"num_attention_heads": c.n_head, "num_key_value_heads": c.n_kv_head}
    other = nanochat.Model(nanochat.ModelArgs(**sizes, intermediate_size=4 * c.n_embd))
    other.load_weights(tree_flatten(engine.model.parameters()), strict=True)
    engine.stops, prompt, settings = set(), mx.array(ids), {"max_tokens": count, "temperature": 0}
    return {
        "ours": lambda: mx.array([token for (token,), _ in engine.generate(ids, **settings)]),
        "mlx-lm": lambda: mx.array([token for token, _ in generate_step(prompt, other, max_tokens=count)]),
    }
