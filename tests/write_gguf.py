"""Write models as GGUF files, as llama.cpp's converter does. It runs in an environment with the package gguf."""

import json

from gguf import MODEL_ARCH_NAMES, GGMLQuantizationType, GGUFWriter, TokenType, get_tensor_name_map
from gguf.quants import quantize
from transformers import AutoModelForCausalLM, AutoTokenizer

TRANSPOSED = ("c_attn.weight", "c_proj.weight", "c_fc.weight")  # of GPT-2


def permute(weights, num_heads):
    """Return a matrix of rotary positions in llama.cpp's order: both halves of a head in turns."""
    return weights.reshape(num_heads, 2, -1, weights.shape[1]).swapaxes(1, 2).reshape(weights.shape)


def write(folder, file, split, kind, left_out=()):
    """Write the model in a folder as a file, but the tensors `left_out`.

    `split` is llama.cpp's name for how the tokenizer splits texts, `kind` the type of the matrices, such as Q8_0.
    """
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).float(), AutoTokenizer.from_pretrained(folder)
    config, family = model.config, model.config.model_type
    writer = GGUFWriter(file, family)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_head_count(config.num_attention_heads)
    if family == "gpt2":
        writer.add_feed_forward_length(4 * config.hidden_size)
        writer.add_layer_norm_eps(config.layer_norm_epsilon)
    else:
        writer.add_feed_forward_length(config.intermediate_size)
        writer.add_head_count_kv(config.num_key_value_heads)
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
        writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
        if config.rope_parameters["rope_type"] != "default":
            writer.add_string(f"{family}.rope.scaling.type", config.rope_parameters["rope_type"])
    write_tokenizer(writer, tokenizer, config.vocab_size, split)
    write_weights(writer, model, kind, left_out)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_tokenizer(writer, tokenizer, vocab_size, split):
    tokens = [tokenizer.convert_ids_to_tokens(number) or f"[PAD{number}]" for number in range(vocab_size)]
    special = {*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()}
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(split)
    writer.add_token_list(tokens)
    writer.add_token_types([TokenType.CONTROL if token in special else TokenType.NORMAL for token in tokens])
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_eos_token_id(tokenizer.eos_token_id)
    if tokenizer.bos_token_id is not None:
        writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_chat_template("{{ messages }}")


def write_weights(writer, model, kind, left_out):
    config, family = model.config, model.config.model_type
    arch = next(arch for arch, name in MODEL_ARCH_NAMES.items() if name == family)
    names = get_tensor_name_map(arch, config.num_hidden_layers)
    for name, parameter in model.named_parameters():
        weights, gguf_name = parameter.detach().numpy(), names.get_name(name, (".weight", ".bias"))
        if gguf_name in left_out:
            continue
        if family == "gpt2" and name.endswith(TRANSPOSED):
            weights = weights.T.copy()
        if family == "llama" and "q_proj" in name:
            weights = permute(weights, config.num_attention_heads)
        if family == "llama" and "k_proj" in name:
            weights = permute(weights, config.num_key_value_heads)
        if weights.ndim == 2 and kind != "F32":
            quantized = GGMLQuantizationType[kind]
            writer.add_tensor(gguf_name, quantize(weights, quantized), raw_dtype=quantized)
        else:
            writer.add_tensor(gguf_name, weights)
