"""Fixtures and functions for all tests: run the scripts as a user does, and make small models and chats for them."""

import csv
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies as st
from warm import WarmProcess, run_warm

from chatter.devices import count_gpus
from chatter.files import MANIFEST
from chatter.generation.choose_engine import ENGINES

# `make test` tries the same examples each time, so that only a change can make it fail. `make test-all` draws new ones,
# and more of them. A busy machine may take long over one.
hypothesis.settings.register_profile("same", deadline=None, derandomize=True, max_examples=25)
hypothesis.settings.register_profile("new", deadline=None)
hypothesis.settings.load_profile("same")

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared"  # real logs and GPT-2's vocabulary, on machines that have them
GOLDEN = Path(__file__).parent / "golden"  # logs, and the CSVs that they become
TINY = ROOT / "models/tiny-gpt2"  # a config and a tokenizer, without weights
SCRIPTS = ["parse_logs.py", "tokenize_logs.py", "train.py", "generate.py"]
SPIES = Path(__file__).parent / "spies"  # run a script that they look into, or disturb
# Environment variables of the spies and of launchers, which no library reads while it is imported.
READ_LATER = set("MOMENT WHEN TOKENS GPUS RANK LOCAL_RANK WORLD_SIZE MASTER_ADDR MASTER_PORT".split())
BIN = Path(sys.executable).parent
TORCHRUN = [BIN / "torchrun", "--nproc_per_node", 2]
PAIR = ["two processes"]  # as a launcher of `run`: what torchrun does, on a machine without a GPU and sooner
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"  # the workers share the cores, and torch's threads would wait for each other
os.environ["HF_HUB_OFFLINE"] = "1"  # a test must not wait for the hub if a file is missing

needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="needs real logs and GPT-2's vocabulary in ../shared")

# What people type, as far as a log can hold it: loggers write UTF-8 and end a line at \n or \r\n, and an invisible
# U+E0000 or U+034F at the end is no part of the message.
typed = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n")).map(
    lambda text: text.rstrip("\r\U000e0000\u034f")
)


def pytest_collection_modifyitems(items):
    """Run the fast tests first, and then the longest, so that no worker is left with one of them at the end."""
    items.sort(
        key=lambda item: (
            item.get_closest_marker("slow") is not None,
            "test_pipeline" not in item.nodeid,
            "test_distributed" not in item.nodeid,
        )
    )


def run(script, *args, cwd=ROOT, launcher=(sys.executable,), check=True, stdin="", fresh=False, **env):
    """Run a script in a process of its own. `check` fails the test if the script fails, and shows what it printed.

    The process begins with the libraries imported, unless it is to be `fresh`.
    """
    command = [*map(str, launcher), str(ROOT / script), *map(str, args)]
    is_python = len(launcher) <= 2 and launcher[0] == sys.executable
    if script in SCRIPTS and is_python and not fresh and env.keys() <= READ_LATER and not count_gpus():
        done = run_warm(command[1:], cwd, stdin, env, timeout=600)
    elif launcher == PAIR:
        done = run_pair(command[1:], cwd)
    else:
        env = os.environ | env
        done = subprocess.run(command, cwd=cwd, env=env, input=stdin, capture_output=True, text=True, timeout=600)
    assert not check or done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr[-4000:]}"
    return done


