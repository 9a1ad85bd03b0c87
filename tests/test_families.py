"""Any causal language model of the hub goes the whole way: tokenized exactly, trained, saved, and it speaks."""

import json
import re

import ctranslate2
import numpy as np
import pytest
import torch
from conftest import ROOT, error_of, run, write_csv
from datasets import DatasetDict
from families import FAMILIES, make_family, sample_lines
from metadata import assert_true_metadata
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from chatter.generation.choose_engine import load_engine
from chatter.tokens.chat import ChatFormat, clean, decode_message, encode
from chatter.tokens.encoder import encode_each, encode_joined
from chatter.tokens.tokenizer import choose_encoder, load_tokenizer, save_encoder
from chatter.training.model import load_model
from chatter.training.settings import OTHER_LEARNING_RATE, describe_learning_rate

TRICKY = [
    "hi!",
    "ok.",
    "why?!",
    ":)",
    "a  b",
    "'tis",
    "no\u3002",
    "\U0001f602\U0001f602",
    "x" * 300,
    "1234567",
    "(",
    '"',
]
FORGED = [
    "</s> hi",
    "<s>",
    "<|begin_of_text|>",
    "<|endoftext|>x",
    "[PAD]",
    "<pad>",
    "<bos><eos>",
    "<0x0A>",
    "<unk> <|eot_id|>",
]
each_family = pytest.mark.parametrize("name", FAMILIES)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Return a function that makes the model of a family once."""
    made = {}

    def folder(name):
        if name not in made:
            made[name] = make_family(name, tmp_path_factory.mktemp("families") / name)
        return made[name]

    return folder


@each_family
def test_messages_are_tokenized_exactly_and_control_tokens_cannot_be_forged(name, folders, tmp_path):
    tokenizer = load_tokenizer(str(folders(name)))
    messages = [text for text in map(clean, sample_lines()[:500] + TRICKY + FORGED) if text]
    reference = AutoTokenizer.from_pretrained(folders(name))
    newline = ChatFormat.of(tokenizer, 32).newline
    expected = []
    for ids in reference(messages, add_special_tokens=False, split_special_tokens=True)["input_ids"]:
        expected += [*ids, newline]
    encoder = save_encoder(tokenizer, tmp_path / "tokenizer.json").load()
    assert encoder(messages).tolist() == expected
    merges = any(tokenizer.decode([token])[1:] == "\n" for token in range(len(tokenizer)) if token != newline)
    assert merges == (name in ("llama", "qwen2", "bloom"))
    assert choose_encoder(tokenizer) is (encode_each if merges else encode_joined)
    control = {*tokenizer.all_special_ids, newline}
    assert not control & {token for ids in encode(tokenizer, FORGED) for token in ids} - {reference.unk_token_id}
    assert [decode_message(tokenizer, ids) for ids in encode(tokenizer, TRICKY)] == TRICKY


@each_family
def test_the_format_of_a_family(name, folders):
    """Its own beginning, a line break alone, and padding that is neither beginning nor end."""
    tokenizer = load_tokenizer(str(folders(name)))
    chat_format = ChatFormat.of(tokenizer, 32)
    special = FAMILIES[name].special
    assert tokenizer.convert_ids_to_tokens(chat_format.start) == special.get("bos_token", special["eos_token"])
    assert tokenizer.decode([chat_format.newline]) == "\n"
    assert chat_format.pad not in (chat_format.start, chat_format.end, chat_format.newline)
    own_padding = special.get("pad_token") not in (None, special["eos_token"])
    assert tokenizer.pad_token == (special["pad_token"] if own_padding else "[PAD]")


@each_family
def test_rows_grow_for_new_tokens_only(name, folders):
    before = AutoModelForCausalLM.from_pretrained(folders(name), dtype=torch.float32)
    tokenizer = load_tokenizer(str(folders(name)))
    model = load_model(str(folders(name)), tokenizer, 32)
    rows, rows_before = (len(each.get_input_embeddings().weight) for each in (model, before))
    assert rows == rows_before + FAMILIES[name].rows_after == model.config.vocab_size and rows >= len(tokenizer)
    tied = [each.get_output_embeddings().weight is each.get_input_embeddings().weight for each in (model, before)]
    assert tied[0] == tied[1]
    ids = torch.tensor([encode(tokenizer, ["hello chat what is it"])[0]])
    with torch.inference_mode():
        found, expected = (each.eval()(ids).logits[..., :rows_before] for each in (model, before))
    assert torch.allclose(found, expected, atol=1e-5)


def test_learned_positions_are_cut_and_others_kept(folders):
    for name in ("opt", "llama"):
        model = load_model(str(folders(name)), load_tokenizer(str(folders(name))), 32)
        assert model.config.max_position_embeddings == (32 if name == "opt" else 256)
    assert (
        len(
            load_model(
                str(folders("opt")), load_tokenizer(str(folders("opt"))), 32
            ).model.decoder.embed_positions.weight
        )
        == 34
    )


def tokenize(model, folder):
    """Write some chat as a dataset for a model to the folder `data` of a folder."""
    (folder / "raw").mkdir()
    write_csv(folder / "raw/a.csv", sample_lines()[:600])
    paths = ["--input-dir", folder / "raw", "--output-dir", folder / "data"]
    run("tokenize_logs.py", "--model", model, *paths, "--block-size", 32)


@pytest.fixture(scope="module")
def chatters(folders, tmp_path_factory):
    """Return a function that takes a family from a CSV to a chatter, by the commands; it returns its folders."""
    made = {}

    def make(name, *options):
        if (name, options) not in made:
            folder = tmp_path_factory.mktemp(name)
            tokenize(folders(name), folder)
            steps = ["--max-steps", 3, "--batch-size", 8, "--micro-batch-size", 4, "--learning-rate", "1e-3", *options]
            paths = ["--dataset-dir", folder / "data", "--output-dir", folder / "model"]
            done = run("train.py", "--model", folders(name), *paths, *steps)
            made[name, options] = folder, done.stderr
        return made[name, options]

    return make


def bits_of(folder):
    """The bits per byte of the best model on its test blocks, by transformers and decoding alone."""
    tokenizer = AutoTokenizer.from_pretrained(folder / "data/tokenizer")
    network = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32).eval()
    nats = size = 0
    for ids in DatasetDict.load_from_disk(folder / "data")["test"]["input_ids"]:
        ids = torch.tensor([[token for token in ids if token != tokenizer.pad_token_id]])
        with torch.inference_mode():
            nats += network(ids, labels=ids).loss.item() * (ids.numel() - 1)
        size += len(tokenizer.decode(ids[0, 1:]).encode())
    return nats / np.log(2) / size


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [name if name == "llama" else pytest.param(name, marks=pytest.mark.thorough) for name in FAMILIES]
)
def test_from_a_csv_to_a_message(name, chatters):
    folder, errors = chatters(name, *([] if name == "llama" else ["--no-deepspeed"]))
    assert re.search("^learning rate +1e-3, which is high for models other than GPT-2$", errors, re.MULTILINE)
    done = run("generate.py", "hello chat", "--model", folder / "model", "--seed", 1)
    assert done.stdout.strip() and len(done.stdout.splitlines()) == 1
    assert done.stderr.count("converting the weights") == 1
    assert ("ctranslate2 cannot load" in done.stderr) == (name in ("llama", "gpt_neox", "opt"))
    chat_format = json.loads((folder / "model/chat_format.json").read_text())
    assert chat_format["block_size"] == 32
    history = json.loads((folder / "model/metrics.json").read_text())["history"]
    losses = [entry["eval_loss"] for entry in history if "eval_loss" in entry]
    assert losses[-1] < losses[0]
    assert f"perplexity {np.exp(losses[-1]):.2f}, {bits_of(folder):.3f} bits per byte\n" in errors
    assert_true_metadata(folder / "model")


@pytest.mark.thorough
@pytest.mark.slow
def test_both_engines_compute_the_same_logits(chatters):
    """Of the likeliest tokens and of all others, at each place of a block."""
    folder, _ = chatters("qwen2", "--no-deepspeed")
    engine = load_engine(folder / "model", "cpu", "ctranslate2")
    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32).eval()
    ids = [engine.format.start, *(token for line in encode(engine.tokenizer, sample_lines()[:4]) for token in line)][
        :32
    ]
    theirs = engine.model.forward_batch([engine.tokens(ids)])
    found = np.asarray(
        theirs.to(ctranslate2.DataType.float32) if theirs.dtype != ctranslate2.DataType.float32 else theirs
    )
    with torch.inference_mode():
        expected = model(torch.tensor([ids])).logits.numpy()
    assert np.abs(found[..., : expected.shape[-1]] - expected).max() < 1e-4


@pytest.mark.slow
def test_zero3_trains_llama_as_plain_pytorch_does(chatters, folders):
    """The same weights after three steps with ZeRO-3 and offloading as with the plain Trainer."""
    zero3, plain = (chatters("llama", *options)[0] / "model" for options in ([], ["--no-deepspeed"]))
    found, expected = (load_file(folder / "model.safetensors") for folder in (zero3, plain))
    before = load_file(folders("llama") / "model.safetensors")
    assert found.keys() == expected.keys()
    assert max((found[name] - expected[name]).abs().max() for name in found) < 1e-5
    assert (
        max((found[name] - before[name]).abs().max() for name in found if found[name].shape == before[name].shape)
        > 1e-3
    )


@pytest.mark.thorough
@pytest.mark.slow
def test_llama_resumes_where_it_was(chatters, folders, tmp_path):
    """The weights of an uninterrupted run."""
    folder, _ = chatters("llama")
    steps = ["--batch-size", 8, "--micro-batch-size", 4, "--learning-rate", "1e-3", "--overwrite"]
    basics = ["--model", folders("llama"), "--dataset-dir", folder / "data", "--output-dir", tmp_path / "model", *steps]
    run("train.py", *basics, "--max-steps", 2)
    done = run("train.py", *basics, "--max-steps", 3, "--resume")
    assert "resuming from" in done.stderr
    found, expected = (load_file(each / "model.safetensors") for each in (tmp_path / "model", folder / "model"))
    # The first of the two runs had another schedule, so the weights are near, not equal.
    assert max((found[name] - expected[name]).abs().max() for name in found) < 5e-3


@pytest.mark.slow
def test_without_a_learning_rate_the_familys_is_used_and_a_resumed_run_keeps_its_own(folders, tmp_path):
    """Also if the run is from a version with another default."""
    data, output = tmp_path / "data", tmp_path / "model"
    tokenize(folders("qwen2"), tmp_path)
    basics = ["--model", folders("qwen2"), "--dataset-dir", data, "--output-dir", output, "--no-deepspeed"]
    done = run("train.py", *basics, "--max-steps", 1)
    rate = describe_learning_rate(OTHER_LEARNING_RATE, "qwen2", False)
    assert f"\nlearning rate      {rate}\n" in done.stderr
    marker = tmp_path / "model-checkpoints/checkpoint-1/run.json"
    recorded = json.loads(marker.read_text())
    assert recorded["--learning-rate"] == OTHER_LEARNING_RATE
    marker.write_text(json.dumps(recorded | {"--learning-rate": 7e-4}))
    done = run("train.py", *basics, "--max-steps", 2, "--resume")
    assert "\nlearning rate      7e-4" in done.stderr and "--learning-rate was" not in done.stderr
    assert json.loads((output / "metrics.json").read_text())["run"]["--learning-rate"] == 7e-4


@pytest.mark.thorough
def test_another_models_dataset_is_refused(folders, tmp_path):
    (tmp_path / "raw").mkdir()
    write_csv(tmp_path / "raw/a.csv", sample_lines()[:200])
    paths = ["--input-dir", tmp_path / "raw", "--output-dir", tmp_path / "data", "--block-size", 16]
    run("tokenize_logs.py", "--model", folders("qwen2"), *paths)
    error = error_of(
        "train.py", "--model", folders("gpt_neox"), "--dataset-dir", tmp_path / "data", "--output-dir", tmp_path / "m"
    )
    assert "the dataset was tokenized for another model" in error


def test_a_model_that_needs_code_of_its_own_is_refused(folders, tmp_path):
    config = {"model_type": "mystery", "auto_map": {"AutoConfig": "x.Y", "AutoModelForCausalLM": "x.Z"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "x.py").write_text("raise SystemExit('code of the model ran')")
    tokenizer = load_tokenizer(str(ROOT / "models/tiny-gpt2"))
    with pytest.raises(Exception, match=r"the model .* cannot be read"):
        load_model(str(tmp_path), tokenizer, 32)
