"""Advice in the messages of train.py: whoever follows it reaches the goal, a saved model of as many steps as asked for.

The runs are of one to three steps with the plain Trainer, except where the advice is about DeepSpeed.
"""

import json
import os
import shlex
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path

import pytest
from advice import Case, follow, move, parameters, rows, warm, write
from conftest import ROOT
from datasets import DatasetDict
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from chatter.tokens.chat import FORMAT_FILE
from chatter.tokens.dataset import DATA_SUMMARY
from chatter.training.checkpoints import STATE
from chatter.wording.training_messages import HASHES

# A part of each message whose advice no test here follows, and what that would need, or the test that does.
UNTESTED = {
    "has no weights as safetensors": "a network",
    "is not installed. Run pip install deepspeed": "tests/test_train.py",
    "--compile does not work with DeepSpeed": "tests/test_train.py, where compiling takes a while",
    "Pass --resume to continue from there": "tests/training/test_resume.py, with a signal",
    "Move it away to continue from the checkpoint before it": "tests/training/test_resume.py",
    "Put the earlier ones back": "tests/test_train.py, where the base is replaced during the training",
    "needs tensorboard": "pip",
    "Run pip install torch==": "pip",
    "are free in": "a full disk, and tests/test_train.py",
    "NCCL needs more shared memory": "a GPU",
    "CUDA is out of memory outside": "a GPU",
    "out of host memory": "a machine with little memory",
    "is in use or cannot be reached": "below, with a port that is in use",
    "has no bf16": "a GPU",
    "To train on the CPU": "a GPU",
    "of this machine has no GPU": "several GPUs",
    "hides the GPU from torch": "a GPU",
    "Update NVIDIA's driver": "a GPU",
    "to use all: deepspeed": "several GPUs",
    "too much. Pass a lower": "a GPU",
    "too much. Pass": "a machine with little memory",
    "with another DeepSpeed config": "tests/training/test_resume.py, where the same one is taken",
    "with --no-deepspeed. Pass it": "tests/training/test_resume.py, where the same one is taken",
    "its own base model. Choose": "tests/training/test_outputs.py",
    "which train.py cannot do": "tests/training/test_placement.py",
    "It is now called": "tests/training/test_checkpoints.py; there is nothing to do",
}
MANY = [f"message {number} as people write it" for number in range(20)]
TOKENIZE = "tokenize_logs.py --input-dir raw --output-dir data --block-size 32 --model small"
SHARDED = "train.py --model small --dataset-dir data --device cpu --max-steps 1 --output-dir new"
TRAIN = f"{SHARDED} --no-deepspeed"
# The runs whose outputs the folder has.
DONE = TRAIN.replace("--max-steps 1 --output-dir new", "--epochs 2 --output-dir model")
ADAPTED = TRAIN.replace("--model small", "--model base").replace("new", "adapted") + " --lora-rank 2"
HALF = f"tests/spies/fp16_on_cpu.py {ROOT / SHARDED} --precision fp16 --deepspeed own.json"
CONFIG = json.loads((ROOT / "ds_config.json").read_text())
OVERFLOWING = CONFIG | {"fp16": CONFIG["fp16"] | {"initial_scale_power": 30, "min_loss_scale": 2**30, "hysteresis": 1}}


def config(**changes):
    """Return the text of a DeepSpeed config."""
    return json.dumps(CONFIG | changes)


def tokenized(options=""):
    return lambda: warm(f"{TOKENIZE} {options}")


def copy(old, new):
    return lambda: shutil.copy(old, new)


def ignore():
    """Do nothing."""


def without(folder):
    return lambda: shutil.rmtree(folder)


def cut(path, size=100):
    """Return a function that leaves only the first bytes of a file."""
    return lambda: os.truncate(path, size)


@dataclass
class Training(Case):
    """A message of train.py."""

    steps: int = 1  # of the run whose model is saved in the end


def damage_blocks():
    """Write a dataset without input_ids, as somebody might who makes one by hand."""
    blocks = DatasetDict.load_from_disk("data").rename_column("input_ids", "tokens")
    blocks.save_to_disk("other")
    shutil.copytree("data/tokenizer", "other/tokenizer")


