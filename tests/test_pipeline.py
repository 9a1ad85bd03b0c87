"""The whole way from logs to a message, by the four commands, as a user types them."""

import json
import math
import re
import shutil
import subprocess
import sys
from importlib.metadata import distributions

import nbformat
import numpy as np
import pytest
import torch
from conftest import ROOT, SHARED, run
from datasets import DatasetDict
from nbclient import NotebookClient
from packaging.specifiers import SpecifierSet
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2TokenizerFast

from generate import load
from tokenize_logs import encode

SCRIPTS = ["parse_logs.py", "tokenize_logs.py", "train.py", "generate.py"]


def unigram_perplexity(dataset):
    """Perplexity on the test tokens of a model that knows how frequent each token is in training, and nothing else."""
    train, test = (
        np.concatenate([ids[1:] for ids in dataset[name].with_format("numpy")["input_ids"]]) for name in dataset
    )
    pad = max(train.max(), test.max())  # the last id of the vocabulary
    train, test = train[train != pad], test[test != pad]
    counts = np.bincount(train, minlength=pad) + 1
    return math.exp(-np.log(counts / counts.sum())[test].mean())


@pytest.mark.slow
def test_four_commands_with_no_option(tmp_path):
    """In a folder of its own, with a small model in a folder called gpt2-medium in place of the hub's."""
    for name in [*SCRIPTS, "ds_config.json"]:
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "data/logs").mkdir(parents=True)
    for log in (ROOT / "data/sample_logs").glob("*-2024-03-07.txt"):
        shutil.copy(log, tmp_path / "data/logs")
    model = tmp_path / "gpt2-medium"
    AutoTokenizer.from_pretrained(ROOT / "models/tiny-gpt2", model_max_length=1024).save_pretrained(model)
    config = GPT2Config.from_pretrained(ROOT / "models/tiny-gpt2", n_layer=2, n_embd=64, n_positions=1024)
    AutoModelForCausalLM.from_config(config).save_pretrained(model)

    outputs = [
        subprocess.run([sys.executable, script, *args], cwd=tmp_path, capture_output=True, text=True)
        for script, args in zip(SCRIPTS, [[], [], [], ["hello chat"]], strict=True)
    ]
    assert [done.returncode for done in outputs] == [0] * 4, [done.stderr for done in outputs]
    assert [len(done.stdout.splitlines()) for done in outputs] == [0, 0, 0, 1]

    made = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if "__pycache__" not in path.parts}
    assert {f"data/raw/{channel}-2024-03-07.csv" for channel in ("pixelpanda_tv", "speedy_sora")} < made
    assert {"data/tokenized_datasets/train", "data/tokenized_datasets/test"} < made
    assert "models/gpt2-twitch-chatter/model.safetensors" in made
    assert {path.name for path in (tmp_path / "data").iterdir()} == {"logs", "raw", "tokenized_datasets"}
    names = {path.name for path in (tmp_path / "data/tokenized_datasets").iterdir()}
    assert names == {"README.md", "dataset_dict.json", "train", "test", "tokenizer"}
    names = {path.name for path in (tmp_path / "models").iterdir()}
    assert names == {"gpt2-twitch-chatter", "gpt2-twitch-chatter-checkpoints"}
    config = GPT2Config.from_pretrained(tmp_path / "models/gpt2-twitch-chatter")
    assert (config.vocab_size, config.n_positions, config.n_layer) == (1537, 512, 2)


