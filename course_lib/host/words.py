"""Numbers in words for what programs print: durations, and counts with their noun."""


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
