"""The programs, one file each: flags become values, and values go into one call. Written by hand.

No module imports a program. `uv run NAME --help` lists the flags of each.
"""
