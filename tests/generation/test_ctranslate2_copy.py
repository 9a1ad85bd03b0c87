"""chatter.generation.ctranslate2_copy: CTranslate2 is used for the models whose logits it computes, and no others."""

import contextlib
import json
import shutil

import pytest
import torch
from conftest import contents, save_chatter
from families import make_family
from tokenizers import Tokenizer

from chatter.cli import InputError
from chatter.generation.choose_engine import load_engine
from chatter.generation.ctranslate2_copy import (
    COMPARISON,
    DIGEST,
    TOLERANCE,
    compare,
    converted_weights,
    fill_block,
    logits_of_copy,
    logits_of_model,
)
from chatter.generation.engine import Sampling
from chatter.tokens.chat import ChatFormat
from chatter.tokens.tokenizer import load_tokenizer
from chatter.training.model import load_model

DIFFERS, FAILS = r"its logits would differ from the model's by \de-\d\d of their", "[A-Z][a-z]+Error: "
# Family -> a change of its config.json, and why CTranslate2 4.8.5 is not used, or "".
CASES = {
    "qwen2": ("qwen2", {}, ""),
    "bloom": ("bloom", {}, ""),
    "gemma": ("gemma", {}, ""),
    "Llama": ("llama", {"rope_parameters": {"rope_theta": 50000.0, "rope_type": "default"}}, ""),
    "Mistral": ("llama", {"model_type": "mistral", "rope_parameters": {"rope_theta": 50000.0}}, ""),
    "a sliding window longer than a block": ("qwen2", {"use_sliding_window": True, "sliding_window": 99}, ""),
    "Llama 3": ("llama", {}, DIFFERS),
    "Gemma 2": ("gemma", {"model_type": "gemma2"}, DIFFERS),
    "a head_dim": ("llama", {"head_dim": 16}, FAILS),
    "NeoX": ("gpt_neox", {}, FAILS),
    "OPT": ("opt", {}, FAILS),
    "not known": (
        "gpt_neox",
        {"model_type": "mpt", "d_model": 32, "n_heads": 4, "n_layers": 2},
        "ValueError: No conversion",
    ),
}


@pytest.fixture
def save(tmp_path):
    """Return a function that saves a model of random weights as train.py does, and returns its folder."""

    def save_family(family, change):
        base = make_family(family, tmp_path / "base")
        if change:
            config = json.loads((base / "config.json").read_text())
            (base / "config.json").write_text(json.dumps(config | change))
            (base / "model.safetensors").unlink()
        tokenizer = load_tokenizer(str(base))
        torch.manual_seed(0)
        return save_chatter(load_model(str(base), tokenizer, 64), tokenizer, tmp_path / "model")

    return save_family


@pytest.mark.parametrize("case", CASES)
def test_it_is_used_where_it_computes_the_same(case, save, capsys):
    family, change, reason = CASES[case]
    folder = save(family, change)
    for _ in range(2):  # the comparison is made once
        capsys.readouterr()
        engine = load_engine(folder, "cpu")
        assert type(engine).__name__ == ("TransformersEngine" if reason else "CTranslate2Engine")
        assert engine.sample([engine.format.start], 1, Sampling(max_new_tokens=3))
    errors = capsys.readouterr().err
    assert "converting the weights" not in errors
    recorded = json.loads((folder / "ctranslate2" / COMPARISON).read_text())
    if not reason:
        assert recorded["reason"] == errors == "" and recorded["difference"] < 1e-5 < TOLERANCE
        return
    assert f"ctranslate2 cannot load {folder} ({recorded['reason']}): using transformers" in errors
    assert {path.name for path in (folder / "ctranslate2").iterdir()} - {".chatter.json"} == {COMPARISON, DIGEST}
    with pytest.raises(ValueError, match=reason):
        converted_weights(folder)
    with pytest.raises(InputError, match=r"ctranslate2 cannot load .* Pass --engine transformers\."):
        load_engine(folder, "cpu", "ctranslate2")


def test_other_weights_compute_other_logits(random_model, parrot, tmp_path):
    copies = {folder: converted_weights(folder) for folder in (random_model, parrot)}
    for folder in copies:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        ids = fill_block(tokenizer, ChatFormat.load(folder))
        expected = logits_of_model(folder, ids)
        for other, copy in copies.items():
            assert (compare(logits_of_copy(copy, tokenizer, ids), expected) < TOLERANCE) == (folder == other)


def test_a_changed_config_is_compared_again(save, capsys):
    folder = save("llama", {"rope_parameters": {"rope_theta": 50000.0, "rope_type": "default"}})
    converted_weights(folder)
    config = json.loads((folder / "config.json").read_text())
    scaled = config["rope_parameters"] | {"rope_type": "linear", "factor": 4.0}
    (folder / "config.json").write_text(json.dumps(config | {"rope_parameters": scaled, "rope_scaling": scaled}))
    before = contents(folder / "ctranslate2")
    with contextlib.suppress(ValueError):
        converted_weights(folder)
    assert contents(folder / "ctranslate2") != before and capsys.readouterr().err.count("converting the weights") == 2


def test_a_model_that_does_not_fit_into_memory_is_not_converted(random_model, monkeypatch, tmp_path, capsys):
    """Nothing is recorded: next time there may be room."""
    folder = shutil.copytree(random_model, tmp_path / "model", ignore=shutil.ignore_patterns("ctranslate2"))
    monkeypatch.setattr("chatter.generation.ctranslate2_copy.MEMORY", 1 << 30)
    assert type(load_engine(folder, "cpu")).__name__ == "TransformersEngine"
    assert "its conversion needs " in capsys.readouterr().err and not (folder / "ctranslate2").exists()
    monkeypatch.undo()
    assert type(load_engine(folder, "cpu")).__name__ == "CTranslate2Engine"
