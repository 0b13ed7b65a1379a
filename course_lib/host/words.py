"""Words for what programs print: durations, counts with their noun, and text and names from outside."""


def duration(seconds: float) -> str:
    """Minutes and seconds, "4:05", or hours as well from one hour on, "1:02:09"; rounded to whole seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def plural(count: int, singular: str, several: str | None = None) -> str:
    """ "1 process", "0 processes", "2,000 items": `several` is the noun's plural, by default `singular` and an s."""
    return f"{count:,} {singular if count == 1 else several or singular + 's'}"


def in_one_line(text: str) -> str:
    """The text with one space for each stretch of white space, and without what a terminal would obey."""
    return "".join(char for char in " ".join(text.split()) if char.isprintable())


def printable(text: str) -> str:
    """The text with what a terminal would obey or cannot show as escapes, "\\x1b": for names from outside.

    Line ends stay, and joiners, which Persian and Indian names need.
    """
    return "".join(char if char.isprintable() or char in "\n\u200c\u200d" else ascii(char)[1:-1] for char in text)
