"""chatter.training.callbacks: what a run says, and when it stops."""

import json
import math
import re
import time
from types import SimpleNamespace

import pytest
import torch
from conftest import BLOCK_SIZE, error_of, read_history
from transformers import TrainerControl, TrainerState

from chatter.tokens.chat import ChatFormat
from chatter.training.callbacks import Evaluations, Progress, sample_messages
from chatter.training.model import load_model


@pytest.fixture(scope="module")
def model(small_model, tokenizer):
    return load_model(str(small_model), tokenizer, BLOCK_SIZE)


@pytest.fixture
def progress(tokenizer):
    shape = SimpleNamespace(shape=None)
    run = SimpleNamespace(args=SimpleNamespace(batch_size=2), placement=shape, opening_header="", message_folders=[])
    run.chat_format, run.precision = ChatFormat.of(tokenizer, BLOCK_SIZE), "fp32"
    return Progress(run, steps_per_evaluation=1000)


def test_only_the_first_process_has_a_bar(progress, monkeypatch):
    """On a terminal, which all processes of a launcher share."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setattr("chatter.training.callbacks.flops_utilization", lambda *args: None)
    args = SimpleNamespace(world_size=2, fp16=False, bf16=False, learning_rate=1e-3)
    state = TrainerState(global_step=10, max_steps=20, is_world_process_zero=False)
    progress.on_train_begin(args, state, None)
    progress.on_log(args, state, None, logs={"loss": 1.0, "learning_rate": 1e-3})


def test_evaluations_do_not_count_as_steps(progress, capsys, monkeypatch):
    """One that takes 100 s, between ten steps that take a moment each."""
    monkeypatch.setattr("chatter.training.callbacks.sample_messages", lambda *args: [])
    args = SimpleNamespace(world_size=1, fp16=False, bf16=False, seed=1)
    state = TrainerState(global_step=1, max_steps=1000, log_history=[{}])
    progress.first, progress.prediction_bar = (1, time.perf_counter() - 100), None
    metrics = {"eval_loss": 1.0, "eval_bits_per_byte": 1.0, "eval_runtime": 100.0}
    progress.on_evaluate(args, state, None, metrics, model=None, processing_class=None)
    state.global_step = 11
    progress.log_time_left(state)
    assert "about 2 minutes left, 2 minutes of it evaluations" in capsys.readouterr().err


def test_a_resumed_run_knows_how_long_an_evaluation_takes(progress, capsys):
    history = [{"step": 10, "eval_loss": 1.0, "eval_runtime": 100.0}]
    args, state = SimpleNamespace(), TrainerState(global_step=10, max_steps=1010, log_history=history)
    progress.on_train_begin(args, state, None)
    progress.first, state.global_step = (11, time.perf_counter()), 20
    progress.log_time_left(state)
    assert ", 2 minutes of it evaluations" in capsys.readouterr().err


def test_a_run_that_an_evaluation_ends_within_an_epoch_is_not_evaluated_again():
    """The Trainer ends the epoch, too, and would evaluate there."""
    evaluations, control = Evaluations(every=2, steps_per_epoch=10, patience=1), TrainerControl()
    history = [{"step": step, "eval_loss": float(step)} for step in (0, 2, 4)]
    state = TrainerState(global_step=4, max_steps=30, log_history=history)
    evaluations.on_evaluate(None, state, control)
    assert control.should_training_stop
    for step, is_evaluated in ((4, False), (5, True)):
        state.global_step, control.should_evaluate = step, True
        evaluations.on_epoch_end(None, state, control)
        assert control.should_evaluate == is_evaluated


def test_samples_are_visible_lines(model, tokenizer):
    samples = sample_messages(model, tokenizer, ChatFormat.of(tokenizer, BLOCK_SIZE), seed=42)
    assert 1 <= len(samples) <= 3 and all(text.isprintable() and text.strip() for text in samples)


def test_samples_depend_on_the_seed_alone(model, tokenizer):
    torch.manual_seed(1)
    samples = sample_messages(model, tokenizer, ChatFormat.of(tokenizer, BLOCK_SIZE), seed=42)
    torch.manual_seed(2)
    assert sample_messages(model, tokenizer, ChatFormat.of(tokenizer, BLOCK_SIZE), seed=42) == samples
    assert sample_messages(model, tokenizer, ChatFormat.of(tokenizer, BLOCK_SIZE), seed=43) != samples


def test_sampling_leaves_the_random_generators_as_they_were(model, tokenizer):
    """Otherwise a run that evaluates more often would train otherwise."""
    before = torch.get_rng_state()
    sample_messages(model, tokenizer, ChatFormat.of(tokenizer, BLOCK_SIZE), seed=42)
    assert torch.equal(torch.get_rng_state(), before)


def test_sampling_forks_the_generator_of_one_gpu(model, tokenizer, monkeypatch):
    """Of several, the one in use: PyTorch would warn, and fork all. No GPU is at hand: its answers are replaced."""
    forked, fork = [], torch.random.fork_rng
    monkeypatch.setattr(torch.random, "fork_rng", lambda devices: forked.append(devices) or fork([]))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    sample_messages(model, tokenizer, ChatFormat.of(tokenizer, BLOCK_SIZE), seed=42)
    assert forked == [[1]]


@pytest.mark.slow
def test_each_evaluation_shows_samples(zero3):
    """On stderr, and in the log that becomes metrics.json."""
    folder, errors = zero3
    history = json.loads((folder / "metrics.json").read_text())["history"]
    samples = [entry["samples"] for entry in history if "samples" in entry]
    assert len(samples) == 11
    assert all(text and "\n" not in text and f"    chat: {text}\n" in errors for texts in samples for text in texts)


@pytest.mark.slow
def test_each_evaluation_logs_a_line(zero3):
    """Before training and after each epoch."""
    folder, errors = zero3
    losses, bits = read_history(folder, "eval_loss"), read_history(folder, "eval_bits_per_byte")
    assert [line for line in errors.splitlines() if line.startswith("epoch ")] == [
        f"epoch {epoch:.2f}: test loss {loss:.4f}, perplexity {math.exp(loss):.2f}, {bits[epoch]:.3f} bits per byte"
        for epoch, loss in enumerate(losses)
    ]


@pytest.mark.slow
def test_each_ten_steps_log_a_line(zero3):
    folder, errors = zero3
    [loss] = read_history(folder, "loss")
    [line] = [line for line in errors.splitlines() if line.startswith("step ")]
    assert re.fullmatch(rf"step 10 of 10: loss {loss:.3f}, lr \d\.\de-\d\d, tokens/s [\d,]+", line)


@pytest.mark.slow
def test_a_loss_that_is_not_a_number_stops_the_run(small_model, dataset_dir, tmp_path):
    """Before it is saved."""
    basics = ["--model", small_model, "--dataset-dir", dataset_dir, "--output-dir", tmp_path / "model"]
    error = error_of("train.py", *basics, "--learning-rate", "1e30", "--batch-size", 8)
    assert "the loss is nan. Pass --resume with a lower --learning-rate" in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_an_overflow_in_fp16_is_logged(half_precision):
    """Each step that is skipped, until the loss scale is low enough."""
    _, errors = half_precision("fp16")
    skipped = re.findall(
        r"^step (\d+): overflow in fp16, weights not updated until the loss scale is low enough$", errors, re.M
    )
    assert 1 <= len(skipped) < 8 and skipped == [str(step) for step in range(1, len(skipped) + 1)]


@pytest.mark.slow
def test_bf16_does_not_overflow(half_precision):
    assert "overflow" not in half_precision("bf16")[1]
