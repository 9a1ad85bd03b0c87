"""Write bench/README.md and its figures from the results that the benches saved in bench/results.

python bench/report.py
"""

from __future__ import annotations

import json
from pathlib import Path

from harness import RESULTS, ROOT, growth_table, table
from matplotlib.figure import Figure

BENCH = ROOT / "bench"
OURS, PEERS = "#0072b2", "#9a9a9a"
# (stage, part of its results) -> what the rows compare
TITLES = {
    ("parse", "sample"): "Parsing {MB:.0f} MB of made-up chat, {lines:,.0f} lines",
    ("parse", "real"): "Parsing {MB:.0f} MB of real chat, {lines:,.0f} lines",
    ("parse", "export"): "Parsing an export of TwitchDownloader of {MB:.0f} MB, {MB of chat:.0f} of them chat",
    ("parse", "parquet"): "Parsing {rows:,.0f} messages in a Parquet file of {MB:.0f} MB",
    ("tokenize", "sample"): "Tokenizing {messages:,.0f} made-up messages, {MB:.0f} MB",
    ("tokenize", "real"): "Tokenizing {messages:,.0f} real messages, {MB:.0f} MB",
    ("tokenize", "encoders"): "Encoding alone, on the real messages",
    ("train", None): "Training the tiny model on the CPU, in float32, 24 blocks of 512 tokens per step",
    ("host", None): "What the host does for each training step of 24 narrow layers, on one core",
    ("train", "gelu"): "Forward and backward of the tiny model on the CPU, before and after fusing GELU",
    ("generate", "cold process"): "One message of 20 tokens from a cold start, with gpt2-medium's shape",
    ("generate", "many"): "Many messages at once beside one at a time, without the start",
}
INTRODUCTION = """\
# Benchmarks

Written by `make bench` from `results/`, in a quarter of an hour on two cores. Each table names its command.
Where that says `LOGS=folder`, the folder had real chat, which we cannot publish: use your own.

The commands of a table ran in turns, in one run on one machine. Seconds are medians over the rounds. Commands that
take more than ten seconds run once. Relative times and speeds are medians of the ratios within each round, and the row
with 1 is what the others are compared with. Memory is the peak over all processes of a command: their proportional set
size, sampled up to ten times a second. This project's bars are blue. On a shared machine, seconds vary by up to a
factor of two from one day to another, and ratios by less.
"""
GPU = """\
By `make gpu`, on {date}: {gpu}.
gpt2-medium's shape with random weights, unless a row says otherwise, and random tokens.
Speeds are medians of three stretches of ten steps, without evaluations and checkpoints; a shared machine's vary by 15%.
MFU is the share of the card's half-precision peak. All checks are in [results/{name}-gpu.md](results/{name}-gpu.md)."""
MEMORY = """\
Estimates, by `make bench-memory`; no GPU measured them. The first table compares train.py's estimate with a simulation
of every tensor, with `--offload`, the second with DeepSpeed's own estimate, in GB. The third has the largest
micro-batch of 512 tokens a block that fits; a free online notebook has a GPU of 16 GB and 12.7 GB of host memory. The
estimates leave out CUDA's context, the allocator's fragments and the needs of kernels.
"""
JUDGE = """\
How often a classifier tells messages from the real ones that came next: a logistic regression on n-grams of words and
characters; {setting}. Told apart is the share of its right answers in five-fold cross-validation, with a 95% interval;
0.5 is guessing. Equal messages are in the same fold. The row of other days has real messages on both sides, and is the
floor. The other columns say how far a figure of the table above is from the same figure of the real messages. Their
unit is what two samples of real chat of this size differ by, at most, in 95 of 100 draws, so that a value below 1
is within chance. The classifier sees each message alone, not whether it answers the chat before, so that n-grams pass
as well. To judge by eye, run `make blind-test`.
"""
LEARNING_RATES = """\
### Learning rates for a pretrained model, real chat

By `bench/learning_rates.py`: SmolLM2-135M on chat of several channels, {setting}.
The defaults for models other than GPT-2 come from this table. On so little chat, a third epoch makes the model worse.
"""
SPEAKERS = """\
### Who speaks: an experiment, real chat

SmolLM2-135M learned the same messages with and without a number before each, which says who of the block speaks, as in
`2: @1 hi`; {setting}. Bits per byte are of the text of the messages alone. It was not built in:
the numbers take 22% more tokens, and beside a model that learned from as many tokens of plain chat, they gain 1.9%.
That does not pay for a second form of chat in every stage. And neither model, nor the message that really came next,
answered any of the 42 questions in the test chat by naming its asker.
"""
WEEKS = """\
### A bot for four weeks

By `make weeks`: a million lines of made-up chat go through `generate.py --stream --reload` in {minutes:.0f} minutes.
Their logs are parsed, tokenized and trained on while the chat goes on, and the model is replaced three times.
"""
CORES = """\
### More jobs, {chat} chat

By `make bench-cores{logs}`, on {megabytes:,.0f} MB of logs and on {messages:,.0f} messages, in many files and in one,
all in a folder in memory. The ratio leaves out what a run takes without work, such as imports: it is of the seconds for
the second half.
"""
COMPARISON = """\
## How it compares

**With a bot on a Markov chain.** A bot that counts words or tokens needs no training and little memory. The table of
real chat above compares such counts with a pretrained model, which learned from the same messages for some minutes on a
CPU. A model that starts from random weights, as in the table of made-up chat, is no better than counting on a few ten
thousand real messages: start from a pretrained one. What n-grams cannot do is look back further than a few words.

**With run_clm.py of transformers.** It fine-tunes any causal language model on any text, and can stream datasets and
push to the hub; it trains on TPUs and with FSDP, from its own config or from scratch, and takes tokenizers that
these scripts refuse. These are only for chat. They read chat logs, keep messages whole where run_clm.py
cuts one at the end of every block, never put two files into one block, leave padding out of the loss, treat whatever a
chatter types as text, resume only from complete checkpoints, and generate messages. `datasets.map` and the plain
Trainer in the tables above are how run_clm.py tokenizes and trains.
"""


