"""The `course` command: keeps text, notebooks and package in step."""
