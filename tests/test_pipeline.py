"""The whole way from logs to a message, by the four commands, as a user types them."""

import json
import math
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import distributions

import nbformat
import numpy as np
import pytest
import torch
from conftest import ROOT, SCRIPTS, SHARED, TINY, error_of, needs_shared, run
from datasets import DatasetDict
from filelock import FileLock
from nbclient import NotebookClient
from packaging.specifiers import SpecifierSet
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2TokenizerFast

from chatter.files import MANIFEST
from chatter.generation.choose_engine import load_engine
from chatter.tokens.chat import encode

PROJECT = [*SCRIPTS, "chatter", "ds_config.json"]  # all that the four commands need


def copy_of_project(folder, *more):
    """Copy what the commands need, and more, to a folder; and a tenth of the sample chat to data/sample_logs."""
    for name in [*PROJECT, *more]:
        (folder / name).parent.mkdir(exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder / name)
    (folder / "data/sample_logs").mkdir(parents=True)
    for log in (ROOT / "data/sample_logs").glob("*-2024-03-07.txt"):
        lines = log.read_bytes().splitlines(keepends=True)
        (folder / "data/sample_logs" / log.name).write_bytes(b"".join(lines[:1500]))


def unigram_perplexity(dataset):
    """Perplexity on the test tokens of a model that knows how frequent each token is in training, and nothing else."""
    train, test = (
        np.concatenate([ids[1:] for ids in dataset[name].with_format("numpy")["input_ids"]]) for name in dataset
    )
    pad = max(train.max(), test.max())  # the last id of the vocabulary
    train, test = train[train != pad], test[test != pad]
    counts = np.bincount(train, minlength=pad) + 1
    return math.exp(-np.log(counts / counts.sum())[test].mean())


def make_once(tmp_path_factory, name, make):
    """Return a folder, and what `make(folder)` returned, which pytest-xdist's workers call once for all of them."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder, result = shared / name, shared / f"{name}.json"
    with FileLock(shared / f"{name}.lock"):
        if not result.exists():
            folder.mkdir()
            result.write_text(json.dumps(make(folder)))
    return folder, json.loads(result.read_text())


def run_four_commands(folder):
    """Run the four commands with no option; return exit code, standard output and standard error of each."""
    copy_of_project(folder)
    (folder / "data/sample_logs").rename(folder / "data/logs")
    model = folder / "gpt2-medium"  # a small one, in place of the hub's
    AutoTokenizer.from_pretrained(TINY, model_max_length=1024).save_pretrained(model)
    config = GPT2Config.from_pretrained(TINY, n_layer=2, n_embd=64, n_positions=1024)
    AutoModelForCausalLM.from_config(config).save_pretrained(model)
    commands = [[script] for script in SCRIPTS[:3]] + [[SCRIPTS[3], "hello chat"]]
    ended = [
        subprocess.run([sys.executable, *command], cwd=folder, capture_output=True, text=True) for command in commands
    ]
    return [[done.returncode, done.stdout, done.stderr] for done in ended]


@pytest.fixture(scope="module")
def four_commands(tmp_path_factory):
    return make_once(tmp_path_factory, "four_commands", run_four_commands)


@pytest.mark.slow
def test_four_commands_with_no_option(four_commands):
    """Only the last one prints something on stdout: a message."""
    exit_codes, outputs, errors = zip(*four_commands[1], strict=True)
    assert exit_codes == (0, 0, 0, 0), errors
    assert [len(output.splitlines()) for output in outputs] == [0, 0, 0, 1]


@pytest.mark.slow
def test_files_of_the_four_commands(four_commands):
    """One command reads what the one before has written; no lock, scratch or partial file is left."""

    def names(*path):
        return {path.name for path in folder.joinpath(*path).iterdir()}

    folder, _ = four_commands
    assert names() - {"__pycache__"} == {*PROJECT, "data", "gpt2-medium", "models"}
    assert names("data") == {"logs", "raw", "tokenized_datasets"}
    assert names("data/raw") - {MANIFEST} == {
        f"{channel}-2024-03-07.csv" for channel in ("kobold_kitchen", "pixelpanda_tv", "speedy_sora")
    }
    assert names("data/tokenized_datasets") == {
        MANIFEST,
        "README.md",
        "dataset_dict.json",
        "said.u64",
        "summary.json",
        "test",
        "tokenizer",
        "train",
    }
    assert names("models") == {"gpt2-twitch-chatter", "gpt2-twitch-chatter-checkpoints"}
    assert {
        "README.md",
        "chat_format.json",
        "config.json",
        "learning_curve.png",
        "metrics.json",
        "model.safetensors",
        "said.u64",
        "tokenizer.json",
    } < names("models/gpt2-twitch-chatter")


@pytest.mark.slow
def test_the_model_of_the_four_commands(four_commands):
    config = GPT2Config.from_pretrained(four_commands[0] / "models/gpt2-twitch-chatter")
    assert (config.vocab_size, config.n_positions, config.n_layer) == (1537, 512, 2)


def run_demo(folder):
    """Do what `make demo` does up to the model, in fewer steps; return what train.py said."""
    run("parse_logs.py", "--logs-dir", ROOT / "data/sample_logs", "--output-dir", folder / "raw")
    dataset_dir = folder / "dataset"
    options = ["--output-dir", dataset_dir, "--model", TINY, "--block-size", 128, "--test-size", 0.05]
    run("tokenize_logs.py", "--input-dir", folder / "raw", *options)
    options = ["--output-dir", folder / "model", "--micro-batch-size", 24, "--learning-rate", "3e-3", "--max-steps", 60]
    return run("train.py", "--dataset-dir", dataset_dir, "--model", TINY, *options).stderr


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    return make_once(tmp_path_factory, "demo", run_demo)


@pytest.mark.slow
def test_the_sample_teaches_more_than_frequencies(demo):
    """The test perplexity falls far below a unigram model's."""
    folder, errors = demo
    perplexity = float(re.findall(r"perplexity ([0-9.]+)", errors)[-1])
    assert perplexity < unigram_perplexity(DatasetDict.load_from_disk(folder / "dataset")) / 10


