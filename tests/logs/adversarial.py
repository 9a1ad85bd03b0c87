"""Lines on which a pattern takes long if it is quadratic, and functions that try patterns on them.

tests/logs/test_patterns.py calls these in processes of their own, which import little.
"""

import importlib
import random
import re
from pathlib import Path

LENGTH = 80_000  # characters: quadratic code needs minutes for such lines
METHODS = "fullmatch|match|search|sub|findall|finditer"
# Pieces of text that the literals of patterns do not show: what stands for \d, \w, \S and so on.
ANY = [
    "a",
    "1",
    "1:",
    " ",
    ": ",
    "あ",
    "@",
    "@a",
    "=",
    "a=b;",
    ";",
    ",",
    ".",
    "[",
    " [",
    "]x",
    "(",
    "<",
    "s.",
    "://",
    "\1",
]
HEADS = [  # beginnings of lines, which lead to each part of a pattern
    *("[2024-03-7 21:05:09] #c u: ", "[2024-03-7 21:05:09] #c ", "[2024-03-07 21:05:09 UTC] u: ", "[0:00:01] u: "),
    *("[2024-03-07 21:05:09 UTC] twitchnotify: u ", "[21:05:09] BAN: a", "[21:05:09] <a> ", "[21:05:09] ", "5:07 | "),
    *("[0:00:01] <a> ", "[21:05:09] u: u ", "[21:05:09] A message from u", "[0:00:01] *u ", "@", ":u!", ":", "12 ", ""),
    *("[21:05:09] DELETED: a (", "@x :u", "[21:05:09] [Notification] u subscribed", "21:05:09", "@x :u!u@u "),
]


def adversarial(pattern, num_drawn):
    """Yield lines that repeat pieces of what a pattern matches."""
    literals = re.findall(r"[A-Za-z#:=@ -]{2,}", re.sub(r"\(\?[P<a-z>:=!]*|\\[a-zA-Z]|\[\^?.*?\]", "|", pattern))
    pieces, draw = [*dict.fromkeys(literals), *ANY], random.Random(0)
    for piece in [*pieces, *("".join(draw.choices(pieces, k=draw.randint(2, 3))) for _ in range(num_drawn))]:
        yield piece * (LENGTH // len(piece)) + draw.choice(pieces)


def try_patterns(module):
    """Call the methods of a module's patterns that the package calls."""
    code = "\n".join(path.read_text(encoding="utf-8") for path in Path("chatter").rglob("*.py"))
    for name, pattern in vars(importlib.import_module(module)).items():
        if isinstance(pattern, re.Pattern) and isinstance(pattern.pattern, str):
            methods = {*re.findall(rf"\b{name}\.({METHODS})\b", code)} or {"fullmatch"}
            for line in adversarial(pattern.pattern, 20):
                for text in (line, f"1:00:00 {line}"):
                    for method in methods:
                        found = getattr(pattern, method)(*[""] * (method == "sub"), text)
                        assert method != "finditer" or sum(1 for _ in found) <= len(text)


def try_format(name):
    import polars

    from chatter.logs.formats import LINE_FORMATS
    from chatter.logs.text_reader import LineParser

    chosen, draw = LINE_FORMATS[name], random.Random(0)
    patterns = [pattern for _, pattern in (*chosen.patterns, *filter(None, [chosen.others]))]
    repeated = [line for pattern in patterns for line in adversarial(pattern, 3)]
    lines = [head + line for head in HEADS for line in draw.choices(repeated, k=5)] + repeated[:50]
    batch = LineParser([chosen]).parse(polars.Series("line", lines))
    assert batch.counts.total() == len(lines)


def all_of(pattern):
    for line in adversarial(pattern, 20):
        for head in HEADS:
            re.match(pattern, head + line)
