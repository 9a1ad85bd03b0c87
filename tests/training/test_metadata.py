"""chatter.training.metadata: other programs read of a model what is true of it."""

import json
import subprocess

import pytest
import torch
from conftest import python_with, save_chatter
from families import FAMILIES, make_family
from metadata import assert_true_metadata
from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline

from chatter.tokens.chat import ChatFormat, encode_chat
from chatter.tokens.tokenizer import load_tokenizer
from chatter.training.metadata import write_metadata
from chatter.training.model import load_model

MORE = {  # families whose rotary positions transformers 4 keeps under other names
    "gpt_neox": {"rope_parameters": {"rope_theta": 50000.0, "partial_rotary_factor": 0.5}},
    "llama": {"rope_parameters": {"rope_theta": 50000.0, "rope_type": "linear", "factor": 2.0}},
    "gemma": {"model_type": "gemma3_text", "sliding_window": 8, "rope_parameters": None},
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The folder of a model of each family, as train.py saves it, and of some with other rotary positions."""
    made = {}
    for name, more in [*((name, {}) for name in FAMILIES), *MORE.items()]:
        base = tmp_path_factory.mktemp("base")
        make_family(name, base)
        tokenizer = load_tokenizer(str(base))
        config = json.loads((base / "config.json").read_text()) | more
        if more:
            config.pop("architectures")
            [path.unlink() for path in base.glob("*.safetensors")]
            (base / "config.json").write_text(json.dumps(config))
        torch.manual_seed(0)
        model = load_model(str(base), tokenizer, 64)
        model.config.use_cache = False  # as the Trainer does
        model.config.bos_token_id = 5  # a wrong one
        folder = tmp_path_factory.mktemp("saved")
        model.save_pretrained(folder)
        write_metadata(folder, tokenizer, ChatFormat.of(tokenizer, 64))
        made[f"{name}, changed" if more else name] = folder
    return made


def test_the_metadata_of_each_family(folders):
    for folder in folders.values():
        assert_true_metadata(folder)


def test_the_metadata_of_gpt2(random_model):
    assert_true_metadata(random_model)


def test_added_special_tokens_of_the_base_are_kept(small_model, tokenizer, tmp_path):
    """transformers 4 cannot read the list that transformers 5 writes."""
    base = tmp_path / "base"
    tokenizer = load_tokenizer(str(small_model))
    tokenizer.add_special_tokens({"extra_special_tokens": ["<|im_start|>", "<file>"]})
    tokenizer.chat_template = "{{ '<|im_start|>' }}"
    tokenizer.save_pretrained(base)
    tokenizer = load_tokenizer(str(base))
    model = load_model(str(small_model), load_tokenizer(str(small_model)), 64)
    model.resize_token_embeddings(len(tokenizer))
    folder = save_chatter(model, tokenizer, tmp_path / "saved")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    assert settings["additional_special_tokens"] == ["<|im_start|>", "<file>"]
    assert {"<|im_start|>", "<file>"} <= {*AutoTokenizer.from_pretrained(folder).all_special_tokens}
    assert_true_metadata(folder)


def test_a_pipeline_cuts_a_long_chat(parrot):
    """It reads model_max_length: one that is too long ends in an IndexError."""
    generate = pipeline("text-generation", model=str(parrot), device="cpu")
    [answer] = generate("ping\nwhat is it\n" * 50, handle_long_generation="hole", return_full_text=False)
    assert answer["generated_text"].count("\n") <= 1


def test_plain_generate_samples_a_message(random_model):
    model, tokenizer = (kind.from_pretrained(random_model) for kind in (AutoModelForCausalLM, AutoTokenizer))
    ids = torch.tensor([[tokenizer.bos_token_id]])
    sampled = {tuple(model.generate(ids)[0].tolist()) for _ in range(3)}
    assert len(sampled) == 3


IN_TRANSFORMERS_4 = """
import json, sys, torch, transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

assert transformers.__version__.startswith("4."), transformers.__version__
for folder in sys.argv[1:]:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    messages = [{"role": "user", "content": text} for text in ("hi chat!", "what</s> [PAD]is it")]
    ids = tokenizer.apply_chat_template(messages)
    torch.manual_seed(0)
    with torch.inference_mode():
        logits = model(torch.tensor([ids])).logits[0, -1].tolist()
        sampled = model.generate(torch.tensor([ids]))[0].tolist()
    cached = model(torch.tensor([ids])).past_key_values is not None
    print(json.dumps([ids, tokenizer.model_max_length, logits, sampled[len(ids):], cached]))
"""


@pytest.mark.thorough
def test_the_last_transformers_4_opens_each_family(folders, parrot):
    """It computes the same logits, encodes a chat in the same way, and samples a message."""
    folders = {**folders, "GPT-2": parrot}
    python = python_with("transformers==4.57.6")
    command = [python, "-c", IN_TRANSFORMERS_4, *folders.values()]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "generation flags are not valid" not in done.stderr
    for (name, folder), line in zip(folders.items(), done.stdout.splitlines(), strict=True):
        ids, length, logits, sampled, cached = json.loads(line)
        tokenizer, chat_format = AutoTokenizer.from_pretrained(folder), ChatFormat.load(folder)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        messages = [{"role": "user", "content": text} for text in ("hi chat!", "what</s> [PAD]is it")]
        assert ids == tokenizer.apply_chat_template(messages, return_dict=False), name
        with torch.inference_mode():
            expected = model(torch.tensor([ids])).logits[0, -1]
        assert torch.allclose(torch.tensor(logits), expected, atol=1e-5), name
        assert length == tokenizer.model_max_length and cached
        assert 1 <= len(sampled) <= chat_format.block_size // 2
        assert ids[:1] == encode_chat(tokenizer, chat_format, [], 1)