@pytest.mark.slow
def test_the_sample_teaches_more_than_frequencies(tmp_path):
    """What `make demo` does, in fewer steps: the test perplexity falls far below a unigram model's."""
    run("parse_logs.py", "--logs-dir", ROOT / "data/sample_logs", "--output-dir", tmp_path / "raw")
    model = ["--model", ROOT / "models/tiny-gpt2"]
    dataset_dir = tmp_path / "dataset"
    run("tokenize_logs.py", "--input-dir", tmp_path / "raw", "--output-dir", dataset_dir, *model, "--block-size", 128)
    arguments = ["--micro-batch-size", 24, "--learning-rate", "3e-3", "--max-steps", 80]
    done = run("train.py", "--dataset-dir", dataset_dir, *model, "--output-dir", tmp_path / "chatter", *arguments)
    perplexity = float(re.findall(r"perplexity ([0-9.]+)", done.stderr)[-1])
    assert perplexity < unigram_perplexity(DatasetDict.load_from_disk(dataset_dir)) / 10
    said = run("generate.py", "what game is this?", "--model", tmp_path / "chatter", "-n", 50, "--seed", 1).stdout
    known = set("".join(path.read_text() for path in (tmp_path / "raw").iterdir()).replace(",", " ").split())
    words = said.split()
    assert sum(word in known for word in words) > 0.8 * len(words)
    top_1, divergence = compare_engines(tmp_path / "chatter", DatasetDict.load_from_disk(dataset_dir)["test"])
    assert top_1 > 0.999 and divergence < 1e-8


def compare_engines(folder, blocks):
    """How often both engines have the same likeliest next token, and the mean Kullback-Leibler divergence in nats."""
    reference, fast = (load(folder, "cpu", engine) for engine in ("transformers", "ctranslate2"))
    same, divergences = [], []
    for ids in blocks["input_ids"][:50]:
        ids = [token for token in ids if token != reference.pad]
        with torch.no_grad():
            wanted = reference.model(torch.tensor([ids])).logits[0].log_softmax(-1)
        scores = fast.generator.forward_batch([fast.tokens(ids)], return_log_probs=True)
        found = torch.from_numpy(np.array(scores)[0])
        same.append(wanted.argmax(-1) == found.argmax(-1))
        divergences.append((wanted.exp() * (wanted - found)).sum(-1))
    return torch.cat(same).float().mean().item(), torch.cat(divergences).mean().item()


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="needs real logs and GPT-2's vocabulary in ../shared")
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
    run(
        "train.py",
        "--dataset-dir",
        tmp_path / "dataset",
        "--model",
        model,
        "--output-dir",
        tmp_path / "out",
        "--max-steps",
        2,
    )
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out").get_input_embeddings().weight.shape == (50258, 32)
    assert len(run("generate.py", "hello chat", "--model", tmp_path / "out", "-n", 2).stdout.splitlines()) == 2


def test_help_is_quick_to_come_and_ends_with_commands():
    for script in SCRIPTS:
        done = run(script, "--help")
        commands = done.stdout.rstrip().rsplit("\n\n", 1)[1].splitlines()
        assert len(commands) >= 3
        assert all(line.startswith("    ") and script in line for line in commands)
    code = "import sys, parse_logs, tokenize_logs, train, generate; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True).stdout.split()
    assert "generate" in loaded
    assert not {"torch", "transformers", "datasets", "deepspeed", "pyarrow", "numpy", "pandas", "polars"} & set(loaded)


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
    """From top to bottom in a copy of the project, with a quarter of the chat and fewer steps of training."""
    for name in [*SCRIPTS, "ds_config.json", "models/tiny-gpt2"]:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        (tmp_path / name).parent.mkdir(exist_ok=True)
        copy(ROOT / name, tmp_path / name)
    (tmp_path / "data/sample_logs").mkdir(parents=True)
    for log in (ROOT / "data/sample_logs").glob("*-2024-03-07.txt"):
        shutil.copy(log, tmp_path / "data/sample_logs")
    notebook = nbformat.read(ROOT / "notebook.ipynb", as_version=4)
    assert "MAX_STEPS = 240 " in notebook.cells[1].source
    notebook.cells[1].source = notebook.cells[1].source.replace("MAX_STEPS = 240 ", "MAX_STEPS = 40 ")
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


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs GPT-2's vocabulary in ../shared")
def test_the_notebook_counts_gpt2s_tokens_right():
    notebook = nbformat.read(ROOT / "notebook.ipynb", as_version=4)
    [cell] = [cell.source for cell in notebook.cells if "\nGPT2 = " in cell.source]
    variables = {}
    exec(cell.split("\n\n")[0], variables)
    words = variables["GPT2"]
    tokenizer = GPT2TokenizerFast.from_pretrained(SHARED / "gpt2-tokenizer")
    assert dict(zip(words, map(len, encode(tokenizer, list(words))), strict=True)) == words