def run_pair(command, cwd):
    """Run a script in two processes, as a launcher does."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        group = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
        group["MASTER_PORT"] = str(probe.getsockname()[1])
    ranks = [os.environ | group | {"RANK": rank, "LOCAL_RANK": rank} for rank in "01"]
    processes = [WarmProcess(command, cwd, "", env) for env in ranks]
    outputs, errors = zip(*(process.communicate(600) for process in processes), strict=True)
    code = max(abs(process.returncode) for process in processes)
    return subprocess.CompletedProcess(command, code, "".join(outputs), "".join(errors))


def error_of(script, *args, **kwargs):
    """Run a script that must fail with an error of the user; return its one line on stderr."""
    done = run(script, *args, check=False, **kwargs)
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    *before, line = done.stderr.splitlines()
    assert "Traceback" not in done.stderr and line.startswith(f"{Path(script).name}: error: "), done.stderr
    plan = "model|train, test|steps|learning rate|training|offloaded|a checkpoint|GPU memory|host memory|faster"
    logged = "no CUDA|compiling|converting|loading DeepSpeed|.* no weights|epoch|    |getting |resuming from |--"
    assert not [text for text in before if not re.match(f"{logged}|({plan})  ", text)], done.stderr
    return line


@pytest.fixture
def script_with(tmp_path):
    """Write a script that does something under plain_errors; return its command."""

    def write(*lines):
        script = tmp_path / "script.py"
        body = "".join(f"    {line}\n" for line in lines)
        imports = "from chatter.cli import InputError, log, plain_errors\n"
        script.write_text(f"{imports}with plain_errors():\n{body}")
        return [sys.executable, script]

    return write


def ended(command, **kwargs):
    """Run a command; return its exit code, its standard output and its standard error."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | kwargs.pop("env", {})
    done = subprocess.run(command, env=environment, capture_output=True, text=True, **kwargs)
    return done.returncode, done.stdout, done.stderr


def start(script, *args, cwd=ROOT, warm=False, **kwargs):
    """Start a script, and return the process while it runs. A `warm` one begins with the libraries imported."""
    command = [sys.executable, *map(str, [ROOT / script, *args])]
    if warm and not count_gpus():
        return WarmProcess(command[1:], cwd, "", dict(os.environ), **kwargs)
    kwargs |= {"stdout": subprocess.PIPE, "text": True} if warm else {}
    return subprocess.Popen(command, cwd=cwd, stderr=subprocess.PIPE, **kwargs)


def wait_for(condition, process):
    """Wait until a condition holds, or fail if the process ends before."""
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.001)


def contents(folder):
    """Return the bytes of all files below a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def without_manifest(names):
    """Return names of files without .chatter.json, the list of files in each folder that a script writes."""
    return {name for name in names if Path(name).name != MANIFEST}


def parse(log, csv_path, filters=None, **options):
    """Parse one log as parse_logs.py does; return its counts, and the places of the first unreadable lines.

    `options` are the options of `find_reader`.
    """
    from chatter.workers import open_workers
    from parse_logs import Options, parse_all

    with open_workers(1, 0, ()) as workers, tempfile.TemporaryDirectory() as scratch:
        results, errors = parse_all({log: csv_path}, Options(filters or {}, **options), workers, Path(scratch))
    for error in errors.values():
        raise error
    return results[log].counts, [f"{log}:{number + 1}" for number in results[log].unreadable]


def python_with(*requirements):
    """Return the Python of an environment with these packages. Skip the test if there is no package index."""
    from bench.environments import python_with

    try:
        return python_with(*requirements)
    except OSError as error:
        pytest.skip(str(error))


def log_line(channel, message, user="u"):
    """Return a line of justlog, without its line break."""
    return f"[2024-03-7 21:05:09] #{channel} {user}: {message}"


def write_csv(path, messages):
    """Write a CSV as parse_logs.py does, with these messages."""
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, quoting=csv.QUOTE_ALL)
        rows.writerow(["date", "time", "channel", "username", "message"])
        rows.writerows(["2024-03-07", "21:05:09", "c", "u", message] for message in messages)


@pytest.fixture(scope="session")
def tokenizer():
    """models/tiny-gpt2's tokenizer, with [PAD]."""
    from chatter.tokens.tokenizer import load_tokenizer

    return load_tokenizer(str(TINY))


