"""The checks of the exercises of chapter 17: right answers pass, and the message for a wrong one teaches."""

import json
from urllib.parse import urlsplit

import pytest

from course_lib.classroom.exercises import chat as exercises

DATA = "data: "


def parse(chunks, done=True, comments=True, ends=b"\r", unfinished=False, errors="strict"):
    """A right answer, with the mistakes one can make."""
    events, rest = [], b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines + ([rest] if unfinished else []):
            text = line.rstrip(ends).decode(errors=errors)
            if done and text == "data: [DONE]":
                return events
            if text.startswith(DATA) or (not comments and text):
                events.append(json.loads(text.removeprefix(DATA)))
    return events


def one_chunk_one_event(chunks):
    return [json.loads(chunk.decode().removeprefix(DATA)) for chunk in chunks]


def decodes_chunks(chunks):
    rest, events = "", []
    for chunk in chunks:
        *lines, rest = (rest + chunk.decode()).split("\n")
        for line in lines:
            if line.strip() == "data: [DONE]":
                return events
            if line.startswith(DATA):
                events.append(json.loads(line[6:]))
    return events


def replaces_halves(chunks):
    return decodes_chunks([chunk.decode(errors="replace").encode() for chunk in chunks])


def forgets_the_rest(chunks):
    return [event for chunk in chunks for event in parse([chunk])]


def only_blank_lines_of_one_kind(chunks):
    events = b"".join(chunks).decode().split("\n\n")
    return [json.loads(event[6:]) for event in events if event.startswith(DATA) and "[DONE]" not in event]


def counts_what_has_not_ended(chunks):
    lines = b"".join(chunks).decode().splitlines()
    ends = lines.index("data: [DONE]") if "data: [DONE]" in lines else len(lines)
    return [json.loads(line[6:]) for line in lines[:ends] if line.startswith(DATA) and line.endswith("}")]


def keeps_bytes(chunks, kept=[b""]):  # noqa: B006 (the mistake)
    lines = b"".join([kept[0], *chunks]).split(b"\n")
    kept[0] = lines[-1] if b"DONE" not in b"".join(chunks) else b""
    return parse([b"\n".join([*lines[:-1], b""])])


def showable(data):
    for back in range(1, min(len(data), 4) + 1):
        byte = data[-back]
        if byte < 0x80:
            return len(data)
        if byte >= 0xC0:
            length = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return len(data) - back if back < length else len(data)
    return len(data)


def drops_all_of_the_last(data):
    """Goes back over whole characters, too."""
    end = len(data)
    while end and data[end - 1] >= 0x80:
        end -= 1
    return end


def always_two_bytes(data):
    return len(data) - (1 if data and data[-1] >= 0xC0 else 0)


def counts_characters(data):
    return len(data.decode(errors="ignore"))


def never_gives_it(data):
    """Believes that a character lacks bytes until something follows it."""
    for back in range(1, min(len(data), 4) + 1):
        if data[-back] >= 0xC0:
            return len(data) - back
    return len(data)


def one_byte_too_early(data):
    for back in range(1, min(len(data), 4) + 1):
        if data[-back] >= 0xC0:
            length = 2 if data[-back] < 0xE0 else 3 if data[-back] < 0xF0 else 4
            return len(data) - back if back < length - 1 else len(data)
    return len(data)


def safe(address):
    cleaned = "".join(char for char in address if char.isprintable()).strip()
    return cleaned if urlsplit(cleaned).scheme in ("http", "https", "mailto") else None


def blacklist(address):
    cleaned = "".join(address.split()).lower()
    return None if cleaned.startswith(("javascript:", "data:", "vbscript:")) else address


@pytest.mark.parametrize(
    ("test", "answer"),
    [
        (exercises.parse_events, parse),
        (exercises.parse_events, lambda chunks: iter(parse(chunks))),
        (exercises.showable, showable),
        (exercises.showable, lambda data: len(data.decode(errors="ignore").encode())),
        (exercises.safe_link, safe),
        (
            exercises.safe_link,
            lambda a: a if a.strip().lower().startswith(("http:", "https:", "mailto:")) else None,
        ),
    ],
)
def test_right_answers_pass(test, answer):
    test(answer)


@pytest.mark.parametrize(
    ("test", "answer", "said"),
    [
        (exercises.parse_events, lambda chunks: None, "needs a return"),
        (exercises.parse_events, one_chunk_one_event, "A chunk may hold several events"),
        (exercises.parse_events, decodes_chunks, "decode whole lines, never a chunk"),
        (exercises.parse_events, replaces_halves, "expected [{'token': 'Hé'}"),
        (exercises.parse_events, forgets_the_rest, "belongs to the next"),
        (exercises.parse_events, only_blank_lines_of_one_kind, "end with \\r\\n"),
        (exercises.parse_events, counts_what_has_not_ended, "has not ended when the connection does"),
        (exercises.parse_events, lambda chunks: parse(chunks, done=False), "[DONE] is no JSON"),
        (exercises.parse_events, lambda chunks: parse(chunks, comments=False), "on lines that begin so"),
        (exercises.parse_events, lambda chunks: parse(chunks, ends=b"\n"), "[DONE] is no JSON"),
        (exercises.parse_events, lambda chunks: parse(chunks, unfinished=True), "take complete lines off the front"),
        (exercises.parse_events, keeps_bytes, "begin each call anew"),
        (exercises.showable, lambda data: None, "needs a return"),
        (exercises.showable, len, "1 of the 4 bytes of a fox"),
        (exercises.showable, drops_all_of_the_last, "with its fourth byte"),
        (exercises.showable, always_two_bytes, "2 of the 4 bytes of a fox"),
        (exercises.showable, counts_characters, "with its fourth byte"),
        (exercises.showable, never_gives_it, "with its fourth byte"),
        (exercises.showable, one_byte_too_early, "3 of the 4 bytes of a fox"),
        (exercises.safe_link, lambda a: None, "is a good link"),
        (exercises.safe_link, lambda a: True, "return the address itself"),
        (exercises.safe_link, blacklist, "runs a script in a browser"),
        (exercises.safe_link, lambda a: a if a.startswith(("http:", "https:", "mailto:")) else None, "in capitals"),
        (exercises.safe_link, lambda a: a if a.lower().startswith(("http", "mailto")) else None, "http.html"),
        (
            exercises.safe_link,
            lambda a: a if any(s in a.lower() for s in ("http:", "https:", "mailto:")) else None,
            "blob:",
        ),
        (exercises.safe_link, lambda a: a if urlsplit(a).scheme not in ("javascript", "data") else None, "list what"),
    ],
)
def test_wrong_answers_are_told_why(test, answer, said):
    with pytest.raises(AssertionError) as caught:
        test(answer)
    assert said in str(caught.value)
