"""How good a base model is: bits per byte, the tasks of CORE, and how sure each number is.

Chapter 11 builds `core`; start there. By hand: `scoring` asks whole tasks fast, `base_model` measures a checkpoint,
`reports` keeps what it finds.
"""
