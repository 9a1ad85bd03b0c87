"""Model card, data card and learning curve, with the metadata that the Hugging Face hub reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from chatter.cli import InputError
from chatter.loss import perplexity

TAGS = ["twitch", "chat"]
DATA_SUMMARY = "summary.json"  # beside a dataset: what tokenize_logs.py read, did and counted


def write_data_report(folder: Path, summary: dict[str, Any]) -> None:
    """Write the summary of a dataset as JSON, and as a data card, README.md."""
    from huggingface_hub import DatasetCardData

    (folder / DATA_SUMMARY).write_text(json.dumps(summary, indent=1), encoding="utf-8")
    metadata = DatasetCardData(pretty_name="Blocks of chat", task_categories=["text-generation"], tags=TAGS)
    text = f"""\
# Blocks of chat

Written by tokenize_logs.py, for `datasets.load_from_disk`. A row is a block of tokens: the token for a
beginning, the line `#channel` if channels are named below, whole messages of one file in order, each followed by a
newline, and padding. The rows are shuffled.

These are other people's words. Do not publish them without their consent.

{markdown_table(summary)}
"""
    write_card(folder, metadata, text)


def read_data_summary(dataset_dir: Path) -> dict[str, Any]:
    """Return the summary of a dataset; nothing, if the dataset was written before there were summaries."""
    path = dataset_dir / DATA_SUMMARY
    if not path.exists():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise InputError(f"{path} is damaged ({error}). Run tokenize_logs.py again, or delete the file.") from error


def write_model_report(
    folder: Path, history: list[dict], best: dict[str, Any], run: dict[str, Any], data: dict[str, Any]
) -> None:
    """Write the metrics of a run as JSON, its learning curve, and a model card, README.md, that shows both and samples.

    `history` is the Trainer's log, `best` the evaluation in it of the model that is saved, `data` the summary of the
    dataset.
    """
    from huggingface_hub import ModelCardData

    metrics = {"run": run, "best": best, "history": history, "data": data}
    (folder / METRICS).write_text(json.dumps(metrics, indent=1), encoding="utf-8")
    draw_learning_curve(history, best, folder / "learning_curve.png")

    tests = [entry for entry in history if "eval_loss" in entry]
    before, after = (perplexity(entry["eval_loss"]) for entry in (tests[0], best))
    model = run["--model"]
    metadata = ModelCardData(
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=TAGS,
        base_model=None if Path(model).exists() else model,  # a name on the hub
    )
    samples = "\n".join(f"    {text}" for text in best.get("samples", []))
    text = f"""\
# A chatter

{Path(model).name}, fine-tuned on Twitch chat by train.py. Its perplexity on the test split was {before:.2f} before
training and is {after:.2f} after epoch {best["epoch"]:.2f}, the lowest of {len(tests) - 1}. The model was
chosen by its loss on the test split, so it may do worse on other chat.

It repeats what people said, and may say it about real people. Do not use it for moderation, and do not let it pass as
one of them.

![learning curve](learning_curve.png)

## Messages that it opens a chat with

{samples}

## Training

{markdown_table(run | {"--model": Path(model).name})}

## Data

{markdown_table(data)}
"""
    write_card(folder, metadata, text)


def write_card(folder: Path, metadata: Any, text: str) -> None:
    (folder / "README.md").write_text(f"---\n{metadata.to_yaml()}\n---\n\n{text}", encoding="utf-8")


def markdown_table(values: dict[str, Any]) -> str:
    """Return a Markdown table of names and values."""
    formats = {int: "{:,}".format, float: "{:.4g}".format, list: ", ".join}
    rows = [
        f"| {name} | {formats.get(type(value), str)(value)} |" for name, value in values.items() if value is not None
    ]
    return "\n".join(["| | |", "|---|---|", *rows])


def draw_learning_curve(history: list[dict], best: dict[str, Any], path: Path) -> None:
    """Draw training and test loss over the epochs, and a ring around the test loss of the model that is saved."""
    from matplotlib.figure import Figure

    steps = [entry for entry in history if "loss" in entry]
    tests = [entry for entry in history if "eval_loss" in entry]
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot([e["epoch"] for e in steps], [e["loss"] for e in steps], ".-", color="#9a9a9a", label="train")
    axes.plot([e["epoch"] for e in tests], [e["eval_loss"] for e in tests], "o-", color="#0072b2", label="test")
    axes.plot(best["epoch"], best["eval_loss"], "o", markersize=12, fillstyle="none", color="black", label="saved")
    axes.set(title="Learning curve", xlabel="epoch", ylabel="loss (nats a token)")
    axes.legend()
    figure.savefig(path, dpi=120)


METRICS = "metrics.json"  # beside a model: its run, the Trainer's log, and the summary of its data
