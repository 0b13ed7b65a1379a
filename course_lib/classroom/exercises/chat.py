"""Checks for the exercises of notebook 16."""

import random


def parse_events(answer) -> None:
    """Exercise 17.1."""
    stream = (
        'data: {"token": "Hé"}\n\n: ping\n\ndata: {"token": "😀"}\r\n\r\ndata: [DONE]\n\ndata: {"token": "late"}\n\n'
    )
    data, expected = stream.encode(), [{"token": "Hé"}, {"token": "😀"}]
    found = answer([data])
    assert found is not None, "return a list"
    assert {"token": "late"} not in found, "[DONE] is the end: what comes after it does not count"
    assert list(found) == expected, f"in one chunk: expected {expected}, not {found}"
    for size in (1, 2, 3, 7):
        chunks = [data[at : at + size] for at in range(0, len(data), size)]
        try:
            found = list(answer(chunks))
        except UnicodeDecodeError:
            raise AssertionError(
                f"with chunks of {size} bytes it raised UnicodeDecodeError: a chunk may end inside a character; "
                "decode whole lines"
            ) from None
        assert found == expected, f"in chunks of {size} bytes: expected {expected}, not {found}"
    assert list(answer([b'data: {"token": "a"}\n\ndata: {"tok'])) == [{"token": "a"}], (
        "the connection was lost inside the second event: it does not count"
    )
    assert list(answer([])) == [], "no chunks, no events"


def showable(answer) -> None:
    """Exercise 17.2."""
    assert answer(b"abc") == 3, f"three letters are three whole characters: 3, not {answer(b'abc')}"
    assert answer(b"") == 0, "of nothing nothing can be shown"
    fox = "🦊".encode()
    for count in (1, 2, 3):
        found = answer(b"a" + fox[:count])
        assert found == 1, f"'a' and {count} of the 4 bytes of a fox: only 'a' is whole, so 1, not {found}"
    assert answer(b"a" + fox) == 5, "with its fourth byte the fox can be shown: 5"
    assert answer("é".encode()) == 2, "'é' has two bytes, and here are both: 2"
    text = "aé€🦊z".encode() * 3
    for end in range(len(text) + 1):
        found = answer(text[:end])
        whole = len(text[:end].decode(errors="ignore").encode())
        assert found == whole, f"for {text[:end][-5:]!r} at the end expected {whole} of {end} bytes, not {found}"


def safe_link(answer) -> None:
    """Exercise 17.3."""
    for good in ("https://example.org/a?b=c#d", "http://example.org", "mailto:me@example.org", "HTTPS://EXAMPLE.ORG"):
        assert answer(good) is not None, f"{good} is a good link; you return None"
    for bad in ("javascript:alert(1)", "JavaScript:alert(1)", " javascript:alert(1)", "java\nscript:alert(1)"):
        assert answer(bad) is None, f"{bad!r} runs a script in a browser; return None"
    for bad in ("\tjava\tscript\t:alert(1)", "\x01javascript:alert(1)", "data:text/html,<script>x</script>"):
        assert answer(bad) is None, f"{bad!r} runs a script in a browser; return None"
    for bad in ("vbscript:x", "file:///etc/passwd", "blob:https://example.org/1", "page.html", "//example.org", ""):
        assert answer(bad) is None, f"{bad!r} is not http, https or mailto; return None"


def fair_order(answer) -> None:
    """Exercise 17.4."""
    found = answer(["a", "a", "a", "b"])
    assert found is not None, "return a list of positions"
    assert list(found) != [0, 1, 2, 3], "that is the order of arrival: b waits for all three of a's"
    assert list(found) == [0, 3, 1, 2], f"a, a, a, b: first a's first and b's first: [0, 3, 1, 2], not {list(found)}"
    assert list(answer(["b", "a", "a", "b"])) == [0, 1, 2, 3], "among equals the order of arrival holds"
    assert list(answer([])) == [], "nobody waits"
    generator = random.Random(0)
    for _ in range(20):
        clients = [generator.choice("abcd") for _ in range(generator.randint(1, 30))]
        expected = sorted(range(len(clients)), key=lambda n: (clients[:n].count(clients[n]), n))
        found = list(answer(list(clients)))
        assert found == expected, f"{clients}: expected {expected}, not {found}"
