"""A model that many talk to at once: continuous batching, streaming text, a chat in the terminal, a web server.

Chapter 16 builds it (`streaming`); the rest is written by hand. Start with `app`.
"""
