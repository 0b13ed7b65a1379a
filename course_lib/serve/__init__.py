"""A model that many talk to at once: continuous batching, streaming text, a chat in the terminal, a web server.

Chapter 16 explains `batch_engine`, chapter 17 builds `streaming`; the rest is written by hand. Start with `app`.
"""
