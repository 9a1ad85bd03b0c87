"""train.py: what DeepSpeed trains is the pretrained model, and what it saves is what it reported."""

import json
import math
import shutil
import signal
import sys
from pathlib import Path

import pytest
import torch
from conftest import (
    BLOCK_SIZE,
    ROOT,
    TEN_STEPS,
    TOLERANCE,
    assert_equals_plain_loop,
    error_of,
    largest_difference,
    read_history,
    run,
    start,
    wait_for,
)
from datasets import DatasetDict
from huggingface_hub import ModelCard
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, set_seed

from chatter.command import InputError
from chatter.loss import collate
from chatter.models import load_model
from train import load_blocks, parse_args, training_arguments


def test_defaults(tmp_path, monkeypatch):
    """With no option: the settings that the README states."""
    monkeypatch.setattr(sys, "argv", ["train.py", "--no-deepspeed", "--output-dir", str(tmp_path / "m")])
    args = parse_args()
    assert (args.model, args.dataset_dir) == ("gpt2-medium", Path("data/tokenized_datasets"))
    settings = training_arguments(args, num_train_blocks=2400)
    assert settings.gradient_accumulation_steps * settings.per_device_train_batch_size == 24
    assert settings.per_device_train_batch_size == 8
    assert (settings.optim, settings.learning_rate, settings.max_steps) == ("adamw_torch", 1e-3, 3 * 100)
    assert (settings.lr_scheduler_type, settings.warmup_steps) == ("linear", 10)
    assert (settings.save_strategy, settings.eval_strategy) == ("epoch", "epoch")


def test_zero3_with_cpu_offload_is_the_default():
    zero = json.loads((ROOT / "ds_config.json").read_text())["zero_optimization"]
    assert (zero["stage"], zero["offload_param"]["device"], zero["offload_optimizer"]["device"]) == (3, "cpu", "cpu")


@pytest.fixture
def pretrained(small_model, tokenizer):
    """The model before training."""
    set_seed(42)
    return load_model(str(small_model), tokenizer, BLOCK_SIZE)


def loss_of(model, dataset_dir, tokenizer):
    """Return the mean loss over all tokens of the test blocks, by transformers alone in float32."""
    if isinstance(model, Path):
        model = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    test = DatasetDict.load_from_disk(dataset_dir)["test"].with_format("numpy")
    with torch.no_grad():
        return model.eval()(**collate(list(test), tokenizer.pad_token_id)).loss.item()


@pytest.mark.slow
def test_zero3_equals_a_plain_loop(zero3, plain_loop, pretrained):
    assert largest_difference(pretrained, zero3[0]) > 100 * TOLERANCE
    assert_equals_plain_loop(zero3, plain_loop)


@pytest.mark.slow
def test_the_first_reported_loss_is_that_of_the_pretrained_model(zero3, pretrained, dataset_dir, tokenizer):
    reported = read_history(zero3[0], "eval_loss")
    assert len(reported) == 11  # before training and after each epoch
    assert reported[0] == pytest.approx(loss_of(pretrained, dataset_dir, tokenizer), abs=1e-4)


@pytest.mark.slow
def test_the_last_reported_loss_is_that_of_the_saved_model(zero3, dataset_dir, tokenizer):
    reported = read_history(zero3[0], "eval_loss")
    assert loss_of(zero3[0], dataset_dir, tokenizer) == pytest.approx(reported[-1], abs=2e-6)


