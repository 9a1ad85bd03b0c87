"""Cards, the README.md of models and datasets, as the Hugging Face hub reads them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from huggingface_hub import CardData

TAGS = ["twitch", "chat"]  # of models and datasets, for the hub


def write_card(folder: Path, metadata: CardData, text: str) -> None:
    """Write a card to a folder: its metadata as YAML, and its text."""
    (folder / "README.md").write_text(f"---\n{metadata.to_yaml()}\n---\n\n{text}", encoding="utf-8")


def markdown_table(values: dict[str, Any]) -> str:
    """Return a Markdown table of names and values."""
    formats = {int: "{:,}".format, float: "{:.4g}".format, list: ", ".join}
    rows = [
        f"| {name} | {formats.get(type(value), str)(value)} |" for name, value in values.items() if value is not None
    ]
    return "\n".join(["| | |", "|---|---|", *rows])
