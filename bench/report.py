"""Write bench/README.md and its figures from the results that the benches left in bench/results.

python bench/report.py
"""

import base64
import json
from pathlib import Path

from harness import RESULTS, ROOT, growth_table, table
from matplotlib.figure import Figure

BENCH = ROOT / "bench"
OURS, PEERS = "#0072b2", "#9a9a9a"
# Stage and part of a file of results -> what its rows compare
TITLES = {
    ("parse", "sample"): "Parsing {MB:.0f} MB of made-up chat, {lines:,.0f} lines",
    ("parse", "real"): "Parsing {MB:.0f} MB of real chat, {lines:,.0f} lines",
    ("tokenize", "sample"): "Tokenizing {messages:,.0f} made-up messages, {MB:.0f} MB",
    ("tokenize", "real"): "Tokenizing {messages:,.0f} real messages, {MB:.0f} MB",
    ("tokenize", "encoders"): "Encoding alone, the real messages",
    ("train", None): "Training the tiny model on the CPU, in float32, 24 blocks of 512 tokens a step",
    ("train on a GPU", None): "Training gpt2-medium on a GPU, in fp16, 24 blocks of 512 tokens a step",
    ("generate", "cold process"): "A message of 20 tokens from a cold process, gpt2-medium's shape",
    ("generate", "many"): "Many messages in one process",
}


def rows_of(results: dict, stage: str, part: str | None) -> tuple[list[dict], dict]:
    """Find the rows of one comparison, and how much each of its commands works through."""
    figures = results.get(stage, {})
    figures = figures.get(part, {}) if part else figures
    return figures.get("rows", []), figures.get("units", {})


def ratios_first(row: dict) -> dict:
    """Order the columns of a row: name, ratio, median and range, the rest."""
    ratio = next(key for key in row if key.startswith("times as"))
    return {key: row[key] for key in sorted(row, key=lambda key: (key != "name", key != ratio))}


def draw_ratios(rows: list[dict], title: str, path: Path) -> None:
    """Draw a bar a row, how many times as long (or as fast) as the row of reference, ours in colour."""
    ratio = next(key for key in rows[0] if key.startswith("times as"))
    figure = Figure(figsize=(7, 0.8 + 0.3 * len(rows)), layout="constrained")
    axes = figure.subplots()
    names = [row["name"] for row in rows]
    colours = [OURS if ".py" in name or "load_encoder" in name else PEERS for name in names]
    axes.barh(names, [row[ratio] for row in rows], color=colours)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.invert_yaxis()
    axes.set(title=title, xlabel=ratio)
    figure.savefig(path, dpi=100)


def draw_growth(growth: dict, unit: str, title: str, path: Path) -> None:
    """Draw time and peak memory against the size of the input."""
    figure = Figure(figsize=(7, 2.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.loglog(growth["sizes"], growth["seconds"], "o-", color=OURS)
    left.set(title=f"{title}: time ~ size ^ {growth['exponent']:.2f}", xlabel=unit, ylabel="seconds")
    right.semilogx(growth["sizes"], growth["peak MB"], "o-", color=OURS)
    right.set(title="Peak memory", xlabel=unit, ylabel="MB", ylim=(0, None))
    figure.savefig(path, dpi=100)


def draw_learning(figures: dict, title: str, path: Path) -> None:
    """Draw the chatter's bits a byte over its epochs, with the others' as level lines."""
    figure = Figure(figsize=(7, 3.5), layout="constrained")
    axes = figure.subplots()
    by_epoch = figures["bits a byte by epoch"]  # the first is before training
    axes.plot(range(1, len(by_epoch)), by_epoch[1:], "o-", color=OURS, label="train.py")
    for row, style in zip(figures["rows"][1:], ("--", "-", ":"), strict=True):
        axes.axhline(row["bits a byte"], color="black", linewidth=1, linestyle=style, label=row["model"])
    axes.legend()
    axes.set(title=title, xlabel="epoch", ylabel="bits a byte of held-out chat")
    figure.savefig(path, dpi=100)


def report(results: dict, name: str) -> list[str]:
    """Write up one machine's results in Markdown, with figures in bench/figures."""
    machine = results["machine"]
    versions = ", ".join(f"{package} {version}" for package, version in machine["versions"].items())
    lines = [
        f"## {machine['cpu']}, {machine['cores']} cores, {machine['memory GB']} GB",
        "",
        f"Python {machine['python']}, {versions}.",
        "",
    ]
    for (stage, part), title in TITLES.items():
        rows, units = rows_of(results, stage, part)
        if not rows:
            if stage == "train on a GPU":
                lines += [f"### {title}", "", "Not run: no GPU.", ""]
            continue
        title = title.format_map(units)
        figure = f"figures/{name}-{'-'.join(filter(None, [stage, part])).replace(' ', '-')}.png"
        draw_ratios(rows, title, BENCH / figure)
        lines += [f"### {title}", "", table([*map(ratios_first, rows)]), "", f"![{title}]({figure})", ""]
    if stream := results.get("generate", {}).get("stream"):
        lines += [f"An answer of `--stream` takes {stream['times as long']:.2f} times a bare draw.", ""]
    for stage, unit in {"parse": "MB", "tokenize": "million messages"}.items():
        if growth := results.get(stage, {}).get("growth"):
            title = f"{'Parsing' if stage == 'parse' else 'Tokenizing'} more and more"
            figure = f"figures/{name}-{stage}-growth.png"
            draw_growth(growth, unit, title, BENCH / figure)
            lines += [f"### {title}", "", growth_table(unit, growth), ""]
            lines += [f"![time and memory against size]({figure})", ""]
    for chat, figures in results.get("quality", {}).items():
        title = f"What it learns, beside n-grams: {'made-up' if chat == 'sample' else 'real'} chat"
        figure = f"figures/{name}-quality-{chat}.png"
        draw_learning(figures, title, BENCH / figure)
        lines += [f"### {title}", "", f"By `make bench-quality`. {figures['setting']}.", "", table(figures["rows"]), ""]
        lines += [f"![bits a byte over epochs]({figure})", ""]
    return lines


def save_notebook_figures() -> None:
    """Take the figures that the README shows out of the notebook's outputs."""
    titles = {"learning-curve": "Learning curve", "blocks": "Twenty blocks of the training data"}
    for cell in json.loads((ROOT / "notebook.ipynb").read_text(encoding="utf-8"))["cells"]:
        for name, title in titles.items():
            if f'title="{title}"' in "".join(cell["source"]):
                [png] = [
                    output["data"]["image/png"] for output in cell["outputs"] if "image/png" in output.get("data", {})
                ]
                (BENCH / f"figures/notebook-{name}.png").write_bytes(base64.b64decode(png))


def main() -> None:
    (BENCH / "figures").mkdir(exist_ok=True)
    lines = [
        "# How fast, and beside what",
        "",
        "Written by `make bench` from `results/`. The rows of a table ran in turns, on one machine in one hour.",
        "Seconds are medians over the rounds, ratios are medians of the rounds' ratios, and memory is the peak of all",
        "processes of a command (proportional set size, sampled ten times a second). Ours are blue.",
        "",
    ]
    for path in sorted(RESULTS.glob("*.json")):
        lines += report(json.loads(path.read_text()), path.stem)
    (BENCH / "README.md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    save_notebook_figures()


if __name__ == "__main__":
    main()
