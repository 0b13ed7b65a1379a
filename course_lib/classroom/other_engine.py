"""mlx-lm's generator beside the course's own: the same weights, the same process, greedy.

Written by hand; chapter 12 uses it.
"""

from collections.abc import Callable
from importlib.util import find_spec

import mlx.core as mx
from mlx.utils import tree_flatten

from course_lib.generate.engine import Engine


def writers(engine: Engine, ids: list[int], count: int) -> dict[str, Callable[[], mx.array]]:
    """For each engine a function that writes `count` ids after `ids`; without mlx-lm only that of this course.

    mlx-lm is a library by the authors of MLX; it knows nanochat (October 2025), and reads this course's weights by
    name. The engine stops at no id any more: with random weights each text is to be as long as asked for.
    """
    engine.stops = set()
    settings = {"max_tokens": count, "temperature": 0}
    found = {"ours": lambda: mx.array([token for (token,), _ in engine.generate(ids, **settings)])}
    if find_spec("mlx_lm"):
        from mlx_lm.generate import generate_step
        from mlx_lm.models.nanochat import Model, ModelArgs

        c = engine.model.config
        sizes = {"hidden_size": c.n_embd, "num_hidden_layers": c.n_layer, "vocab_size": c.vocab_size}
        sizes |= {"num_attention_heads": c.n_head, "num_key_value_heads": c.n_kv_head}
        other = Model(ModelArgs(**sizes, intermediate_size=4 * c.n_embd))
        other.load_weights(tree_flatten(engine.model.parameters()), strict=True)
        prompt = mx.array(ids)
        found["mlx-lm"] = lambda: mx.array([token for token, _ in generate_step(prompt, other, max_tokens=count)])
    return found
