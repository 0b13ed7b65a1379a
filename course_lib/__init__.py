"""A ChatGPT-like model in MLX, from names to nanochat: what the notebooks of the course build, ready to import.

Importing it makes MLX ready for this machine (see course_lib.host.startup); `course_lib.host.fast_matmul.report()`
says what that came to.
"""

from course_lib.host.startup import prepare

prepare()
del prepare
