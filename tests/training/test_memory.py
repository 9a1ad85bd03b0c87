"""chatter.training.memory: estimates, beside what was counted by hand, simulated, and measured on a GPU."""

import json
import re
from dataclasses import replace

import pytest
import torch
from conftest import BLOCK_SIZE, ROOT, run
from families import FAMILIES
from shapes import MEDIUM
from transformers import AutoConfig, AutoModelForCausalLM, GPT2Config, LlamaConfig

from chatter.training.memory import (
    MAX_LIVE,
    Mode,
    count_activations,
    describe,
    estimate_gpu,
    estimate_host,
    fits,
)
from chatter.training.model import add_adapters, fuse_gelu, load_model

IN_FP16 = Mode(half=True)
ON_GPU = replace(IN_FP16, offload_param=False, offload_optimizer=False)
PLAIN = replace(ON_GPU, deepspeed=False)
# Measured on an H100 with 80 GB, torch 2.11.0 and deepspeed 0.19.8: model, mode, blocks of 512 tokens -> peak in GB.
MEASURED = [
    ("gpt2-medium", IN_FP16, 8, 6.80),
    ("gpt2-medium", IN_FP16, 24, 18.64),
    ("gpt2-medium", ON_GPU, 8, 11.76),
    ("gpt2-medium", ON_GPU, 24, 23.60),
    ("gpt2-medium", replace(ON_GPU, checkpointing=True), 24, 13.92),
    ("gpt2-medium", PLAIN, 8, 12.78),
    ("gpt2-medium", PLAIN, 24, 24.03),
    ("gpt2-medium", replace(PLAIN, compiled=True), 24, 21.60),
    ("gpt2-medium with LoRA", ON_GPU, 24, 18.81),
    ("SmolLM2-135M", ON_GPU, 24, 19.04),
]


@pytest.fixture(scope="module")
def networks():
    """Models of the shapes that were measured, without memory for their weights."""
    medium = GPT2Config(vocab_size=50_258, n_positions=512, n_embd=1024, n_layer=24, n_head=16)
    llama = LlamaConfig(
        vocab_size=50_258,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        tie_word_embeddings=True,
    )
    with torch.device("meta"):
        found = {"gpt2-medium": fuse_gelu(AutoModelForCausalLM.from_config(medium))}
        found["gpt2-medium with LoRA"] = add_adapters(fuse_gelu(AutoModelForCausalLM.from_config(medium)), 16)
    return found | {"SmolLM2-135M": AutoModelForCausalLM.from_config(llama)}


@pytest.mark.parametrize(("name", "mode", "blocks", "measured"), MEASURED)
def test_the_estimate_agrees_with_what_a_gpu_took(name, mode, blocks, measured, networks):
    estimated = sum(estimate_gpu(describe(networks[name], blocks * 512, mode), mode).values()) / 1e9
    assert estimated == pytest.approx(measured, rel=0.15)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_activations_of_each_family_are_counted(name):
    """In both precisions. Bloom's attention keeps more in half precision, where its scores are converted."""
    network = AutoModelForCausalLM.from_config(AutoConfig.for_model(**FAMILIES[name].config))
    half, whole = (count_activations(network, Mode(half=half)) for half in (True, False))
    smallest = 10 * network.config.num_hidden_layers * network.config.hidden_size
    assert smallest < min(half, whole) and max(half, whole) < 25 * smallest


def test_counting_leaves_the_model_as_it_was(small_model, tokenizer):
    model = load_model(str(small_model), tokenizer, BLOCK_SIZE)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    count_activations(model, Mode(half=True))
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    assert all(type(weight) is torch.nn.Parameter for weight in model.parameters())


@pytest.mark.parametrize(
    ("mode", "weights_and_optimizer", "gradients", "activations"),
    [(IN_FP16, 0.71, 0.10, 3.44), (ON_GPU, 2.13 + 2.83, 0.71, 3.44), (PLAIN, 2.13 + 2.83, 1.42, 3.43)],
    ids=["default", "--no-offload", "--no-deepspeed"],
)
def test_gpt2_medium_in_fp16(mode, weights_and_optimizer, gradients, activations):
    """As counted by hand, in GB: 8 x 512 tokens, with the fused GELU."""
    parts = {name: size / 1e9 for name, size in estimate_gpu(MEDIUM, mode).items()}
    assert parts["weights"] + parts["optimizer"] == pytest.approx(weights_and_optimizer, rel=0.01)
    assert parts["gradients"] == pytest.approx(gradients, rel=0.03)
    assert parts["activations"] == pytest.approx(activations, rel=0.03)
    assert parts["loss"] == pytest.approx(2.47, rel=0.01)


def test_zero3_keeps_as_many_parameters_on_the_gpu_as_counted():
    """The notebook says so, too: all of gpt2-medium's."""
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

    zero = json.loads((ROOT / "ds_config.json").read_text())["zero_optimization"]
    assert DeepSpeedZeroConfig(**zero).max_live_parameters == MAX_LIVE > MEDIUM.parameters


def test_checkpointing_and_more_processes_take_less():
    whole = sum(estimate_gpu(MEDIUM, ON_GPU).values())
    assert sum(estimate_gpu(MEDIUM, replace(ON_GPU, checkpointing=True)).values()) < whole - 3e9
    assert sum(estimate_gpu(MEDIUM, replace(ON_GPU, processes=8, local=8)).values()) < whole - 3e9


def test_host_memory():
    """On an H100 the default took 3.2 GB, and --offload 11.3 GB."""
    assert 8e9 < estimate_host(MEDIUM, IN_FP16, cuda=True) < 16e9
    assert estimate_host(MEDIUM, ON_GPU, cuda=True) < 5e9
    assert estimate_host(MEDIUM, replace(IN_FP16, processes=2, local=1), cuda=True) < 9e9  # half on each machine


def test_a_model_is_described_by_its_weights(small_model, tokenizer):
    model = load_model(str(small_model), tokenizer, BLOCK_SIZE)
    shape = describe(model, 64, IN_FP16)
    assert (shape.parameters, shape.layers, shape.width) == (model.num_parameters(), 2, 32)
    assert (shape.trained, shape.vocabulary, shape.tokens) == (shape.parameters, len(tokenizer), 64)
    adapted = describe(add_adapters(model, 4), 64, IN_FP16)
    assert 0 < adapted.trained < 0.5 * adapted.parameters


def test_fits_leaves_room():
    assert fits(6e9, 8e9) and not fits(7e9, 8e9)


@pytest.mark.thorough
def test_the_estimate_agrees_with_a_simulation():
    """Of gpt2 in four ways, tensor by tensor, within 15%: bench/bench_memory.py exits with 1 otherwise."""
    done = run("bench/bench_memory.py", "--quick")
    assert re.search(r"the estimate differs from the simulation by \d+\.\d% at most\n$", done.stdout)
