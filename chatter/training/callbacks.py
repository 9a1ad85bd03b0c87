"""The Trainer's callbacks: progress, samples, checkpoints, early stopping, signals, learning rates."""

from __future__ import annotations

import math
import signal
import sys
import time
from collections.abc import Container
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import distributed
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    ProgressCallback,
    TrainerCallback,
    TrainerState,
)

from chatter.cli import log, stop_signals
from chatter.generation.engine import Sampling
from chatter.generation.transformers_engine import TransformersEngine
from chatter.tokens.chat import ChatFormat, decode_message, encode_chat
from chatter.training.checkpoints import evaluations, mark_complete
from chatter.training.loss import check_finite, perplexity
from chatter.training.run import TrainingRun
from chatter.training.speed import describe_seconds, flops_utilization
from chatter.wording.training_messages import TrainingMessages

NUM_SAMPLES, NUM_SAMPLED = 3, 12  # messages to show; to sample if training messages are left out


class Progress(ProgressCallback):
    """The Trainer's progress bar with loss and speed, or log lines if stderr is not a terminal.

    It logs once how long the rest of the run will take, and raises InputError if the loss is NaN or infinite.
    """

    def __init__(self, run: TrainingRun, steps_per_evaluation: int) -> None:
        super().__init__()
        self.batch_size, self.shape, self.format = run.args.batch_size, run.placement.shape, run.chat_format
        self.steps_per_evaluation, self.header = steps_per_evaluation, run.opening_header
        self.precision = run.precision
        self.training_messages = TrainingMessages.open(*run.message_folders) if run.message_folders else ()
        self.evaluation_seconds = 0.0
        self.first: tuple[int, float] | None = None  # this run's first step and when it ended, until they are used

    def on_train_begin(self, args, state, control, **kwargs):
        super().on_train_begin(args, state, control, **kwargs)
        self.seen = state.global_step, time.perf_counter()
        self.begun = state.global_step
        for entry in evaluations(state.log_history):  # of a run that is resumed: as long as its last evaluation
            self.evaluation_seconds = entry["eval_runtime"]

    def on_step_end(self, args, state, control, **kwargs):
        super().on_step_end(args, state, control, **kwargs)
        if state.global_step == self.begun + 1:  # slower than the others: kernels are chosen or compiled
            self.first = state.global_step, time.perf_counter()
        if args.fp16 and getattr(kwargs["optimizer"], "step_was_skipped", False):
            log(f"step {state.global_step}: overflow in fp16, weights not updated until the loss scale is low enough")

    def on_log(self, args, state, control, logs=None, **kwargs):
        if "loss" not in logs:
            return
        (step, then), self.seen = self.seen, (state.global_step, time.perf_counter())
        block_size = self.format.block_size
        speed = (self.seen[0] - step) * self.batch_size * block_size / (self.seen[1] - then)
        now = {"loss": f"{logs['loss']:.3f}", "lr": f"{logs['learning_rate']:.1e}", "tokens/s": f"{speed:,.0f}"}
        if utilization := flops_utilization(speed, self.shape, block_size, args.world_size):
            now["MFU"] = f"{utilization:.2f}"
        if self.training_bar and sys.stderr.isatty():  # only the first process has a bar
            self.training_bar.set_postfix(now)
        else:
            log(f"step {state.global_step} of {state.max_steps}: {', '.join(f'{k} {v}' for k, v in now.items())}")
        check_finite(logs["loss"], self.precision)
        if self.first and state.global_step > self.first[0] and state.global_step < state.max_steps:
            self.log_time_left(state)

    def log_time_left(self, state: TrainerState) -> None:
        """Log how long the rest of the run will take, estimated from the steps so far and the last evaluation."""
        (first, then), self.first = self.first, None
        steps = state.max_steps - state.global_step
        training = steps * (time.perf_counter() - then) / (state.global_step - first)
        evaluating = math.ceil(steps / self.steps_per_evaluation) * self.evaluation_seconds
        log(f"about {describe_seconds(training + evaluating)} left, {describe_seconds(evaluating)} of it evaluations")

    def on_evaluate(self, args, state, control, metrics, **kwargs):
        super().on_evaluate(args, state, control, **kwargs)
        started = time.perf_counter()
        loss = metrics["eval_loss"]
        check_finite(loss, self.precision)
        bits = metrics["eval_bits_per_byte"]
        log(
            f"epoch {state.epoch or 0:.2f}: test loss {loss:.4f}, perplexity {perplexity(loss):.2f}, "
            f"{'unknown' if bits is None else f'{bits:.3f}'} bits per byte"
        )
        seed, tokenizer = args.seed, kwargs["processing_class"]
        samples = sample_messages(kwargs["model"], tokenizer, self.format, seed, self.header, self.training_messages)
        state.log_history[-1]["samples"] = samples
        log("\n".join(f"    chat: {text}" for text in samples) or "    (nothing new that is visible)")
        self.seen = state.global_step, time.perf_counter()
        self.evaluation_seconds = metrics["eval_runtime"] + self.seen[1] - started
        if self.first:  # an evaluation between the steps that are timed
            self.first = self.first[0], self.first[1] + self.evaluation_seconds


