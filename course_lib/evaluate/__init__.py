"""How good a base model is: bits per byte, the tasks of CORE, and how sure each number is.

Chapter 11 builds `scoring` and `core`; start there. By hand: `base_model` measures a checkpoint, `reports` keeps it.
"""
