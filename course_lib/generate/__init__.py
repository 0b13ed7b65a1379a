"""Text from a model: the KV cache, sampling, the engine.

Chapter 12 builds `sampling`, and the rest in its simple form. Start with `engine`, which joins `kv_cache`, `sampling`
and `rows`.
"""