def sample_messages(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    chat_format: ChatFormat,
    seed: int,
    header: str = "",
    training_messages: Container[str] = (),
) -> list[str]:
    """Sample messages that open a chat, without training messages, and leave the random generators as they were.

    Under ZeRO-3 all processes have to take part in each forward pass, so all sample the same messages in one batch.
    """
    engine = TransformersEngine(model.eval(), tokenizer.backend_tokenizer, chat_format)
    prompt = encode_chat(engine.tokenizer, chat_format, [], chat_format.block_size, header)
    sampling = Sampling(max_new_tokens=min(40, chat_format.block_size - len(prompt)))
    with torch.random.fork_rng([torch.cuda.current_device()] if torch.cuda.is_available() else []):
        torch.manual_seed(seed)
        sampled = engine.sample(prompt, NUM_SAMPLED if training_messages else NUM_SAMPLES, sampling)
    texts = [text for ids in sampled if (text := decode_message(engine.tokenizer, ids))]
    return [text for text in texts if text not in training_messages][:NUM_SAMPLES]


class Evaluations(TrainerCallback):
    """Evaluates every `every` steps (0: only once per epoch), and saves a checkpoint there if it is the best so far.

    It ends a run after `patience` evaluations without a lower test loss (None: never).
    """

    def __init__(self, every: int, steps_per_epoch: int, patience: int | None) -> None:
        self.every, self.steps_per_epoch, self.patience = every, steps_per_epoch, patience

    def on_step_end(self, args, state, control, **kwargs):
        step = state.global_step
        ends_epoch = step % self.steps_per_epoch == 0 or step == state.max_steps  # the Trainer evaluates there
        if self.every and step % self.every == 0 and not ends_epoch:
            control.should_evaluate = True

    def on_epoch_end(self, args, state, control, **kwargs):
        last = evaluations(state.log_history)[-1:]
        if last and last[0]["step"] == state.global_step:  # it has just ended the run, within an epoch
            control.should_evaluate = False

    def on_evaluate(self, args, state, control, **kwargs):
        losses = [entry["eval_loss"] for entry in evaluations(state.log_history)]
        if not losses:  # before training
            return
        since_best = len(losses) - 1 - losses.index(min(losses))
        control.should_save |= since_best == 0
        if self.patience and since_best >= self.patience and not control.should_training_stop:
            log(f"no better test loss in {since_best} evaluation{'s' * (since_best > 1)}: stopping")
            control.should_training_stop = True


class CompleteCheckpoints(TrainerCallback):
    """Marks each checkpoint when all processes have written it; keeps the newest `num_kept`, or all, and the best."""

    def __init__(self, checkpoints: Path, run: dict[str, Any], num_kept: int | None) -> None:
        self.checkpoints, self.run, self.num_kept = checkpoints, run, num_kept

    def on_save(self, args, state, control, **kwargs):
        if args.world_size > 1:
            distributed.barrier()
        if args.process_index == 0:
            mark_complete(self.checkpoints / f"checkpoint-{state.global_step}", self.run, self.num_kept)


class StopOnSignal(TrainerCallback):
    """On Ctrl-C, SIGTERM or SIGHUP, stops all processes after this step with a checkpoint. A second one ends at once.

    `received` is the number of the signal, or 0.
    """

    received = 0

    def on_train_begin(self, args, state, control, **kwargs):
        self.before = {number: signal.signal(number, self.stop) for number in (signal.SIGINT, *stop_signals())}

    def stop(self, number: int, _: object) -> None:
        self.received = number
        signal.signal(number, self.before[number])

    def on_train_end(self, args, state, control, **kwargs):
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def on_step_end(self, args, state, control, **kwargs):
        if args.world_size > 1:  # the processes have to stop at the same step
            anywhere = torch.tensor(float(self.received), device=args.device)
            distributed.all_reduce(anywhere, distributed.ReduceOp.MAX)
            self.received = int(anywhere)
        control.should_training_stop |= self.received > 0

    def on_epoch_end(self, args, state, control, **kwargs):
        control.should_evaluate &= not self.received or state.global_step == state.max_steps


class Schedule(TrainerCallback):
    """Sets the learning rates: up to the peak in the warm-up, then down to 0 after the last step.

    The Trainer's own warm-up begins with a step at a learning rate of 0, which learns nothing. And PyTorch restores the
    peak rate from the checkpoint, even if the resumed run has another --learning-rate.
    """

    def on_train_begin(self, args, state, control, lr_scheduler=None, optimizer=None, **kwargs):
        schedule = getattr(lr_scheduler, "scheduler", lr_scheduler)  # accelerate wraps it
        schedule.base_lrs = [args.learning_rate for _ in schedule.base_lrs]
        factor = partial(learning_rate_factor, warmup_steps=args.warmup_steps, max_steps=state.max_steps)
        schedule.lr_lambdas = [factor for _ in schedule.lr_lambdas]
        rate = args.learning_rate * factor(schedule.last_epoch)
        for groups in {id(each): each.param_groups for each in (optimizer, schedule.optimizer)}.values():
            for group in groups:
                group["lr"], group["initial_lr"] = rate, args.learning_rate


def learning_rate_factor(step: int, warmup_steps: int, max_steps: int) -> float:
    """Return the share of the peak learning rate for a step, counted from 0."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    return max(0.0, (max_steps - step) / max(1, max_steps - warmup_steps))