@pytest.mark.slow
def test_what_it_writes_is_mostly_words_of_the_sample(demo):
    said = run("generate.py", "what game is this?", "--model", demo[0] / "model", "-n", 50, "--seed", 1).stdout
    known = set("".join(path.read_text() for path in (demo[0] / "raw").iterdir()).replace(",", " ").split())
    words = said.split()
    assert sum(word in known for word in words) > 0.8 * len(words)


@pytest.mark.slow
def test_both_engines_compute_the_same(demo):
    top_1, divergence = compare_engines(demo[0] / "model", DatasetDict.load_from_disk(demo[0] / "dataset")["test"])
    assert top_1 > 0.999 and divergence < 1e-8


def compare_engines(folder, blocks):
    """How often both engines have the same likeliest next token, and the mean Kullback-Leibler divergence in nats."""
    reference, fast = (load_engine(folder, "cpu", engine) for engine in ("transformers", "ctranslate2"))
    same, divergences = [], []
    for ids in blocks["input_ids"][:50]:
        ids = [token for token in ids if token != reference.format.pad]
        with torch.no_grad():
            wanted = reference.model(torch.tensor([ids])).logits[0].log_softmax(-1)
        scores = fast.model.forward_batch([fast.tokens(ids)], return_log_probs=True)
        found = torch.from_numpy(np.array(scores)[0])
        same.append(wanted.argmax(-1) == found.argmax(-1))
        divergences.append((wanted.exp() * (wanted - found)).sum(-1))
    return torch.cat(same).float().mean().item(), torch.cat(divergences).mean().item()


@pytest.mark.thorough
@needs_shared
def test_real_chat_with_the_real_vocabulary(tmp_path):
    """A part of the real logs, and a random small GPT-2 of 50,258 tokens."""
    logs = tmp_path / "logs"
    logs.mkdir()
    for name in ["noanoelle-2026-08-01.txt", "handongsuk-2021-06-16.txt", "xqcow-2019-09-15.txt"]:
        lines = (SHARED / "chat/justlog" / name).read_bytes().splitlines(keepends=True)
        (logs / name).write_bytes(b"".join(lines[:800]))
    model = tmp_path / "gpt2"
    GPT2TokenizerFast.from_pretrained(SHARED / "gpt2-tokenizer").save_pretrained(model)
    GPT2Config(n_layer=2, n_embd=32, n_head=2).save_pretrained(model)

    run("parse_logs.py", "--logs-dir", logs, "--output-dir", tmp_path / "raw")
    run("tokenize_logs.py", "--input-dir", tmp_path / "raw", "--output-dir", tmp_path / "dataset", "--model", model)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "dataset/tokenizer")
    assert (len(tokenizer), tokenizer.pad_token_id) == (50258, 50257)
    options = ["--model", model, "--output-dir", tmp_path / "out", "--max-steps", 2, "--batch-size", 8]
    run("train.py", "--dataset-dir", tmp_path / "dataset", *options)
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out").get_input_embeddings().weight.shape == (50258, 32)
    assert len(run("generate.py", "hello chat", "--model", tmp_path / "out", "-n", 2).stdout.splitlines()) == 2


