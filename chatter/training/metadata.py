"""What other programs read of a model: its config, how to sample, its tokenizer and its chat template."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoTokenizer, GenerationConfig, PreTrainedConfig, PreTrainedTokenizerBase

from chatter.cli import log
from chatter.files import delete
from chatter.generation.engine import Sampling
from chatter.tokens.chat import ChatFormat
from chatter.tokens.chat_template import add_chat_template, encodes_as_trained

TOKENIZER_CLASS = "PreTrainedTokenizerFast"  # transformers 5 has it as an alias of TokenizersBackend, which 4 lacks
NAMES_OF_NEOX = "rotary_emb_base", "rotary_pct"


def generation_config(chat_format: ChatFormat) -> GenerationConfig:
    """Return the settings of `generate.py`, without those of the pretrained model. A message ends with its line."""
    sampling = Sampling()
    return GenerationConfig(
        bos_token_id=chat_format.start,
        eos_token_id=[chat_format.newline, chat_format.end],
        pad_token_id=chat_format.pad,
        do_sample=True,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        max_new_tokens=min(sampling.max_new_tokens, chat_format.block_size // 2),
    )


def write_metadata(folder: Path, tokenizer: PreTrainedTokenizerBase, chat_format: ChatFormat) -> None:
    """Write all files of a model but its weights, in place of those that the Trainer wrote.

    `folder` has the config.json that belongs to the weights, `tokenizer` comes from `load_tokenizer`.
    """
    config = AutoConfig.from_pretrained(folder)
    for part in {id(each): each for each in (config, config.get_text_config())}.values():
        part.use_cache = True  # the Trainer turns it off
        part.bos_token_id, part.eos_token_id, part.pad_token_id = chat_format.start, chat_format.end, chat_format.pad
    config.save_pretrained(folder)
    update_json(folder / "config.json", older_names(config))
    generation_config(chat_format).save_pretrained(folder)
    positions = getattr(config.get_text_config(), "max_position_embeddings", None)  # Bloom has none
    write_tokenizer(folder, tokenizer, chat_format, positions or chat_format.block_size)
    chat_format.save(folder)


def older_names(config: PreTrainedConfig) -> dict[str, Any]:
    """Return the rotary positions of a config as transformers 4 reads them; it would take its defaults instead."""
    rope = getattr(config, "rope_parameters", None) or {}
    names = {}
    if "sliding_attention" in rope:  # Gemma 3
        names["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
    rope = rope.get("full_attention", rope)
    if "rope_theta" not in rope:  # no rotary positions
        return {}
    theta, share = NAMES_OF_NEOX if config.model_type == "gpt_neox" else ("rope_theta", "partial_rotary_factor")
    names[theta] = rope["rope_theta"]
    if "partial_rotary_factor" in rope:
        names[share] = rope["partial_rotary_factor"]
    if rope.get("rope_type", "default") != "default":
        apart = ("rope_theta", "partial_rotary_factor")
        names["rope_scaling"] = {name: value for name, value in rope.items() if name not in apart}
    return names


def write_tokenizer(folder: Path, tokenizer: PreTrainedTokenizerBase, chat_format: ChatFormat, positions: int) -> None:
    """Write a tokenizer with a chat template that encodes a chat as in training, or with none if that is impossible."""
    for changed in add_chat_template(tokenizer, chat_format):
        if encodes_as_trained(changed, tokenizer, chat_format):
            save_tokenizer(folder, changed, positions)
            loaded = AutoTokenizer.from_pretrained(folder)  # builds some families' tokenizers anew, such as Qwen 2's
            if encodes_as_trained(loaded, tokenizer, chat_format):
                return
    log("the tokenizer encodes a whole chat differently than its lines: the model has no chat template")
    delete(folder / "chat_template.jinja")
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = None
    save_tokenizer(folder, tokenizer, positions)


def save_tokenizer(folder: Path, tokenizer: PreTrainedTokenizerBase, positions: int) -> None:
    """Save a tokenizer as transformers 4 and 5 read it."""
    tokenizer.model_max_length = positions
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8")) | {"tokenizer_class": TOKENIZER_CLASS}
    if extra := settings.pop("extra_special_tokens", None):  # transformers 4 expects a mapping of that name
        settings["additional_special_tokens"] = extra
    path.write_text(json.dumps(settings, indent=2), encoding="utf-8")


def update_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | values, indent=2), encoding="utf-8")
