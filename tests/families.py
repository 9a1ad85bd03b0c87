"""Tiny models of several families, with random weights and tokenizers as each family has them, trained on the spot."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from conftest import ROOT
from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

VOCABULARY = 700
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
# How each family splits text before it merges bytes, as their tokenizer.json has it.
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
    r"\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
BLOOM = r" ?[^(\s|[.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c])]+"


@dataclass(frozen=True)
class Family:
    config: dict  # for AutoConfig.for_model
    train: Callable[[list[str]], Tokenizer]  # lines of text -> tokenizer
    special: dict[str, str]  # as in tokenizer_config.json
    extra_rows: int = 0  # of the embeddings, as padded vocabularies have them
    rows_after: int = 1  # more rows than tokens before, when [PAD] is there


def byte_level(pattern: str | None, tokens: list[str], added: tuple[str, ...] = ()) -> Callable[[list[str]], Tokenizer]:
    """Return a function that trains a byte-level tokenizer. `added` are further tokens, which are not special."""

    def train(lines: list[str]) -> Tokenizer:
        tokenizer = Tokenizer(BPE())
        split = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pattern is None)
        if pattern:
            first = pre_tokenizers.Split(Regex(pattern), "isolated")
            split = pre_tokenizers.Sequence([first, split])
        tokenizer.pre_tokenizer, tokenizer.decoder = split, decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = BpeTrainer(
            vocab_size=VOCABULARY, special_tokens=tokens, initial_alphabet=alphabet, show_progress=False
        )
        tokenizer.train_from_iterator(["\n".join(lines)], trainer)  # so that it merges "!\n" if the pattern allows that
        tokenizer.add_tokens([*added])
        return tokenizer

    return train


def byte_fallback(lines: list[str]) -> Tokenizer:
    """Train a tokenizer of whole words with blanks as \u2581, as SentencePiece has them; it falls back on bytes."""
    trained = Tokenizer(BPE())
    trained.normalizer = normalizers.Replace(" ", "\u2581")
    trained.pre_tokenizer = pre_tokenizers.Split("\u2581", "merged_with_next")
    trained.train_from_iterator(lines, BpeTrainer(vocab_size=VOCABULARY - 260, show_progress=False))
    import json

    model = json.loads(trained.to_str())["model"]
    names = ["<pad>", "<eos>", "<bos>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    names += [name for name in model["vocab"] if name not in names]
    merges = [tuple(pair) for pair in model["merges"]]
    vocabulary = {name: number for number, name in enumerate(names)}
    tokenizer = Tokenizer(BPE(vocabulary, merges, byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
    steps = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence(steps)
    tokenizer.add_special_tokens(names[:4])
    return tokenizer


END = ["<|endoftext|>"]
FAMILIES = {
    "llama": Family(
        {"model_type": "llama", **SIZES, "num_key_value_heads": 2, "intermediate_size": 64}
        | {"max_position_embeddings": 256, "tie_word_embeddings": False, "rms_norm_eps": 1e-5}
        | {
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 500000.0,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64,
            }
        },
        byte_level(LLAMA3, ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"]),
        {"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>"},
    ),
    "qwen2": Family(
        {"model_type": "qwen2", **SIZES, "num_key_value_heads": 2, "intermediate_size": 64}
        | {"max_position_embeddings": 256, "tie_word_embeddings": True, "rope_parameters": {"rope_theta": 1e6}}
        | {"dtype": "bfloat16"},
        byte_level(QWEN2, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]),
        {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"},
        extra_rows=36,
        rows_after=0,
    ),
    "gpt_neox": Family(
        {"model_type": "gpt_neox", **SIZES, "intermediate_size": 64, "max_position_embeddings": 256}
        | {"tie_word_embeddings": False, "rope_parameters": {"rope_theta": 10000.0, "partial_rotary_factor": 0.25}},
        byte_level(None, [*END, "<|padding|>"], added=("   ", "  ")),  # runs of blanks
        {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"},
        extra_rows=27,
        rows_after=0,
    ),
    "opt": Family(
        {"model_type": "opt", **SIZES, "ffn_dim": 64, "max_position_embeddings": 256, "word_embed_proj_dim": 32},
        byte_level(None, ["<s>", "<pad>", "</s>", "<unk>"]),
        {"bos_token": "</s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "</s>"},
        rows_after=0,
    ),
    "bloom": Family(
        {"model_type": "bloom", "hidden_size": 32, "n_layer": 2, "n_head": 4},
        byte_level(BLOOM, ["<unk>", "<s>", "</s>", "<pad>"]),
        {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"},
        rows_after=0,
    ),
    "gemma": Family(
        {"model_type": "gemma", **SIZES, "num_key_value_heads": 1, "head_dim": 8, "intermediate_size": 64}
        | {"max_position_embeddings": 256, "rope_parameters": {"rope_theta": 10000.0}},
        byte_fallback,
        {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"},
        rows_after=0,
    ),
}


def sample_lines() -> list[str]:
    """Return some chat of the sample, line by line."""
    log = ROOT / "data/sample_logs/pixelpanda_tv-2024-03-07.txt"
    return [line.split(": ", 1)[-1] for line in log.read_text(encoding="utf-8").splitlines()]


@functools.cache
def trained_tokenizer(name: str) -> str:
    """Return the tokenizer of a family as JSON."""
    return FAMILIES[name].train(sample_lines()).to_str()


def make_family(name: str, folder: Path, **changes) -> Path:
    """Save a model of a family in a folder, as the hub has them, with some `changes` of its config."""
    from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast, set_seed

    family = FAMILIES[name]
    backend = Tokenizer.from_str(trained_tokenizer(name))
    PreTrainedTokenizerFast(tokenizer_object=backend, **family.special).save_pretrained(folder)
    settings = family.config | changes
    config = AutoConfig.for_model(
        settings.pop("model_type"), vocab_size=backend.get_vocab_size() + family.extra_rows, **settings
    )
    set_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    model.to(config.dtype or model.dtype).save_pretrained(folder)
    return folder