def find_rows(results: dict, stage: str, part: str | None) -> tuple[list[dict], dict]:
    """Return the rows of one comparison, and how much each of its commands processed."""
    figures = results.get(stage, {})
    figures = figures.get(part, {}) if part else figures
    return figures.get("rows", []), figures.get("units", {})


def cores_rows(figures: dict) -> list[dict]:
    """Return a row for each stage, and for many files and one, with its seconds for each number of jobs."""
    rows = []
    for what in [name for name in figures if f"{name}, half" in figures]:
        timed, half = figures[what]["rows"], figures[f"{what}, half"]["rows"]
        work = [row["seconds"] - before["seconds"] for row, before in zip(timed, half, strict=True)]
        rows.append({"": what} | {f"{row['name']}, s": row["seconds"] for row in timed})
        rows[-1] |= {f"1 job / {row['name']}": work[0] / each for row, each in zip(timed[1:], work[1:], strict=True)}
        rows[-1] |= {f"{row['name']}, peak MB": row["peak MB"] for row in timed}
    return rows


def made_by(stage: str, part: str | None) -> str:
    """Return the command that makes a table."""
    return f"By `make bench-{stage}{' LOGS=folder' if part in ('real', 'encoders') else ''}`."


def ratio_column(row: dict) -> str:
    return "relative speed" if "relative speed" in row else "relative time"


def order_columns(row: dict) -> dict:
    """Move the ratio behind the name."""
    return {"name": row["name"], ratio_column(row): row[ratio_column(row)]} | row


def draw_ratios(rows: list[dict], title: str, path: Path) -> None:
    """Draw a bar for each row: its time or speed relative to the row with 1. Ours are in colour."""
    ratio = ratio_column(rows[0])
    figure = Figure(figsize=(7, 0.8 + 0.3 * len(rows)), layout="constrained")
    axes = figure.subplots()
    names = [row["name"] for row in rows]
    colours = [OURS if ".py" in name else PEERS for name in names]
    axes.barh(names, [row[ratio] for row in rows], color=colours)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.invert_yaxis()
    axes.set(xlabel=ratio)
    figure.suptitle(title, fontsize=10)  # over the whole width: the longest would not fit over the axes
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


def draw_quality(figures: dict, title: str, path: Path) -> None:
    """Draw the chatter's bits per byte over the epochs, and its peers' as horizontal lines."""
    figure = Figure(figsize=(7, 3.5), layout="constrained")
    axes = figure.subplots()
    by_epoch = figures["bits per byte by epoch"]  # the first is before training: random weights would hide the rest
    first = 0 if by_epoch[0] < 2 * by_epoch[-1] else 1
    axes.plot(range(first, len(by_epoch)), by_epoch[first:], "o-", color=OURS, label="train.py")
    axes.set_xticks(range(first, len(by_epoch)))
    peers = [row for row in figures["rows"] if "--no-copies" not in row["model"]][1:]
    for row, style in zip(peers, ("--", "-", ":"), strict=True):
        axes.axhline(row["bits per byte"], color="black", linewidth=1, linestyle=style, label=row["model"])
    axes.legend()
    axes.set(title=title, xlabel="epoch", ylabel="bits per byte of test messages")
    figure.savefig(path, dpi=100)


