"""Errors for what a user can mend."""


class CourseError(ValueError):
    """Something the user gave or has is not usable; the message says what, what was expected and what to do."""


class FlagError(CourseError):
    """A program's flag has a value out of range; the program ends with exit code 2."""