@pytest.mark.slow
def test_what_is_saved(zero3):
    assert sorted(path.name for path in zero3[0].iterdir()) == [
        "README.md",
        "config.json",
        "generation_config.json",
        "learning_curve.png",
        "metrics.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]


@pytest.mark.slow
def test_the_saved_model_is_ready_for_chat(zero3, tokenizer):
    model = AutoModelForCausalLM.from_pretrained(zero3[0])
    assert model.config.n_positions == BLOCK_SIZE and model.get_input_embeddings().weight.shape[0] == len(tokenizer)
    assert model.lm_head.weight is model.transformer.wte.weight
    assert model.generation_config.eos_token_id == [*tokenizer.encode("\n"), tokenizer.eos_token_id]


@pytest.mark.slow
def test_the_saved_tokenizer_is_that_of_the_dataset(zero3, tokenizer):
    saved = AutoTokenizer.from_pretrained(zero3[0])
    assert saved.get_vocab() == tokenizer.get_vocab() and saved.pad_token == "[PAD]"


@pytest.mark.slow
def test_the_saved_metrics_are_the_reported_ones(zero3, dataset_dir):
    metrics = json.loads((zero3[0] / "metrics.json").read_text())
    reported = read_history(zero3[0], "eval_loss")
    assert [entry["eval_loss"] for entry in metrics["history"] if "eval_loss" in entry] == reported
    assert metrics["run"] == json.loads(Path(f"{zero3[0]}-checkpoints/checkpoint-10/run.json").read_text())
    assert metrics["data"] == json.loads((dataset_dir / "summary.json").read_text())


@pytest.mark.slow
def test_the_saved_card_shows_what_was_reported(zero3):
    card = ModelCard.load(zero3[0] / "README.md")
    assert card.data.pipeline_tag == "text-generation" and card.data.base_model is None  # it was a folder
    before, *_, after = map(math.exp, read_history(zero3[0], "eval_loss"))
    assert f"test perplexity was {before:.2f} before training and is\n{after:.2f} now" in card.text
    *_, samples = read_history(zero3[0], "samples")
    assert samples and all(f"    {text}\n" in card.text for text in samples)
    assert "| --batch-size | 24 |" in card.text and "| messages | 12,345 |" in card.text
    assert (zero3[0] / "learning_curve.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_each_epoch_has_a_checkpoint(zero3):
    checkpoints = Path(f"{zero3[0]}-checkpoints")
    assert {path.name for path in checkpoints.iterdir()} == {f"checkpoint-{n}" for n in range(1, 11)}


@pytest.fixture
def trained_before(zero3, tmp_path):
    """A copy of a trained model and its checkpoints."""
    shutil.copytree(f"{zero3[0]}-checkpoints", tmp_path / "model-checkpoints")
    return shutil.copytree(zero3[0], tmp_path / "model")


@pytest.mark.slow
def test_a_model_is_not_replaced_silently(trained_before, small_model, dataset_dir):
    basics = ["--model", small_model, "--dataset-dir", dataset_dir, "--output-dir", trained_before]
    assert f"{trained_before} already exists. Pass another --output-dir, or" in error_of("train.py", *basics)
    assert (trained_before / "model.safetensors").exists()


@pytest.mark.slow
def test_checkpoints_are_not_replaced_silently(trained_before, small_model, dataset_dir):
    shutil.rmtree(trained_before)
    checkpoints = Path(f"{trained_before}-checkpoints")
    basics = ["--model", small_model, "--dataset-dir", dataset_dir, "--output-dir", trained_before]
    assert f"{checkpoints} already exists. Pass --resume to continue" in error_of("train.py", *basics)
    assert len(list(checkpoints.iterdir())) == 10


@pytest.mark.slow
def test_overwrite_replaces_a_model_and_its_checkpoints(trained_before, small_model, dataset_dir):
    basics = ["--model", small_model, "--dataset-dir", dataset_dir, "--output-dir", trained_before]
    before = (trained_before / "model.safetensors").read_bytes()
    run("train.py", *basics, "--overwrite", "--max-steps", 2)
    checkpoints = Path(f"{trained_before}-checkpoints")
    assert sorted(path.name for path in checkpoints.iterdir()) == ["checkpoint-1", "checkpoint-2"]
    assert (trained_before / "model.safetensors").read_bytes() != before


@pytest.mark.slow
def test_a_second_run_on_the_same_output_is_refused(plain_loop, small_model, dataset_dir, tmp_path):
    """Even with --overwrite; the first goes on and ends right, with nothing else left behind."""
    folder, checkpoints = tmp_path / "model", tmp_path / "model-checkpoints"
    args = ["--model", small_model, "--dataset-dir", dataset_dir, "--output-dir", folder, *TEN_STEPS]
    first = start("train.py", *args, text=True)
    wait_for((checkpoints / "checkpoint-1/run.json").exists, first)
    first.send_signal(signal.SIGSTOP)  # so that it cannot end before the second begins
    try:
        second = error_of("train.py", *args, "--overwrite")
    finally:
        first.send_signal(signal.SIGCONT)
    assert second.startswith(f"train.py: error: {folder} is in use by another run. ")
    errors = first.communicate()[1]
    assert first.returncode == 0, errors
    assert_equals_plain_loop((folder, errors), plain_loop)
    assert {path.name for path in tmp_path.iterdir()} == {"model", "model-checkpoints"}


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_starts_from_the_same_model(half_precision, zero3, precision):
    [start, *_], [expected, *_] = (
        read_history(folder, "eval_loss") for folder, _ in (half_precision(precision), zero3)
    )
    assert start == pytest.approx(expected, abs=2e-2)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_trains_and_saves_what_it_reported(half_precision, dataset_dir, tokenizer, precision):
    folder, _ = half_precision(precision)
    reported = read_history(folder, "eval_loss")
    assert len(set(reported)) > 3
    assert AutoConfig.from_pretrained(folder).dtype == {"bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    assert loss_of(folder, dataset_dir, tokenizer) == pytest.approx(reported[-1], abs=2e-2)


@pytest.mark.slow
def test_report_to_tensorboard(half_precision):
    folder, _ = half_precision("bf16")
    assert list(Path(f"{folder}-checkpoints/runs").rglob("events.out.tfevents.*"))


@pytest.mark.parametrize("name", ["cut", "no test", "no tokenizer", "empty"])
def test_an_incomplete_dataset_is_refused(dataset_dir, tmp_path, name):
    folder = shutil.copytree(dataset_dir, tmp_path / name)
    if name == "cut":
        [arrow] = (folder / "train").glob("*.arrow")
        arrow.write_bytes(arrow.read_bytes()[:-1000])
    else:
        shutil.rmtree(folder / ("tokenizer" if name == "no tokenizer" else "test"))
    if name == "empty":
        DatasetDict.load_from_disk(dataset_dir)["test"].select([]).save_to_disk(folder / "test")
    with pytest.raises(InputError, match=rf"{name} is not a complete dataset\. Run tokenize_logs\.py first"):
        load_blocks(folder)


@pytest.mark.parametrize(("name", "content"), [("dataset_dict.json", '{"splits": []}'), ("train/state.json", "[]")])
def test_a_damaged_dataset_is_refused(dataset_dir, tmp_path, name, content):
    """Whatever the readers make of a flipped bit, it is an error that says what to do."""
    folder = shutil.copytree(dataset_dir, tmp_path / "dataset")
    load_blocks(folder)
    (folder / name).write_text(content)
    with pytest.raises(InputError, match="is not a complete dataset"):
        load_blocks(folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("args", "error"),
    [
        (["--dataset-dir", "{tmp_path}/nowhere"], "{tmp_path}/nowhere is not a complete dataset"),
        (["--model", "no/such-model"], "no model 'no/such-model' found"),
        (["--micro-batch-size", "5"], "--batch-size 24 is not a multiple of --micro-batch-size 5"),
        (["--deepspeed", "nothing.json"], "No such file or directory: 'nothing.json'"),
        (["--deepspeed", "{tmp_path}/file.json"], "{tmp_path}/file.json is not valid JSON"),
        (["--output-dir", "{tmp_path}/file.json/model"], "{tmp_path}/file.json"),
        (["--output-dir", "{tmp_path}", "--overwrite"], "{tmp_path} contains other files that would be deleted"),
    ],
    ids=["dataset", "model", "batch", "no config", "config", "output is in a file", "output has other files"],
)
def test_an_error_is_one_line_and_leaves_nothing(small_model, dataset_dir, tmp_path, args, error):
    (tmp_path / "file.json").write_text("{")
    basics = ["--dataset-dir", dataset_dir, "--model", small_model, "--output-dir", tmp_path / "model"]
    line = error_of("train.py", *basics, *(arg.format(tmp_path=tmp_path) for arg in args))
    assert error.format(tmp_path=tmp_path) in line
    assert [path.name for path in tmp_path.iterdir()] == ["file.json"]


@pytest.mark.slow
@pytest.mark.parametrize("full_disk", ["1200k", "2m"], indirect=True)  # in the first checkpoint, in the second
def test_full_disk(small_model, dataset_dir, full_disk):
    basics = ["--model", small_model, "--dataset-dir", dataset_dir, "--output-dir", full_disk / "model"]
    assert "No space left on device" in error_of("train.py", *basics)
    left = {path.name for path in full_disk.glob("*/*")}
    assert left == ({"checkpoint-1"} if shutil.disk_usage(full_disk).total > 1_500_000 else set())


@pytest.mark.slow
@pytest.mark.parametrize("full_disk", ["400k"], indirect=True)
def test_a_disk_without_room_for_a_checkpoint(small_model, dataset_dir, full_disk):
    """Which is noticed before training."""
    basics = ["--model", small_model, "--dataset-dir", dataset_dir, "--output-dir", full_disk / "model"]
    error = error_of("train.py", *basics)
    assert "a checkpoint takes about " in error and f" are free in {full_disk}. Free some space, or" in error
    assert list(full_disk.iterdir()) == []