def report_machine(results: dict, name: str) -> list[str]:
    """Return lines of Markdown about the results of one machine; save their figures in bench/figures."""
    machine = results["machine"]
    versions = ", ".join(f"{package} {version}" for package, version in machine["versions"].items())
    lines = [
        f"## {machine['cpu']}, {machine['cores']} cores, {machine['memory GB']} GB",
        "",
        f"Python {machine['python']}, {versions}.",
        "",
    ]
    for (stage, part), title in TITLES.items():
        rows, units = find_rows(results, stage, part)
        if not rows:
            continue
        title = title.format_map(units)
        figure = f"figures/{name}-{'-'.join(filter(None, [stage, part])).replace(' ', '-')}.png"
        draw_ratios(rows, title, BENCH / figure)
        lines += [f"### {title}", "", made_by(stage, part), "", table([*map(order_columns, rows)]), ""]
        lines += [f"![{title}]({figure})", ""]
    if stream := results.get("generate", {}).get("stream"):
        ratio = stream["relative time"]
        lines += [f"An answer of `--stream` takes {ratio:.2f} times as long as sampling its tokens in a bare loop.", ""]
    for stage, unit in {"parse": "MB", "tokenize": "million messages"}.items():
        if growth := results.get(stage, {}).get("growth"):
            title = "Parsing" if stage == "parse" else "Tokenizing"
            figure = f"figures/{name}-{stage}-growth.png"
            draw_growth(growth, unit, title, BENCH / figure)
            lines += [f"### {title} inputs of growing size", "", made_by(stage, "growth"), ""]
            lines += [growth_table(unit, growth), ""]
            lines += [f"![time and memory against size]({figure})", ""]
    if memory := results.get("memory"):
        lines += ["### GPU memory by simulation and by estimate", "", MEMORY]
        lines += [line for part in ("rows", "states", "fits") for line in (table(memory[part]), "")]
    if gpu := results.get("gpu"):
        lines += ["### Training on a GPU, 24 blocks of 512 tokens per step", ""]
        lines += [GPU.format(gpu=machine["gpu"], date=gpu["date"], name=name), "", table(gpu["speed"]), ""]
    if soak := results.get("soak"):
        lines += ["### What was broken on purpose, and what was lost", ""]
        lines += ["By `make soak`. Each fault is a function in bench/soak.py, which says what survives it.", ""]
        lines += [table(soak["rows"]), ""]
    if pretrained := results.get("pretrained"):
        lines += ["### A pretrained model beside n-grams, real chat", ""]
        lines += [f"By `make pretrained LOGS=folder`, SmolLM2-135M: {pretrained['setting']}.", ""]
        lines += [table(pretrained["rows"]), ""]
    if cores := results.get("cores"):
        logs, chat = (" LOGS=folder", "real") if cores["chat"] == "real" else ("", "made-up")
        megabytes = cores["parse_logs.py, one file"]["units"]["MB"]
        messages = cores["tokenize_logs.py, one file"]["units"]["messages"]
        lines += [CORES.format(logs=logs, chat=chat, megabytes=megabytes, messages=messages)]
        lines += [table(cores_rows(cores)), ""]
    if speakers := results.get("speakers"):
        lines += [SPEAKERS.format(setting=speakers["setting"]), table(speakers["rows"]), ""]
    if weeks := results.get("weeks"):
        lines += [WEEKS.format(minutes=weeks["minutes"]), table(weeks["rows"]), ""]
    if rates := results.get("learning rates"):
        setting = ", ".join(f"{name} {value}" for name, value in rates["setting"].items())
        lines += [LEARNING_RATES.format(setting=setting), table(rates["rows"]), ""]
    for chat, figures in results.get("quality", {}).items():
        title = f"Quality beside n-gram models, {'made-up' if chat == 'sample' else 'real'} chat"
        figure = f"figures/{name}-quality-{chat}.png"
        draw_quality(figures, title, BENCH / figure)
        lines += [
            f"### {title}",
            "",
            f"{made_by('quality', chat)} {figures['setting']}.",
            "",
            "Bits per byte are of the test messages; fewer are better. New messages are those that do not occur in the",
            "training data. Copies are the share of sampled messages that do.",
            "",
            table(figures["rows"]),
            "",
            f"![bits per byte over the epochs]({figure})",
            "",
        ]
        if headers := figures.get("headers"):
            lines += [f"Blocks with and without the header `#channel`; {headers['setting']}.", ""]
            lines += [table(headers["rows"]), ""]
        if sampling := figures.get("sampling"):
            lines += [
                "Generated messages in the test chat, by temperature and top-p:",
                "",
                table(sampling),
                "",
            ]
        if judge := figures.get("judge"):
            lines += [JUDGE.format(setting=judge["setting"]), table(judge["rows"]), ""]
        if splits := figures.get("splits"):
            lines += [f"A random test split, and one of the newest blocks: {splits['setting']}.", ""]
            lines += [table(splits["rows"]), ""]
    return lines


def main() -> None:
    (BENCH / "figures").mkdir(exist_ok=True)
    lines = [INTRODUCTION]
    for path in sorted(RESULTS.glob("*.json"), reverse=True):
        lines += report_machine(json.loads(path.read_text(encoding="utf-8")), path.stem)
    lines += [COMPARISON]
    (BENCH / "README.md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