@pytest.fixture(scope="session")
def small_model(tmp_path_factory):
    """A folder with a GPT-2 of random weights (2 layers, width 32, 64 positions) and models/tiny-gpt2's tokenizer."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path_factory.mktemp("models") / "small"
    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(ROOT / "models/tiny-gpt2", n_embd=32, n_layer=2, n_head=2, n_positions=64)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(ROOT / "models/tiny-gpt2", model_max_length=64).save_pretrained(folder)
    return folder


def save_chatter(model, tokenizer, folder):
    """Write a model and its tokenizer as train.py does, without the report."""
    from chatter.tokens.chat import ChatFormat
    from chatter.training.metadata import write_metadata

    model.save_pretrained(folder)
    write_metadata(folder, tokenizer, ChatFormat.of(tokenizer, getattr(model.config, "max_position_embeddings", 64)))
    return folder


@pytest.fixture(scope="session")
def random_model(small_model, tmp_path_factory):
    """A folder with a chatter of random weights: no trained model writes worse text."""
    from chatter.generation.choose_engine import load_engine
    from chatter.tokens.tokenizer import load_tokenizer
    from chatter.training.model import load_model

    tokenizer = load_tokenizer(str(small_model))
    model = load_model(str(small_model), tokenizer, 64)
    folder = save_chatter(model, tokenizer, tmp_path_factory.mktemp("models") / "random")
    load_engine(folder, "cpu")  # makes the copy for CTranslate2
    return folder


@pytest.fixture(scope="session")
def parrot(small_model, tmp_path_factory):
    """A folder with a chatter that has learned a chat in which "what is it" follows "ping", and the other way round."""
    import torch

    from chatter.generation.choose_engine import load_engine
    from chatter.tokens.tokenizer import load_tokenizer
    from chatter.training.model import load_model

    tokenizer = load_tokenizer(str(small_model))
    torch.manual_seed(0)
    model = load_model(str(small_model), tokenizer, 64).eval()
    chats = "ping\nwhat is it\n" * 20, "what is it\nping\n" * 20
    batch = torch.tensor([tokenizer("<|endoftext|>" + chat)["input_ids"][:64] for chat in chats])
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(200):
        model(input_ids=batch, labels=batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    folder = save_chatter(model, tokenizer, tmp_path_factory.mktemp("models") / "parrot")
    load_engine(folder, "cpu")  # makes the copy for CTranslate2
    return folder


@pytest.fixture(scope="session", params=ENGINES)
def engine(request, random_model):
    """Each engine, with random weights."""
    from chatter.generation.choose_engine import load_engine

    return load_engine(random_model, "cpu", request.param)


@pytest.fixture(scope="session", params=ENGINES)
def parrot_engine(request, parrot):
    """Each engine, with the model of `parrot`."""
    from chatter.generation.choose_engine import load_engine

    return load_engine(parrot, "cpu", request.param)


@pytest.fixture
def full_disk(request, tmp_path):
    """A folder on a disk of 64 kB, or of the size given as a parameter."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={getattr(request, 'param', '64k')}", "tmpfs", disk], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("needs the right to mount a small tmpfs")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


BLOCK_SIZE = 32
TRAIN_BLOCKS = 24  # one optimizer step takes them all, so that every step has the same batch in whatever order
# Ten steps over a batch that is the whole epoch, two of them of warm-up.
TEN_STEPS = ["--epochs", 10, "--warmup-epochs", 2, "--precision", "fp32"]
# Weights change by some 5e-3 in these steps. Adam divides gradients by their own size, which amplifies rounding.
TOLERANCE = 2e-5


@pytest.fixture(scope="session")
def dataset_dir(tokenizer, tmp_path_factory):
    """A dataset of 24 training and 3 test blocks of 32 tokens, with much and uneven padding."""
    import numpy as np

    from chatter.tokens.dataset import save_dataset, write_data_report
    from chatter.tokens.splits import split_blocks
    from chatter.wording.training_messages import HASHES, hash_messages, write_hashes

    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, tokenizer.eos_token_id, (TRAIN_BLOCKS + 3, BLOCK_SIZE), dtype=np.uint16)
    blocks[:, 0] = tokenizer.eos_token_id
    for block in blocks:
        block[rng.integers(4, BLOCK_SIZE + 1) :] = tokenizer.pad_token_id
    blocks.tofile(folder / "blocks")
    folder /= "tokenized_datasets"
    splits = split_blocks(len(blocks), 3 / len(blocks), 0)
    save_dataset(folder.parent / "blocks", splits, blocks.shape[1], tokenizer, folder)
    tokenizer.save_pretrained(folder / "tokenizer")
    write_hashes(hash_messages(["a message that somebody said"]), folder / HASHES)
    write_data_report(folder, {"block size": BLOCK_SIZE, "messages": 12345})
    return folder


