"""Text from a model: the KV cache, sampling, the engine.

Chapter 12 builds it. Start with `engine`, which joins `kv_cache`, `sampling` and `rows`.
"""
