"""Model card, data card and learning curve, with the metadata that the Hugging Face hub reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from chatter.loss import perplexity
from chatter.tokens.dataset import TAGS, markdown_table, write_card


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
