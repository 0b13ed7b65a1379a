"""A model that many talk to at once: continuous batching, streaming text, a chat in the terminal, a web server.

Chapters 12 (`batch_engine`) and 16 (`streaming`) build it, the rest is written by hand. Start with `app`.
"""