def forget_padding():
    path = Path("data/tokenizer/tokenizer_config.json")
    values = json.loads(path.read_text())
    path.write_text(json.dumps({name: value for name, value in values.items() if name != "pad_token"}))


def drop_weight():
    weights = load_file("base/model.safetensors")
    del weights["transformer.h.1.mlp.c_fc.weight"]
    save_file(weights, "base/model.safetensors", {"format": "pt"})


def double_weights():
    weights = load_file("base/model.safetensors")
    save_file({name: 2 * weight for name, weight in weights.items()}, "base/model.safetensors", {"format": "pt"})


def add_word():
    """Give the model `base` a tokenizer of one more token."""
    tokenizer = AutoTokenizer.from_pretrained("base")
    tokenizer.add_tokens(["Kappa123"])
    tokenizer.save_pretrained("base")
    path = Path("base/config.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"vocab_size": len(tokenizer)}))
    Path("base/model.safetensors").unlink()  # random weights will do


def make_model(name, family):
    """Return a function that writes a model of another family, without weights, with the tokenizer of `small`."""

    def make():
        shutil.copytree("small", name)
        Path(name, "model.safetensors").unlink()
        size = json.loads(Path("small/config.json").read_text())["vocab_size"]
        Path(name, "config.json").write_text(json.dumps(family | {"vocab_size": size}))

    return make


def forget_evaluations():
    """Leave no test loss in the checkpoints, whose files keep their sizes."""
    for path in Path("model-checkpoints").glob(f"*/{STATE}"):
        state = json.dumps(json.loads(path.read_text()) | {"log_history": []})
        path.write_text(state.ljust(path.stat().st_size))


BERT = {"model_type": "bert", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
SUMMARY, SAID = f"data/{DATA_SUMMARY}", f"data/{HASHES}"
EXISTS = "already exists. Pass --resume with more --epochs to train it further, another --output-dir, or --overwrite"
EXISTS_LONGER = EXISTS.replace("more --epochs", "a higher --max-steps")
CHECKPOINTS_EXIST = "already exists. Pass --resume to continue from it, or --overwrite"
NO_CHECKPOINT = "no complete checkpoint to resume from"
OTHER_RUN = "was not saved by the run of"
OTHER_OPTION = "Use the same, or start again with --overwrite instead of --resume"
FEWER = "has 2 steps already, but the options ask for 1. Pass"
OTHER_FILES = "contains other files that would be deleted, such as notes.txt. Move them away, or choose another"
OTHER_CHECKPOINTS = "new-checkpoints contains other files. Move them away, or choose another"
LOWER_RATE = "the loss is nan. Pass --resume with a lower --learning-rate"
OTHER_BASE = "Pass a folder with the earlier weights as --model, or start again with --overwrite instead of --resume"
CASES = [
    # what exists already
    Training(EXISTS, DONE, {}, f"{DONE} --epochs 3 --resume", steps=3),
    Training(EXISTS, DONE, {}, DONE.replace("--output-dir model", "--output-dir other"), steps=2, thorough=True),
    Training(EXISTS, DONE, {}, f"{DONE} --overwrite", steps=2, thorough=True),
    Training(EXISTS_LONGER, f"{DONE} --max-steps 2", {}, f"{DONE} --max-steps 3 --resume", steps=3),
    Training(CHECKPOINTS_EXIST, DONE, {}, f"{DONE} --resume", prepare=without("model"), steps=2),
    Training(CHECKPOINTS_EXIST, DONE, {}, f"{DONE} --overwrite", prepare=without("model"), steps=2, thorough=True),
    Training(
        NO_CHECKPOINT,
        f"{DONE} --resume",
        {},
        f"{DONE} --resume --output-dir other",
        prepare=without("model-checkpoints"),
        steps=2,
        thorough=True,
    ),
    Training(
        NO_CHECKPOINT, f"{DONE} --resume", {}, f"{DONE} --overwrite", prepare=without("model-checkpoints"), steps=2
    ),
    Training(OTHER_RUN, f"{DONE} --resume", {"model/metrics.json": "{}"}, do=move("model", "elsewhere/model"), steps=2),
    Training(
        OTHER_RUN,
        f"{DONE} --resume",
        {"model/metrics.json": "{}"},
        f"{DONE} --resume --overwrite",
        steps=2,
        thorough=True,
    ),
    Training(OTHER_FILES, TRAIN, {"new/notes.txt": "mine"}, do=move("new", "mine/new")),
    Training(OTHER_FILES, TRAIN, {"new/notes.txt": "mine"}, f"{TRAIN} --output-dir other", thorough=True),
    Training(
        OTHER_FILES,
        f"{DONE} --overwrite",
        {"model/notes.txt": "mine"},
        do=move("model/notes.txt", "notes"),
        steps=2,
        thorough=True,
    ),
    Training("new is a file, not a folder. Choose another", TRAIN, {"new": ""}, f"{TRAIN} --output-dir other"),
    *(
        Training(
            OTHER_CHECKPOINTS,
            f"{TRAIN} {option}",
            {"new-checkpoints/thesis.txt": "mine"},
            then,
            do,
            thorough=bool(option),
        )
        for option in ("", "--resume", "--overwrite")
        for then, do in ((None, move("new-checkpoints", "mine/thesis")), (f"{TRAIN} --output-dir other", ignore))
        if option == "" or then is None
    ),
    Training(
        "is a file, not a folder. Move it away",
        TRAIN,
        {"new-checkpoints": ""},
        do=move("new-checkpoints", "away/new"),
    ),
    Training("contains the working directory. Choose another", TRAIN.replace("new", "."), {}, TRAIN),
    Training(
        "which a run with --lora-rank needs until it is finished",
        f"{ADAPTED} --model model --output-dir model --overwrite",
        {},
        f"{ADAPTED} --model model --output-dir other",
    ),
    # resuming
    Training(
        "saving its model again. Pass more --epochs to train further",
        f"{DONE} --resume",
        {},
        f"{DONE} --resume --epochs 3",
        code=0,
        steps=3,
    ),
    Training(
        "saving its model again. Pass a higher --max-steps to train further",
        f"{DONE} --resume --max-steps 2",
        {},
        f"{DONE} --resume --max-steps 3",
        code=0,
        steps=3,
        thorough=True,
    ),
    Training(f"{FEWER} more --epochs", f"{DONE} --resume --epochs 1", {}, f"{DONE} --resume --epochs 3", steps=3),
    Training(
        f"{FEWER} a higher --max-steps",
        f"{DONE} --resume --max-steps 1",
        {},
        f"{DONE} --resume --max-steps 3",
        steps=3,
        thorough=True,
    ),
    Training(
        f"{FEWER} more --epochs", f"{DONE} --resume --epochs 1", {}, f"{DONE} --overwrite --epochs 1", thorough=True
    ),
    Training(OTHER_OPTION, f"{DONE} --resume --seed 1", {}, f"{DONE} --resume --seed 42", steps=2),
    Training(OTHER_OPTION, f"{DONE} --resume --seed 1", {}, f"{DONE} --overwrite --seed 1", steps=2, thorough=True),
    Training(OTHER_OPTION, f"{DONE} --resume --precision bf16", {}, f"{DONE} --resume --precision fp32", steps=2),
    Training(
        OTHER_BASE,
        f"{ADAPTED} --resume",
        {},
        f"{ADAPTED} --resume --model small",
        prepare=double_weights,
    ),
    Training(OTHER_BASE, f"{ADAPTED} --resume", {}, f"{ADAPTED} --overwrite", prepare=double_weights, thorough=True),
    Training(
        "Start again with --overwrite, without --resume",
        f"{DONE} --resume",
        {},
        f"{DONE} --overwrite",
        prepare=forget_evaluations,
        steps=2,
    ),
    Training(
        LOWER_RATE,
        f"{DONE} --resume --epochs 3 --learning-rate 1e30",
        {},
        f"{DONE} --resume --epochs 3 --learning-rate 1e-4",
        steps=3,
    ),
    Training(
        f"{LOWER_RATE}, or start again with --overwrite and --precision fp32",
        f"{TRAIN} --max-steps 2 --learning-rate 1e30 --precision bf16",
        {},
        f"{TRAIN} --max-steps 2 --overwrite --precision fp32",
        steps=2,
    ),
    Training(
        "start again with --overwrite and --precision fp32 (or bf16, if the device has it)",
        HALF,
        {"own.json": json.dumps(OVERFLOWING)},
        f"{HALF} --overwrite --precision bf16",
    ),
    # the dataset
    Training(
        "nowhere is not a complete dataset. Run tokenize_logs.py first",
        f"{TRAIN} --dataset-dir nowhere",
        {},
        do=tokenized("--output-dir nowhere"),
    ),
    Training("or pass another folder with --dataset-dir", f"{TRAIN} --dataset-dir nowhere", {}, TRAIN, thorough=True),
    Training(
        "lacks a token for padding, beginning or end. Run tokenize_logs.py again",
        TRAIN,
        {},
        do=tokenized(),
        prepare=forget_padding,
    ),
    Training(
        "has no column input_ids. Run tokenize_logs.py to write a valid one",
        f"{TRAIN} --dataset-dir other",
        {},
        f"{TRAIN} --dataset-dir valid",
        tokenized("--output-dir valid"),
        prepare=damage_blocks,
    ),
    *(
        Training("Run tokenize_logs.py again, or delete the file", TRAIN, {SUMMARY: "{"}, do=do, thorough=thorough)
        for do, thorough in ((tokenized(), False), (lambda: os.remove(SUMMARY), True))
    ),
    *(
        Training(
            "Run tokenize_logs.py and train.py --overwrite, or delete the file and do without",
            TRAIN,
            {SAID: "x"},
            f"{TRAIN} --overwrite",
            do,
            thorough=thorough,
        )
        for do, thorough in ((tokenized(), False), (lambda: os.remove(SAID), True))
    ),
    # the model
    Training(
        "cannot generate text. Choose a causal language model",
        f"{TRAIN} --model vit",
        {"vit/config.json": '{"model_type": "vit"}'},
        TRAIN,
    ),
    Training("Choose another model", f"{TRAIN} --model bert", {}, TRAIN, prepare=make_model("bert", BERT)),
    *(
        Training(
            "Copy them again, or choose another model",
            f"{TRAIN} --model base",
            {},
            then,
            do,
            prepare=drop_weight,
            thorough=then is not None,
        )
        for then, do in ((None, copy("small/model.safetensors", "base")), (TRAIN, ignore))
    ),
    Training(
        "Its folder needs the config.json of a causal language model",
        f"{TRAIN} --model base",
        {"base/config.json": None},
        do=copy("small/config.json", "base"),
    ),
    Training(
        "and weights as safetensors",
        f"{TRAIN} --model base",
        {},
        do=copy("small/model.safetensors", "base"),
        prepare=cut("base/model.safetensors"),
    ),
    Training(
        "the tokenizer of base cannot be read",
        f"{TRAIN} --model base",
        {"base/tokenizer.json": "{"},
        do=copy("small/tokenizer.json", "base"),
    ),
    Training(
        "Run tokenize_logs.py with a smaller --block-size",
        f"{TRAIN} --model short",
        {},
        do=tokenized("--block-size 16"),
        prepare=make_model("short", {"model_type": "gpt2", "n_positions": 16, "n_embd": 8, "n_layer": 1, "n_head": 1}),
    ),
    Training(
        "Run tokenize_logs.py with --model base",
        f"{TRAIN} --model base",
        {},
        do=tokenized("--model base"),
        prepare=add_word,
    ),
    Training("no model '/models/none': there is no folder", f"{TRAIN} --model /models/none", {}, TRAIN),
    Training(
        "Write this model again with train.py --overwrite",
        f"{TRAIN} --model model --dataset-dir channels",
        {f"model/{FORMAT_FILE}": "{"},
        do=lambda: warm(f"{DONE} --overwrite"),
        prepare=tokenized("--output-dir channels --with-channel"),
    ),
    # the device, the batch and DeepSpeed
    Training("no CUDA GPU found. Pass --device cpu", f"{TRAIN} --device cuda", {}, TRAIN),
    Training("Pass --precision bf16 or fp32", f"{TRAIN} --precision fp16", {}, f"{TRAIN} --precision bf16"),
    Training(
        "Pass --precision bf16 or fp32", f"{TRAIN} --precision fp16", {}, f"{TRAIN} --precision fp32", thorough=True
    ),
    Training(
        "out of GPU memory. Pass a lower --micro-batch-size (--batch-size can stay the same)",
        f"tests/spies/out_of_memory.py {ROOT / TRAIN} --micro-batch-size 8",
        {},
        f"tests/spies/out_of_memory.py {ROOT / TRAIN} --micro-batch-size 4",
        env={"TOKENS": str(4 * 32)},
    ),
    Training("Change one of them", f"{TRAIN} --micro-batch-size 5", {}, f"{TRAIN} --micro-batch-size 6"),
    Training(
        "Change one of them",
        f"{TRAIN} --micro-batch-size 5",
        {},
        f"{TRAIN} --micro-batch-size 5 --batch-size 25",
        thorough=True,
    ),
    Training("Leave out --offload or --no-deepspeed", f"{TRAIN} --offload", {}, TRAIN, thorough=True),
    Training("Leave out --offload or --no-deepspeed", f"{TRAIN} --offload", {}, f"{SHARDED} --offload"),
    Training(
        "own.json does not offload. Leave out --offload",
        f"{SHARDED} --deepspeed own.json --offload",
        {"own.json": config(zero_optimization={"stage": 3})},
        f"{SHARDED} --deepspeed own.json",
    ),
    Training(
        "Start from ds_config.json, or pass --no-deepspeed",
        f"{SHARDED} --deepspeed own.json",
        {"own.json": "{}"},
        do=copy(ROOT / "ds_config.json", "own.json"),
    ),
    Training(
        "Start from ds_config.json, or pass --no-deepspeed",
        f"{SHARDED} --deepspeed own.json",
        {"own.json": "{}"},
        f"{SHARDED} --deepspeed own.json --no-deepspeed",
        thorough=True,
    ),
    Training(  # in DeepSpeed's own words
        "set these DeepSpeed config values to 'auto'",
        f"{SHARDED} --deepspeed own.json",
        {"own.json": config(train_batch_size=16)},
        do=write("own.json", config(train_batch_size="auto")),
    ),
]


@pytest.fixture(scope="module")
def trained(small_model, tmp_path_factory):
    """A folder with two equal models, a dataset, a finished run of two steps, and one of adapters."""
    folder = tmp_path_factory.mktemp("advice") / "trained"
    for name in ("small", "base"):
        shutil.copytree(small_model, folder / name)
    (folder / "raw").mkdir()
    (folder / "raw/a.csv").write_text(rows(*MANY))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for command in (TOKENIZE, DONE, ADAPTED):
            done = warm(command)
            assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def folder(trained, tmp_path, monkeypatch):
    """A copy of `trained`; the working directory."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def saved_steps(command):
    """Return the number of steps of the run whose model a command saved."""
    args = shlex.split(command)
    model = Path(args[len(args) - args[::-1].index("--output-dir")])
    assert load_file(model / "model.safetensors")
    return json.loads((model / "metrics.json").read_text())["history"][-1]["step"]


@pytest.mark.slow
@pytest.mark.parametrize("case", parameters(CASES), ids=lambda case: case.says)
def test_whoever_follows_the_advice_reaches_the_goal(case, folder):
    follow(case)
    assert saved_steps(case.then or case.command) == case.steps


@pytest.mark.slow
def test_another_port(folder):
    """Both launchers set MASTER_PORT to what they get as --master_port."""
    group = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = warm(SHARDED, **group, MASTER_PORT=port)
        advice = "is in use or cannot be reached. Pass another --master_port to the launcher."
        assert done.returncode == 1 and done.stderr.endswith(f"port {port} of 127.0.0.1 {advice}\n")
        assert not [*folder.glob("new*")]
        with socket.create_server(("127.0.0.1", 0)) as probe:
            other = str(probe.getsockname()[1])
        done = warm(SHARDED, **group, MASTER_PORT=other)
    assert done.returncode == 0 and saved_steps(SHARDED) == 1