@pytest.fixture(scope="session")
def train(small_model, dataset_dir, tmp_path_factory):
    """Return a function that runs train.py on the small model; it returns the model's folder and what stderr said."""

    def run_train(*args, launcher=(sys.executable,), **env):
        folder = tmp_path_factory.mktemp("trained") / "model"
        basics = ["--model", small_model, "--dataset-dir", dataset_dir, "--output-dir", folder]
        done = run("train.py", *basics, *TEN_STEPS, *args, launcher=launcher, **env)
        assert done.stdout == "" or BIN / "deepspeed" in launcher  # which prints much
        return folder, done.stderr

    return run_train


@pytest.fixture(scope="session")
def train_once(train, tmp_path_factory):
    """Return `train` for a run that tests share: pytest-xdist's workers, with fixtures of their own, make it once."""
    from filelock import FileLock

    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent

    def run_once(name, *args, **kwargs):
        trained = shared / f"{name}.json"
        with FileLock(shared / f"{name}.lock"):
            if not trained.exists():
                folder, errors = train(*args, **kwargs)
                trained.write_text(json.dumps([str(folder), errors]))
        folder, errors = json.loads(trained.read_text())
        return Path(folder), errors

    return run_once


@pytest.fixture(scope="session")
def zero3(train_once):
    """The small model after ten steps of train.py by default: ZeRO-3 with CPU offload, 3 micro-batches of 8 a step."""
    return train_once("zero3")


@pytest.fixture(scope="session")
def half_precision(train_once, tmp_path_factory):
    """Return a function that trains in fp16 or bf16, with a loss scale that is too large for the first steps in fp16.

    DeepSpeed refuses fp16 on CPUs where it is slow; the spy lifts that check and nothing else.
    """
    config = json.loads((ROOT / "ds_config.json").read_text())
    config["fp16"] |= {"initial_scale_power": 20, "hysteresis": 1}
    path = tmp_path_factory.mktemp("config") / "ds_config.json"
    path.write_text(json.dumps(config))

    def run_half(precision):
        args = ["--precision", precision, "--deepspeed", path, "--report-to", "tensorboard"]
        return train_once(precision, *args, launcher=[sys.executable, SPIES / "fp16_on_cpu.py"])

    return run_half


@pytest.fixture(scope="session")
def plain_loop(small_model, dataset_dir, tokenizer):
    """The model after the same ten steps in plain PyTorch, with one batch of 24 and a mask, and the mean loss."""
    import torch
    from datasets import DatasetDict
    from torch.nn.functional import cross_entropy
    from transformers import set_seed

    from chatter.training.model import load_model

    set_seed(42)
    model = load_model(str(small_model), tokenizer, BLOCK_SIZE)
    batch = DatasetDict.load_from_disk(dataset_dir)["train"].with_format("torch")[:]
    ids, mask = batch["input_ids"].long(), batch["attention_mask"].long()
    assert len(ids) == TRAIN_BLOCKS
    losses = []
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0)
    warmed_up = [0.5, 1, 1, *(left / 8 for left in range(7, -1, -1))]  # the share of the learning rate for each step
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, warmed_up.__getitem__)
    for _ in range(10):
        logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1]
        labels = ids[:, 1:].masked_fill(mask[:, 1:] == 0, -100)
        loss = cross_entropy(logits.reshape(-1, logits.shape[-1]), labels.reshape(-1))
        losses.append(loss.item())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return model, sum(losses) / len(losses)


def placement_and_settings_of(args, num_blocks, checkpoints=Path("checkpoints")):
    """Return the placement and the TrainingArguments of train.py's options, for so many blocks and a tiny model."""
    from transformers import GPT2Config, GPT2LMHeadModel

    from chatter.training.placement import choose_placement
    from chatter.training.settings import choose_precision, count_steps, default_learning_rate, training_arguments
    from chatter.training.zero import complete_config, read_config

    model = GPT2LMHeadModel(GPT2Config(vocab_size=50, n_positions=BLOCK_SIZE, n_embd=8, n_layer=1, n_head=1))
    precision = choose_precision(args)
    config = None if args.no_deepspeed else read_config(args.deepspeed)
    placement = choose_placement(args, model, BLOCK_SIZE, precision != "fp32", config)
    config = config and complete_config(config, model, placement.mode)
    steps = count_steps(num_blocks, args.batch_size)
    args.learning_rate = args.learning_rate or default_learning_rate(model.config.model_type, args.lora_rank)
    return placement, training_arguments(args, placement, config, steps, checkpoints, precision)


