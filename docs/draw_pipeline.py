"""Draw docs/pipeline.png: one message of the sample chat as a log line, a CSV row, tokens of a block, and an answer.

parse_logs.py and tokenize_logs.py write the row and the block. The answer comes from the model of
`make demo`, with the command in README.md; training takes too long for a drawing.

    python docs/draw_pipeline.py
    python docs/draw_pipeline.py --output /tmp/pipeline.png
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

ROOT = Path(__file__).resolve().parent.parent
LOG = ROOT / "data/sample_logs/pixelpanda_tv-2024-03-07.txt"
TOKENIZER = ROOT / "models/tiny-gpt2"
LINE = 2  # of the log, counted from 0: the message to follow. The lines before it are messages, too.
QUESTION, ANSWER = "what game is this?", "it's Star Plumber"
NUM_TOKENS = 19  # of the block that are drawn
BLUE, BLACK, GREY, BOX, BACKGROUND = "#0072b2", "#1f2328", "#656d76", "#ffffff", "#f6f8fa"  # as bench/report.py's blue
WIDTH, HEIGHT, DPI = 1200, 560, 100  # pixels
LEFT = 30  # of all rows
ASPECT = 0.602  # width of a character of DejaVu Sans Mono, relative to its size


@dataclass(frozen=True)
class Shapes:
    """One message in the shapes that the first two scripts give it."""

    line: str
    header: str
    row: str
    tokens: list[str]  # of the whole block
    ids: list[int]
    message: str


def follow_message() -> Shapes:
    """Run parse_logs.py and tokenize_logs.py on one log, and return what its message becomes."""
    from datasets import load_from_disk
    from transformers import AutoTokenizer

    line = LOG.read_text(encoding="utf-8").splitlines()[LINE]
    with tempfile.TemporaryDirectory() as folder:
        logs, raw, dataset = (Path(folder, name) for name in ("logs", "raw", "dataset"))
        logs.mkdir()
        (logs / LOG.name).write_bytes(LOG.read_bytes())
        run("parse_logs.py", "--logs-dir", logs, "--output-dir", raw)
        tokenize = ["--input-dir", raw, "--output-dir", dataset, "--model", TOKENIZER, "--block-size", 128]
        run("tokenize_logs.py", *tokenize)
        header, *rows = (raw / LOG.with_suffix(".csv").name).read_text(encoding="utf-8").splitlines()
        tokenizer = AutoTokenizer.from_pretrained(dataset / "tokenizer")
        splits = load_from_disk(str(dataset)).values()
        blocks = [ids for split in splits for ids in split["input_ids"]]
    first = [row.rsplit(",", 1)[1] for row in rows[: LINE + 1]]  # these messages contain no comma
    begin = tokenizer.bos_token + "".join(f"{message}\n" for message in first)
    [ids] = [ids for ids in blocks if tokenizer.decode(ids).startswith(begin)]  # they are shuffled
    return Shapes(line, header, rows[LINE], [tokenizer.decode([token]) for token in ids], ids, first[-1])


def run(script: str, *args: object) -> None:
    subprocess.run([sys.executable, ROOT / script, *map(str, args)], check=True, capture_output=True)


def draw(shapes: Shapes, path: Path) -> None:
    """Draw the shapes below each other, the message in blue, with the scripts between them."""
    figure = Figure(figsize=(WIDTH / DPI, HEIGHT / DPI), dpi=DPI, facecolor=BACKGROUND)  # legible in dark mode, too
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, WIDTH), ylim=(HEIGHT, 0))
    axes.set_axis_off()

    def write(x: float, y: float, text: str, size: float = 15, color: str = BLACK, mono: bool = True, **how) -> float:
        """Write text and return where the next character of a monospaced text would stand."""
        family = "DejaVu Sans Mono" if mono else "DejaVu Sans"
        axes.text(x, y, text, size=size, color=color, family=family, va="center", parse_math=False, **how)
        return x + len(text) * round(size * ASPECT * DPI / 72)  # hinting makes it whole pixels

    def title(y: float, text: str) -> None:
        write(LEFT, y, text, 13, GREY, mono=False)

    def arrow(y: float, script: str) -> None:
        style = {"arrowstyle": "-|>", "color": GREY, "lw": 2}
        axes.annotate("", (LEFT + 12, y + 19), (LEFT + 12, y - 19), arrowprops=style)
        write(LEFT + 30, y, script, 13, GREY, weight="bold")

    title(30, "log line")
    before = shapes.line.removesuffix(shapes.message)
    write(write(LEFT, 60, before), 60, shapes.message, color=BLUE, weight="bold")
    arrow(105, "parse_logs.py")
    title(150, "CSV row")
    before = shapes.row.removesuffix(shapes.message)
    write(write(LEFT, 180, before), 180, shapes.message, color=BLUE, weight="bold")
    arrow(225, "tokenize_logs.py")
    title(270, f"block of {len(shapes.ids)} tokens")

    begin = "".join(shapes.tokens).index(shapes.message)
    end = begin + len(shapes.message) + 1  # with the newline that ends it
    x, place = LEFT, 0
    for token, number in zip(shapes.tokens[:NUM_TOKENS], shapes.ids, strict=False):
        color = BLUE if begin <= place < end else BLACK
        x = draw_token(axes, x, 312, token, str(number), color)
        place += len(token)
    x = write(x + 4, 304, "…", 12, GREY) + 8
    draw_token(axes, x, 312, shapes.tokens[-1], str(shapes.ids[-1]), GREY)

    arrow(373, "train.py")
    title(418, "model")
    arrow(458, f'generate.py "{QUESTION}"')
    title(503, "generated message")
    write(LEFT, 533, ANSWER, color=BLUE, weight="bold")
    figure.savefig(path, facecolor=BACKGROUND, pil_kwargs={"optimize": True})


def draw_token(axes, x: float, y: float, token: str, number: str, color: str) -> float:
    """Draw a box with the text of a token, and its id below; return where the next box begins."""
    size, text = 11, token.replace("\n", "\\n")
    width = max(len(text) * size, len(number) * 9) * ASPECT * DPI / 72 + 8
    style = {"facecolor": BOX, "edgecolor": color, "linewidth": 1.2}
    axes.add_patch(FancyBboxPatch((x, y - 20), width, 26, boxstyle="round,pad=0,rounding_size=4", **style))
    how = {"family": "DejaVu Sans Mono", "ha": "center", "va": "center", "color": color, "parse_math": False}
    axes.text(x + width / 2, y - 7, text, size=size, weight="bold" if color == BLUE else "normal", **how)
    axes.text(x + width / 2, y + 18, number, size=9, **how)
    return x + width + 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "docs/pipeline.png", help="PNG to write")
    draw(follow_message(), parser.parse_args().output)


if __name__ == "__main__":
    main()
