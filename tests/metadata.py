"""What is true of the metadata of every saved model."""

import json

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from chatter.generation.engine import Sampling
from chatter.tokens.chat import ChatFormat


def assert_true_metadata(folder):
    """Assert that the metadata of a saved model agree with each other and with the weights."""
    chat_format = ChatFormat.load(folder)
    config, tokenizer = AutoConfig.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    generation = GenerationConfig.from_pretrained(folder)
    ids = chat_format.start, chat_format.end, chat_format.pad
    assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == ids
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == ids
    assert (generation.bos_token_id, generation.pad_token_id) == (chat_format.start, chat_format.pad)
    assert generation.eos_token_id == [chat_format.newline, chat_format.end]
    assert config.use_cache is True and generation.use_cache in (None, True)
    assert tokenizer.model_max_length == getattr(config, "max_position_embeddings", chat_format.block_size)
    sampling = Sampling()
    assert generation.do_sample and generation.max_new_tokens == min(100, chat_format.block_size // 2)
    assert [generation.temperature, generation.top_p, generation.top_k] == [
        sampling.temperature,
        sampling.top_p,
        sampling.top_k,
    ]
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    assert settings["tokenizer_class"] == "PreTrainedTokenizerFast" and "extra_special_tokens" not in settings
    assert "chat_template" not in settings and tokenizer.chat_template.startswith("{#- One line for each message")
    if config.model_type == "gpt2":
        written = json.loads((folder / "config.json").read_text())
        assert written["n_ctx"] == written["n_positions"] == chat_format.block_size
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.dtype == config.dtype
    output = model(torch.tensor([[chat_format.start]]))
    assert output.past_key_values is not None