@pytest.mark.slow
def test_a_dataset_without_hashes_and_a_summary_is_enough_to_train(zero3, dataset_dir, tmp_path):
    """As somebody makes one by hand. Its model has no --no-copies, and a folder without a manifest is not replaced."""
    dataset = shutil.copytree(dataset_dir, tmp_path / "dataset")
    for name in ("said.u64", "summary.json"):
        (dataset / name).unlink()
    options = ["--dataset-dir", dataset, "--model", zero3[0], "--max-steps", 1, "--no-deepspeed"]
    done = run("train.py", *options, "--output-dir", tmp_path / "next")
    assert f"{dataset} has no said.u64: generate.py --no-copies will not work with the new model" in done.stderr
    assert len(run("generate.py", "hello chat", "--model", tmp_path / "next").stdout.splitlines()) == 1
    assert "has no said.u64" in error_of("generate.py", "--model", tmp_path / "next", "--no-copies")
    (tmp_path / "next" / MANIFEST).unlink()
    error = error_of("train.py", *options, "--output-dir", tmp_path / "next", "--overwrite")
    assert "contains other files that would be deleted" in error


def test_the_packages_take_debians_python():
    """Debian 12's 3.11.2, where a later 3.11 is what some packages want."""
    for package in distributions():
        assert "3.11.2" in SpecifierSet(package.metadata.get("Requires-Python", "")), package.name


def test_the_committed_sample_is_what_its_generator_writes(tmp_path):
    run("data/make_sample_logs.py", "--output-dir", tmp_path)
    committed = {path.name: path.read_bytes() for path in (ROOT / "data/sample_logs").iterdir()}
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == committed


@pytest.mark.slow
def test_the_notebook_runs(tmp_path):
    """From top to bottom in a copy of the project, with a tenth of the chat and fewer steps of training."""
    copy_of_project(tmp_path, "models/tiny-gpt2", "bench")
    notebook = nbformat.read(ROOT / "notebook.ipynb", as_version=4)
    assert "MAX_STEPS = 480 " in notebook.cells[1].source
    notebook.cells[1].source = notebook.cells[1].source.replace("MAX_STEPS = 480 ", "MAX_STEPS = 40 ")
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": tmp_path}}).execute()
    assert figures_of(notebook)


def figures_of(notebook):
    """The PNGs of a notebook in base64; each cell that shows a figure must have one."""
    figures = []
    for cell in notebook.cells:
        if "plt.show()" in cell.source:
            found = [output.data["image/png"] for output in cell.outputs if "image/png" in output.get("data", {})]
            assert len(found) == 1, cell.source
            figures += found
    return figures


def test_the_committed_notebook_reads_well():
    """It has all its outputs, in order, from one run of the cells as they stand, and nothing that distracts."""
    notebook = nbformat.read(ROOT / "notebook.ipynb", as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == [*range(1, len(code) + 1)]
    assert max(len(cell.source.splitlines()) for cell in code) <= 30
    assert len(figures_of(notebook)) >= 12
    outputs = json.dumps([cell.outputs for cell in code])
    assert len(outputs) < 3e6
    assert not re.search(r"/home/|/root|/tmp|/work|site-packages|[Ww]arning|it/s|\\r|\\u001b", outputs)


@needs_shared
def test_the_notebook_counts_gpt2s_tokens_right():
    notebook = nbformat.read(ROOT / "notebook.ipynb", as_version=4)
    [cell] = [cell.source for cell in notebook.cells if "\nGPT2 = " in cell.source]
    variables = {}
    exec(cell.split("\n\n")[0], variables)
    words = variables["GPT2"]
    tokenizer = GPT2TokenizerFast.from_pretrained(SHARED / "gpt2-tokenizer")
    assert dict(zip(words, map(len, encode(tokenizer, list(words))), strict=True)) == words
