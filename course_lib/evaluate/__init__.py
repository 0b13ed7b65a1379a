"""How good a base model is: bits per byte, and the tasks of CORE.

Chapter 11 builds it. Start with `core`.
"""
