"""The numbers in a chapter's prose that nothing on its page bears out."""

import re
from collections.abc import Iterator

from course_lib.authoring.tree import Pair, place, read_notebook, text_of

WHOLE = r"(?:\d{1,3}(?:,\d{3})+|\d[\d_]*)"
NUMBER = re.compile(rf"(?<![\w.-])({WHOLE}(\.\d+)?)(?!\w|-\w|\.\d)(?: ?(%|(?:million|billion|ms|kB|MB|GB)\b))?")
SCALE = {"%": 100, "million": 1e-6, "billion": 1e-9, "ms": 1e3, "kB": 1e-3, "MB": 1e-6, "GB": 1e-9}
COUNTED = "[Cc]hapter|[Ss]ection|[Ee]xercise|[Cc]ell|[Ll]ine|[Ff]igure|RFC|Python|macOS"
NOISE = re.compile(
    r"```.*?```|`[^`\n]*`|!\[[^\]]*\]\([^)]*\)|\]\([^)]*\)|\^\{?-?\d+\}?"  # code, pictures, links, exponents
    rf"|\b(?:{COUNTED})s?\s[\d.]+(?:(?:,|–| and| or| to)+\s?\d[\d.]*)*|^#+ (?:Exercise )?[\d.]+"
    r"|\d\d · |\d+ minutes, (?:●|easy|medium|hard)|^\| (?:Needs|Time|Memory) \|[^\n]*|\b(?:19|20)\d\d\b"
    r"|^## Further reading$.*?(?=^## |\Z)",
    re.MULTILINE | re.DOTALL,
)
IN_CODE = re.compile(rf"{WHOLE}(?:\.\d+)?(?:e[+-]?\d+)?")


def unshown_numbers(pair: Pair) -> Iterator[str]:
    """The numbers of a chapter's prose that neither its code nor its stored outputs hold, each with place and words.

    Some number there must round to it: 2.4512 holds 2.45, 0.431 holds 43 %, 3712000 holds 3.7 million. Left out are
    whole numbers up to ten, numbers in words, years, code, links, names such as GPT-4, exponents, what only counts
    chapters, sections and exercises, and further reading. The list is for the author to read: a number from a paper
    may stay, a number from an older run may not.
    """
    cells = read_notebook(pair).cells
    shown = [cell.source + "\n" + "\n".join(map(text_of, cell.outputs)) for cell in cells if cell.cell_type == "code"]
    held = {float(re.sub("[,_]", "", number)) for number in IN_CODE.findall("\n".join(shown))}
    for index, cell in enumerate(cells):
        prose = cell.source if cell.cell_type == "markdown" else ""
        plain = NOISE.sub(lambda noise: re.sub(r"\S", " ", noise[0]), prose)
        for found in NUMBER.finditer(plain):
            digits, decimals, unit = found.groups()
            value, half = float(digits.replace(",", "")), 0.5001 * 10 ** -len((decimals or ".")[1:])
            small = value <= 10 and not decimals and not unit
            if not small and not any(abs(value - n * by) <= half for n in held for by in {1, SCALE.get(unit, 1)}):
                line = plain.count("\n", 0, found.start()) + 1
                yield f"{place(pair, cells, index, line)}: {found[0]} in: {prose.splitlines()[line - 1].strip()}"
