"""A model that many talk to at once: streaming text, the API, the web server.

Chapter 16 builds it. Start with `app`.
"""