def settings_of(args, num_blocks, checkpoints=Path("checkpoints")):
    """Return the TrainingArguments of train.py's options, for so many blocks and a tiny model."""
    return placement_and_settings_of(args, num_blocks, checkpoints)[1]


def largest_difference(model, folder):
    """Return the largest difference of any weight between a model and a saved one."""
    import torch
    from transformers import AutoModelForCausalLM

    weights = dict(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).named_parameters())
    assert weights.keys() == dict(model.named_parameters()).keys()
    return max((weight - weights[name]).abs().max().item() for name, weight in model.named_parameters())


def read_history(folder, key):
    """Return the values of `key` that the Trainer logged until the last of ten checkpoints, in order."""
    state = json.loads(Path(f"{folder}-checkpoints", "checkpoint-10/trainer_state.json").read_text())
    return [entry[key] for entry in state["log_history"] if key in entry]


def assert_equals_plain_loop(trained, plain_loop):
    """Assert that train.py and the plain loop came to the same weights, with the same mean loss over the ten steps."""
    (folder, _), (model, mean_loss) = trained, plain_loop
    assert (
        largest_difference(model, f"{folder}-checkpoints/checkpoint-10") < TOLERANCE
    )  # the best may be an earlier one
    assert read_history(folder, "loss") == [pytest.approx(mean_loss, rel=1e-5)]


def loss_of(model, dataset_dir, tokenizer):
    """Return the mean loss over all tokens of the test blocks, by transformers alone in float32."""
    import torch
    from datasets import DatasetDict
    from transformers import AutoModelForCausalLM

    from chatter.training.loss import collate

    if isinstance(model, Path):
        model = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    test = DatasetDict.load_from_disk(dataset_dir)["test"].with_format("numpy")
    with torch.no_grad():
        return model.eval()(**collate(list(test), tokenizer.pad_token_id)).loss.item()


def assert_the_best_is_saved(folder, dataset_dir, tokenizer):
    """The blocks are random, so that the test loss rises while the model learns the training blocks by heart."""
    metrics = json.loads((folder / "metrics.json").read_text())
    losses = {entry["step"]: entry["eval_loss"] for entry in metrics["history"] if "eval_loss" in entry}
    del losses[0]  # before training
    assert metrics["best"]["eval_loss"] == min(losses.values()) < losses[max(losses)]
    assert loss_of(folder, dataset_dir, tokenizer) == pytest.approx(min(losses.values()), abs=2e-6)


# The description of a run, and its test losses before training and at each checkpoint.
RUN = {"--seed": 42, "--lora-rank": 0, "--model": "gpt2", "--epochs": 3.0, "--max-steps": None, "--learning-rate": 1e-3}
LOSSES = {0: 0.5, 6: 3.0, 9: 2.0, 12: 2.5, 15: 1.0}
# Files of a checkpoint, apart from those of train.py and the Trainer's state.
CHECKPOINT_FILES = ["model.safetensors", "scheduler.pt", "global_step/optim_states.pt"]


@pytest.fixture
def checkpoints(tmp_path):
    """A folder with the complete checkpoints 6, 9 and 12, and the incomplete one 15."""
    from chatter.training.checkpoints import STATE, mark_complete

    folder = tmp_path / "model-checkpoints"
    for step in (6, 9, 12, 15):
        checkpoint = folder / f"checkpoint-{step}"
        for name in CHECKPOINT_FILES:
            (checkpoint / name).parent.mkdir(parents=True, exist_ok=True)
            (checkpoint / name).write_bytes(bytes(step))
        history = [{"step": at, "epoch": at / 3, "eval_loss": LOSSES[at]} for at in LOSSES if at <= step]
        (checkpoint / STATE).write_text(json.dumps({"global_step": step, "log_history": history}))
        if step < 15:
            mark_complete(checkpoint, RUN, None)
    (folder / MANIFEST).write_text('{"files": []}')
    return folder
