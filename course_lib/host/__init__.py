"""What the machine needs, and nothing else: paths, downloads, progress, stopping, errors, fast products on Linux.

Written by hand; no chapter builds it. Start with `startup`, which runs when `course_lib` is imported.
"""
