"""Checks for the exercises of notebook 17."""

import json

# a comment, both kinds of line ends, and something after the end
STREAM = (
    'data: {"token": "Hé"}\n\n: ping\n\ndata: {"token": "😀"}\r\n\r\ndata: [DONE]\r\n\r\ndata: {"token": "late"}\n\n'
)
EVENTS = [{"token": "Hé"}, {"token": "😀"}]


def parse_events(answer) -> None:
    """Exercise 17.1."""
    assert _events(answer, ['data: {"token": "a"}\n\n'], "one event in one chunk") == [{"token": "a"}], (
        'one chunk with one event, data: {"token": "a"}, gives [{"token": "a"}]'
    )
    found = _events(answer, [STREAM], "two events, a comment and [DONE] in one chunk")
    assert {"token": "late"} not in found, "[DONE] is the end: what comes after it does not count"
    assert found != EVENTS[:1], "one event is missing: its lines, and the blank one after it, end with \\r\\n"
    assert found == EVENTS, f"two events in one chunk: expected {EVENTS}, not {found}"
    for size in (40, 7, 3, 2, 1):
        case = f"the same in chunks of {size} bytes"
        found = _events(answer, _cut(STREAM, size), case)
        assert found == EVENTS, f"{case}: expected {EVENTS}, not {found}; what is left of one chunk belongs to the next"
    _events(answer, ['data: {"to'], "half an event")
    found = _events(answer, ['ken": "c"}\n\n'], "its other half, in another call")
    assert found == [], "bytes of an earlier call have come back: begin each call anew"
    for rest in ('data: {"tok', 'data: {"token": "b"}'):
        found = _events(answer, [f'data: {{"token": "a"}}\n\n{rest}'], "a connection lost inside the second event")
        assert found == [{"token": "a"}], f"the line {rest!r} has not ended when the connection does: it does not count"
    assert _events(answer, [], "no chunks") == [], "no chunks, no events: return []"


def _cut(text: str, size: int) -> list[bytes]:
    data = text.encode()
    return [data[at : at + size] for at in range(0, len(data), size)]


def _events(answer, chunks: list, case: str) -> list:
    """What an answer makes of chunks; what usually goes wrong is told in words."""
    chunks = [chunk.encode() if isinstance(chunk, str) else chunk for chunk in chunks]
    try:
        found = answer(chunks)
        assert found is not None, "it gives back None: parse_events needs a return, of a list"
        return list(found)
    except UnicodeDecodeError as error:
        said = f"{case}: UnicodeDecodeError. A chunk may end inside a character: decode whole lines, never a chunk"
        raise AssertionError(said) from error
    except json.JSONDecodeError as error:
        tried = error.doc if len(error.doc) < 60 else f"{error.doc[:57]}…"
        if "[DONE]" in tried and "{" not in tried:
            said = f"{case}: [DONE] is no JSON, it is the end; look for it before json.loads"
        elif "\n" in tried:
            said = f"{case}: json.loads was given {tried!r}. A chunk may hold several events: take it apart into lines"
        elif not tried or tried[0] != "{":
            said = f"{case}: json.loads was given {tried!r}. JSON is what follows 'data: ', on lines that begin so"
        else:
            said = (
                f"{case}: json.loads was given {tried!r}. A chunk is not an event: put the bytes together, and take "
                "complete lines off the front"
            )
        raise AssertionError(said) from error


def showable(answer) -> None:
    """Exercise 17.2."""
    found = answer(b"abc")
    assert found is not None, "it gives back None: showable needs a return, of a number of bytes"
    assert found == 3, f"three letters are three whole characters: 3, not {found!r}"
    assert answer(b"") == 0, "of nothing, nothing can be shown: 0"
    fox = "🦊".encode()
    for count in (1, 2, 3):
        found = answer(b"a" + fox[:count])
        assert found == 1, f"'a' and {count} of the 4 bytes of a fox: only 'a' is whole, so 1, not {found}"
    found = answer(b"a" + fox)
    assert found == 5, f"with its fourth byte the fox can be shown: 5 bytes, not {found}"
    found = answer("é".encode())
    assert found == 2, f"'é' has two bytes, and both are here: 2, not {found}"
    found = answer("a€".encode()[:2])
    assert found == 1, f"'a' and 1 of the 3 bytes of '€': 1, not {found}"
    text = "aé€🦊z".encode() * 3
    for end in range(len(text) + 1):
        found = answer(text[:end])
        whole = len(text[:end].decode(errors="ignore").encode())
        assert found == whole, f"for {text[:end][-5:]!r} at the end, {whole} of {end} bytes can be shown, not {found}"


def safe_link(answer) -> None:
    """Exercise 17.3."""
    for good in ("https://example.org/a?b=c#d", "http://example.org", "mailto:me@example.org", "HTTPS://EXAMPLE.ORG"):
        found = answer(good)
        assert found is not None, f"{good} is a good link, and you return None; schemes may be in capitals"
        assert isinstance(found, str) and found.lower() == good.lower(), f"return the address itself, not {found!r}"
    for bad in ("javascript:alert(1)", "JavaScript:alert(1)", " javascript:alert(1)", "java\nscript:alert(1)"):
        assert answer(bad) is None, f"{bad!r} runs a script in a browser; return None"
    for bad in ("\tjava\tscript\t:alert(1)", "\x01javascript:alert(1)", "data:text/html,<script>x</script>"):
        assert answer(bad) is None, f"{bad!r} runs a script in a browser; return None"
    for bad in ("vbscript:x", "file:///etc/passwd", "blob:https://example.org/1", "javascript:'https://example.org'"):
        assert answer(bad) is None, f"{bad!r} is not http, https or mailto; list what is allowed, and return None"
    for bad in ("page.html", "http.html", "//example.org", ""):
        assert answer(bad) is None, f"{bad!r} has no scheme and would lead to our own server; return None"
