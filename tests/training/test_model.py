"""chatter.training.model: the model before training is the pretrained one, made ready for chat."""

import json
import shutil

import pytest
import torch
from conftest import BLOCK_SIZE, TINY
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, BertConfig, ViTConfig, set_seed

from chatter.cli import InputError
from chatter.training.model import load_model


@pytest.fixture(scope="module")
def pretrained(small_model):
    return AutoModelForCausalLM.from_pretrained(small_model)


@pytest.fixture(scope="module")
def loaded(small_model, tokenizer):
    return load_model(str(small_model), tokenizer, BLOCK_SIZE)


def assert_same_weights(found, expected):
    """Assert that two state dicts agree in all rows that both have."""
    assert found.keys() == expected.keys()
    for name, weight in found.items():
        rows = min(len(weight), len(expected[name]))
        assert torch.equal(weight[:rows], expected[name][:rows]), name


def test_weights_are_the_pretrained_ones(loaded, pretrained):
    assert_same_weights(loaded.state_dict(), pretrained.state_dict())


def test_padding_token_gets_a_row(loaded, pretrained):
    size = pretrained.config.vocab_size
    rows = loaded.transformer.wte.weight
    assert rows.shape == (size + 1, 32) and loaded.config.vocab_size == size + 1
    assert (rows[-1] - pretrained.transformer.wte.weight.mean(0)).abs().max() < 0.1  # drawn around the others' mean


def test_output_layer_shares_the_rows(loaded):
    assert loaded.lm_head.weight is loaded.transformer.wte.weight


def test_positions_are_as_many_as_a_block_has(loaded):
    assert loaded.transformer.wpe.weight.shape == (BLOCK_SIZE, 32)
    assert loaded.config.n_positions == BLOCK_SIZE


def test_a_message_ends_with_its_line(loaded, tokenizer):
    config = loaded.generation_config
    assert config.eos_token_id == [*tokenizer.encode("\n"), tokenizer.eos_token_id]
    assert config.pad_token_id == tokenizer.pad_token_id


def test_weights_as_the_hub_has_them(small_model, pretrained, tokenizer, tmp_path):
    """The names in GPT-2's own files lack "transformer.", and the causal masks of all layers are among the weights."""
    shutil.copytree(small_model, tmp_path / "gpt2")
    weights = load_file(small_model / "model.safetensors")
    bare = {name.removeprefix("transformer."): weight for name, weight in weights.items()}
    masks = {f"h.{layer}.attn.bias": torch.ones(1, 1, 64, 64).tril() for layer in range(2)}
    save_file(bare | masks, tmp_path / "gpt2/model.safetensors", metadata={"format": "pt"})
    model = load_model(str(tmp_path / "gpt2"), tokenizer, BLOCK_SIZE)
    assert_same_weights(model.state_dict(), pretrained.state_dict())


def test_weights_of_a_chatter_can_be_trained_further(loaded, tokenizer, tmp_path):
    """Such a model has a row for the padding token already."""
    loaded.save_pretrained(tmp_path)
    further = load_model(str(tmp_path), tokenizer, BLOCK_SIZE)
    assert further.config.vocab_size == len(tokenizer)
    assert_same_weights(further.state_dict(), loaded.state_dict())


def test_a_folder_without_weights_starts_from_seeded_random_ones(tokenizer):
    weights = []
    for seed in (1, 1, 2):
        set_seed(seed)
        weights.append(load_model(str(TINY), tokenizer, 512).transformer.wte.weight)
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_incomplete_weights_are_refused(pretrained, tokenizer, tmp_path):
    weights = pretrained.state_dict()
    del weights["transformer.h.1.mlp.c_fc.weight"]
    pretrained.save_pretrained(tmp_path, state_dict=weights)
    with pytest.raises(InputError, match=r"lack transformer\.h\.1\.mlp\.c_fc\.weight\."):
        load_model(str(tmp_path), tokenizer, BLOCK_SIZE)


def test_weights_that_do_not_fit_the_config_are_refused(pretrained, tokenizer, tmp_path):
    """Such as gpt2-medium's beside the config of gpt2. transformers' text is about an option of its own."""
    pretrained.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"n_embd": 2 * config["n_embd"]}))
    with pytest.raises(InputError, match=r"the weights of .* do not fit its config\.json\. Copy both from the same"):
        load_model(str(tmp_path), tokenizer, BLOCK_SIZE)


def test_a_model_whose_tokens_have_other_numbers_is_refused(pretrained, tokenizer, tmp_path):
    """The tokens are the same: the model would learn nonsense."""
    pretrained.save_pretrained(tmp_path)
    own = json.loads(tokenizer.backend_tokenizer.to_str())
    vocabulary = own["model"]["vocab"]
    first, second, *_ = vocabulary
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    (tmp_path / "tokenizer.json").write_text(json.dumps(own))
    with pytest.raises(InputError, match=r"tokens including \[PAD\], but .* has others\. Run tokenize_logs\.py with"):
        load_model(str(tmp_path), tokenizer, BLOCK_SIZE)


def test_a_missing_model_is_refused(tokenizer):
    with pytest.raises(InputError, match=r"no model no/such-model: there is no folder of this name"):
        load_model("no/such-model", tokenizer, BLOCK_SIZE)


def test_a_model_of_fewer_positions_than_a_block_is_refused(small_model, tokenizer):
    with pytest.raises(InputError, match=r"the blocks have 65 tokens, but .* has only 64 positions"):
        load_model(str(small_model), tokenizer, 65)


def test_a_model_of_another_vocabulary_is_refused(small_model, tokenizer, tmp_path):
    AutoConfig.from_pretrained(small_model, vocab_size=50257).save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"tokenized for another model: .* but .* has 50257"):
        load_model(str(tmp_path), tokenizer, BLOCK_SIZE)


def test_a_model_that_sees_what_comes_later_is_refused(tokenizer, tmp_path):
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertConfig(vocab_size=len(tokenizer), **sizes).save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"is not a causal language model: later tokens change"):
        load_model(str(tmp_path), tokenizer, BLOCK_SIZE)


def test_a_model_that_generates_no_text_is_refused(tokenizer, tmp_path):
    ViTConfig().save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"is a vit model, which cannot generate text"):
        load_model(str(tmp_path), tokenizer, BLOCK_SIZE)


def test_a_model_of_the_hub_without_safetensors_is_refused(small_model, tokenizer, tmp_path, monkeypatch):
    """Its weights are not downloaded. No hub is at hand: the folder of its copy is given."""
    copy = shutil.copytree(small_model, tmp_path / "copy")
    (copy / "model.safetensors").unlink()
    monkeypatch.setattr("chatter.training.model.fetch_model", lambda model, weights: copy)
    with pytest.raises(InputError, match=r"someone/model has no weights as safetensors\."):
        load_model("someone/model", tokenizer, 64)
