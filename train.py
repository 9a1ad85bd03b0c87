"""Stage 3: fine-tune GPT-2 on the blocks, with the Hugging Face Trainer on DeepSpeed ZeRO-3.

Reads   --dataset-dir, the DatasetDict and the tokenizer that tokenize_logs.py wrote, and the pretrained --model.
Writes  --output-dir: model.safetensors, config, generation config and tokenizer, for from_pretrained, and a report:
        README.md, learning_curve.png, metrics.json. A checkpoint after each epoch goes to <output-dir>-checkpoints/.
        Ctrl-C saves one as well; --resume goes on from the newest.

    python train.py                                      # gpt2-medium on one GPU, or on the CPU
    deepspeed --num_gpus 2 train.py --batch-size 32      # several GPUs; torchrun --nproc_per_node 2 does as well
    python train.py --model models/tiny-gpt2 --dataset-dir data/demo/tokenized_datasets --output-dir models/demo
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import gc
import hashlib
import json
import logging
import math
import os
import shutil
import signal
import socket
import sys
import time
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from generate import Sampling, TransformersEngine, decode_message, encode_chat
from parse_logs import InputError, check_replaceable, one_line_errors, parser_of, positive_int, remove, written_beside
from tokenize_logs import newline_of

if TYPE_CHECKING:  # imported where they are used: --help should not wait for them
    import torch
    from datasets import DatasetDict
    from transformers import (
        EvalPrediction,
        PreTrainedModel,
        PreTrainedTokenizerBase,
        ProgressCallback,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

IGNORED_LABEL = -100  # the value that the loss leaves out


def log(text: str) -> None:
    """Print a line on stderr, above a progress bar, and once however many processes there are."""
    from tqdm import tqdm

    if os.environ.get("RANK", "0") == "0":
        tqdm.write(text, file=sys.stderr)


def load_dataset(dataset_dir: Path) -> tuple[DatasetDict, PreTrainedTokenizerBase]:
    """Load the blocks and the tokenizer they were made with."""
    from datasets import DatasetDict
    from transformers import AutoTokenizer

    try:
        blocks = DatasetDict.load_from_disk(dataset_dir)
        tokenizer = AutoTokenizer.from_pretrained(dataset_dir / "tokenizer")
        _ = blocks["train"][0], blocks["test"][0]
    except Exception as error:  # an empty split is an IndexError, a missing one a KeyError, and so on
        raise InputError(
            f"{dataset_dir} is no whole dataset of tokenize_logs.py; run it, or name another folder with --dataset-dir"
        ) from error
    return blocks.select_columns(["input_ids"]).with_format("numpy"), tokenizer


def load_model(model: str, tokenizer: PreTrainedTokenizerBase, block_size: int) -> PreTrainedModel:
    """Load a pretrained GPT-2 in float32, with a row for the padding token and `block_size` positions.

    Called before DeepSpeed is set up, so that resizing works on whole tensors; ZeRO-3 shards the finished model. A
    folder with a config and no weights gives random weights.
    """
    import torch
    from torch import nn
    from transformers import AutoConfig, AutoModelForCausalLM

    folder = Path(model)
    try:
        config = AutoConfig.from_pretrained(model)
        if config.model_type != "gpt2":
            raise InputError(f"{model} is a {config.model_type} and no GPT-2, whose positions train.py can cut")
        if block_size > config.n_positions:
            raise InputError(
                f"the blocks have {block_size} tokens and {model} has {config.n_positions} positions; "
                "run tokenize_logs.py with a smaller --block-size"
            )
        if config.vocab_size not in (len(tokenizer), len(tokenizer) - 1):  # with and without [PAD]
            raise InputError(
                f"the dataset was tokenized for another model: its tokenizer has {len(tokenizer)} tokens with [PAD], "
                f"{model} has {config.vocab_size}; run tokenize_logs.py with --model {model}"
            )
        if folder.is_dir() and not any(folder.glob("*.safetensors")) and not any(folder.glob("*.bin")):
            log(f"{model} holds no weights: starting from random ones")
            network = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        else:
            network, loaded = AutoModelForCausalLM.from_pretrained(
                model, dtype=torch.float32, use_safetensors=True, output_loading_info=True
            )
            if loaded["missing_keys"]:  # transformers draws those at random and goes on
                raise InputError(f"the weights of {model} lack {', '.join(sorted(loaded['missing_keys']))}")
    except (OSError, ValueError) as error:
        raise InputError(
            f"cannot load the model {model!r}: it is neither a folder with a config and safetensors weights nor to be "
            "had from the Hugging Face hub; check the name and the connection"
        ) from error
    network.resize_token_embeddings(len(tokenizer))  # the new row is drawn around the mean of the others
    # Keep the first rows of the learned positions. Loading with a smaller n_positions and ignore_mismatched_sizes would
    # re-initialise all of them.
    positions = network.transformer.wpe
    positions.weight = nn.Parameter(positions.weight[:block_size].detach().clone())
    positions.num_embeddings = network.config.n_positions = block_size

    # Else the Trainer does not know that the loss shifts the labels by one, and divides by a token too many a block.
    network.loss_type = "ForCausalLM"
    network.generation_config.pad_token_id = tokenizer.pad_token_id
    # A message ends with its line.
    network.generation_config.eos_token_id = [newline_of(tokenizer), tokenizer.eos_token_id]
    return network


def collate(rows: list[dict], pad: int) -> dict[str, torch.Tensor]:
    """Stack blocks into a micro-batch: `input_ids` and `labels`, both (micro_batch_size, block_size) int64.

    Padding is no label. There is no attention mask: padding stands behind the text, where causal attention does not
    look, and without a mask PyTorch takes its fast attention kernel.
    """
    import numpy as np
    import torch

    input_ids = torch.from_numpy(np.stack([row["input_ids"] for row in rows]).astype(np.int64))
    return {"input_ids": input_ids, "labels": input_ids.masked_fill(input_ids == pad, IGNORED_LABEL)}


def sum_token_losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Add up the losses of each block's tokens: (batch, 2) float64, the sums and the numbers of tokens.

    `logits` is (batch, block_size, vocab_size), `labels` is (batch, block_size) and still to be shifted.
    """
    import torch
    from torch.nn.functional import cross_entropy

    sums = [
        cross_entropy(row[:-1].float(), label[1:], reduction="sum") for row, label in zip(logits, labels, strict=True)
    ]
    return torch.stack([torch.stack(sums).double(), (labels[:, 1:] != IGNORED_LABEL).sum(1).double()], dim=1)


class MeanTokenLoss:
    """The mean loss over all tokens of an evaluation, for the Trainer's `compute_metrics`.

    The Trainer's own is a mean over batches, which weighs a token by how much padding its batch has, and is wrong on
    several processes whose last batches differ in size.
    """

    def __init__(self) -> None:
        self.sums = 0

    def __call__(self, batch: EvalPrediction, compute_result: bool) -> dict[str, float]:
        """Add a batch of `sum_token_losses`; at the end of the evaluation give the mean and start over."""
        self.sums = self.sums + batch.predictions.sum(0)
        if not compute_result:
            return {}
        (loss, tokens), self.sums = self.sums.tolist(), 0
        return {"loss": loss / tokens}


def load_deepspeed_config(path: Path, offload: bool) -> dict:
    """Read ds_config.json, without its offloading if `offload` is false.

    Where DeepSpeed cannot compile its CPU Adam, let it use PyTorch's AdamW instead.
    """
    from deepspeed.ops.op_builder import CPUAdamBuilder

    try:
        config = json.loads(path.read_text())
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}") from error
    if not offload:
        for section in ("offload_optimizer", "offload_param"):
            config.get("zero_optimization", {}).pop(section, None)
    if "offload_optimizer" not in config.get("zero_optimization", {}):
        return config
    # PyTorch looks for ninja on PATH, where it is not when .venv/bin/python runs without the environment activated.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    log("loading DeepSpeed's CPU Adam (the first time it is compiled, which takes a minute)")
    try:
        CPUAdamBuilder().load(verbose=False)
    except Exception:  # whatever the compiler, or the lack of one, makes of it
        log("DeepSpeed cannot compile its CPU Adam: using PyTorch's AdamW, slower; apt-get install g++ python3-dev")
        config["zero_force_ds_cpu_optimizer"] = False
    return config


def start_processes() -> None:
    """Join the process group: the one that deepspeed or torchrun describes, or a group of this process alone."""
    import deepspeed
    import torch

    if "RANK" not in os.environ:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    if not torch.cuda.is_available():
        # Its shared-memory operator takes 40 s to compile and a compiler to be there. Gloo does without.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        try:
            deepspeed.init_distributed("gloo")  # before TrainingArguments, which would count one process
        except torch.distributed.DistNetworkError as error:
            place = "port {MASTER_PORT} of {MASTER_ADDR}".format_map(os.environ)
            raise InputError(
                f"{place} is taken or not to be reached; give the launcher another --master_port"
            ) from error


def leave_processes() -> None:
    """Leave the process group, all at once, when nothing else holds it any more.

    Its threads must not be at work when Python ends, or it aborts. They need Python's lock to drop their last tensors,
    and the end of the group waits for them: with the lock if an object in C++ held it last, such as the reducer of
    DistributedDataParallel, and then for ever.
    """
    from torch import distributed

    if distributed.is_initialized():
        gc.collect()
        distributed.barrier()
        distributed.destroy_process_group()


def training_arguments(args: argparse.Namespace, num_train_blocks: int) -> TrainingArguments:
    """Say the settings of the run in the Trainer's terms."""
    import torch
    from deepspeed.accelerator import get_accelerator
    from transformers import TrainingArguments

    cuda = torch.cuda.is_available()
    if not cuda:
        log("no CUDA GPU found: training on the CPU")
    precision = args.precision
    if precision == "auto":
        precision = "fp16" if cuda else "fp32"
    if precision == "fp16" and not get_accelerator().is_fp16_supported():
        raise InputError("this device does not train in fp16; take --precision bf16 or fp32")
    if args.report_to == "tensorboard" and not find_spec("tensorboard"):
        raise InputError("--report-to tensorboard needs it installed: pip install tensorboard")
    num_processes = int(os.environ.get("WORLD_SIZE", "1"))
    accumulation, rest = divmod(args.batch_size, args.micro_batch_size * num_processes)
    if rest or not accumulation:
        raise InputError(
            f"--batch-size {args.batch_size} is no multiple of --micro-batch-size {args.micro_batch_size} times "
            f"{num_processes} process(es)"
        )
    steps_per_epoch = math.ceil(num_train_blocks / args.batch_size)
    max_steps = args.max_steps if args.max_steps > 0 else math.ceil(args.epochs * steps_per_epoch)
    return TrainingArguments(
        output_dir=f"{args.output_dir}-checkpoints",
        deepspeed=None if args.no_deepspeed else load_deepspeed_config(args.deepspeed, args.offload),
        use_cpu=not cuda,
        fp16=precision == "fp16",
        bf16=precision == "bf16",
        optim="adamw_torch",
        learning_rate=args.learning_rate,
        lr_scheduler_type="linear",  # up over the warm-up, then down to 0 at the last step
        warmup_steps=math.ceil(args.warmup_epochs * steps_per_epoch),
        max_steps=max_steps,
        per_device_train_batch_size=args.micro_batch_size,
        per_device_eval_batch_size=args.micro_batch_size,
        gradient_accumulation_steps=accumulation,
        save_strategy="epoch",
        eval_strategy="epoch",
        eval_on_start=True,
        logging_steps=10,
        logging_nan_inf_filter=False,  # a loss that is not a number has to show
        batch_eval_metrics=True,
        remove_unused_columns=False,
        ddp_find_unused_parameters=False,
        report_to=args.report_to,
        disable_tqdm=True,  # progress_bar() takes its place
        log_level_replica="error",  # as the first process has it, in train()
        seed=args.seed,
    )


def precision_of(settings: TrainingArguments) -> str:
    return "fp16" if settings.fp16 else "bf16" if settings.bf16 else "fp32"


def print_plan(
    model: PreTrainedModel, blocks: DatasetDict, settings: TrainingArguments, args: argparse.Namespace
) -> None:
    """Print what is going to be trained, on what and how, before the first step."""
    parameters = model.num_parameters()
    block_size = model.config.n_positions
    precision = precision_of(settings)
    zero = (settings.deepspeed or {}).get("zero_optimization", {})
    offloaded = [part for part in ("param", "optimizer") if zero.get(f"offload_{part}", {}).get("device") == "cpu"]
    # weights in the precision of training, and float32 weights with Adam's two moments
    checkpoint = parameters * ((4 if precision == "fp32" else 2) + 12)
    rows = {
        "model": f"{args.model}, {parameters:,} parameters",
        "train, test": f"{len(blocks['train']):,} and {len(blocks['test']):,} blocks of {block_size} tokens",
        "steps": f"{settings.max_steps:,}, each of {args.batch_size} blocks: {settings.world_size} process(es) x "
        f"{args.micro_batch_size} x {settings.gradient_accumulation_steps} accumulated",
        "training": f"{precision} on {settings.device}, with "
        + (f"DeepSpeed ZeRO stage {zero.get('stage', 0)}" if settings.deepspeed else "the plain Trainer"),
        "in CPU memory": " and ".join(offloaded) or "nothing",
        "a checkpoint": f"about {checkpoint / 1e9:.2g} GB, {args.keep_checkpoints or 'all'} are kept",
    }
    for name, value in rows.items():
        log(f"{name:18} {value}")
    disk = next(folder for folder in Path(settings.output_dir).absolute().parents if folder.exists())
    free = shutil.disk_usage(disk).free
    if free < checkpoint:
        raise InputError(
            f"a checkpoint takes about {checkpoint:,} bytes, and {disk} has {free:,} left; make room there"
        )


def progress_bar(tokens_per_step: int) -> ProgressCallback:
    """Make the Trainer's progress bar with loss and speed beside it, and a line in place of a dict for evaluations."""
    from transformers import ProgressCallback

    class Progress(ProgressCallback):
        def on_train_begin(self, args, state, control, **kwargs):
            super().on_train_begin(args, state, control, **kwargs)
            self.seen = state.global_step, time.perf_counter()

        def on_step_end(self, args, state, control, **kwargs):
            super().on_step_end(args, state, control, **kwargs)
            if args.fp16 and getattr(kwargs["optimizer"], "step_was_skipped", False):
                log(f"step {state.global_step}: overflow in fp16, no update of the weights; the loss scale is lowered")

        def on_log(self, args, state, control, logs=None, **kwargs):
            if "loss" not in logs:
                return
            (step, then), self.seen = self.seen, (state.global_step, time.perf_counter())
            speed = (self.seen[0] - step) * tokens_per_step / (self.seen[1] - then)
            now = {"loss": f"{logs['loss']:.3f}", "lr": f"{logs['learning_rate']:.1e}", "tokens/s": f"{speed:,.0f}"}
            if sys.stderr.isatty():
                self.training_bar.set_postfix(now)
            else:
                log(f"step {state.global_step} of {state.max_steps}: {', '.join(f'{k} {v}' for k, v in now.items())}")
            check_finite(logs["loss"])

        def on_evaluate(self, args, state, control, metrics, **kwargs):
            super().on_evaluate(args, state, control, **kwargs)
            loss = metrics["eval_loss"]
            check_finite(loss)
            log(f"epoch {state.epoch or 0:.2f}: test loss {loss:.4f}, perplexity {perplexity_of(loss):.2f}")
            samples = sample_messages(kwargs["model"], kwargs["processing_class"], args.seed)
            state.log_history[-1]["samples"] = samples
            log("".join(f"    chat: {text}\n" for text in samples).rstrip("\n") or "    (nothing visible)")
            self.seen = state.global_step, time.perf_counter()

    return Progress()


def perplexity_of(loss: float) -> float:
    """Turn a mean loss in nats a token into a perplexity."""
    return math.exp(loss) if loss < 700 else math.inf


def sample_messages(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, seed: int) -> list[str]:
    """Draw three messages that open a chat, and leave the random generators as they were.

    Under ZeRO-3 every process has to take part in each forward pass, so all draw the same, and once.
    """
    import torch

    engine = TransformersEngine(model.eval(), tokenizer.backend_tokenizer)
    prompt = encode_chat(engine, [], max_tokens=1)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        drawn = engine.draw(prompt, 3, Sampling(max_new_tokens=min(40, engine.positions // 2)))
    return [text for ids in drawn if (text := decode_message(engine.tokenizer, ids))]


def check_finite(loss: float) -> None:
    """Stop a run whose loss is no number any more, before it saves another checkpoint."""
    if not math.isfinite(loss):
        raise InputError(f"the loss is {loss}: lower --learning-rate, or take --precision bf16 or fp32, and --resume")


def checkpoint_keeper(checkpoints: Path, run: dict, num_kept: int | None) -> TrainerCallback:
    """Make the callback that marks whole checkpoints, deletes old ones, and stops at a step's end on Ctrl-C.

    A checkpoint is whole when all processes have written their parts: then `run` goes into its run.json.
    """
    import torch
    from torch import distributed
    from transformers import TrainerCallback

    class Keeper(TrainerCallback):
        interrupted = False

        def on_train_begin(self, args, state, control, **kwargs):
            def interrupt(*_):
                self.interrupted = True
                signal.signal(signal.SIGINT, signal.default_int_handler)  # a second one ends the script at once

            signal.signal(signal.SIGINT, interrupt)

        def on_step_end(self, args, state, control, **kwargs):
            if args.world_size > 1:  # the processes have to stop at the same step
                anywhere = torch.tensor(float(self.interrupted), device=args.device)
                distributed.all_reduce(anywhere, distributed.ReduceOp.MAX)
                self.interrupted = bool(anywhere)
            control.should_training_stop |= self.interrupted

        def on_epoch_end(self, args, state, control, **kwargs):
            control.should_evaluate &= not self.interrupted

        def on_save(self, args, state, control, **kwargs):
            if args.world_size > 1:
                distributed.barrier()
            if args.process_index == 0:
                with written_beside(checkpoints / f"checkpoint-{state.global_step}" / "run.json") as partial:
                    partial.write_text(json.dumps(run, indent=1))
                for old in whole_checkpoints(checkpoints)[: -num_kept if num_kept else 0]:
                    remove(old)

    return Keeper()


def whole_checkpoints(checkpoints: Path) -> list[Path]:
    """List the checkpoints that were written to the end, the oldest first."""
    whole = [marker.parent for marker in checkpoints.glob("checkpoint-*/run.json")]
    return sorted(whole, key=lambda checkpoint: int(checkpoint.name.rsplit("-")[-1]))


def remove_partial(checkpoints: Path) -> None:
    """Delete what an error or a kill left of a checkpoint, and the folder if nothing else is in it."""
    for checkpoint in {*checkpoints.glob("checkpoint-*"), *checkpoints.glob(".*")} - {*whole_checkpoints(checkpoints)}:
        remove(checkpoint)
    with contextlib.suppress(OSError):  # not empty, or not there
        checkpoints.rmdir()


def describe_run(args: argparse.Namespace, settings: TrainingArguments) -> dict[str, str | int | float]:
    """Collect what a resumed run must have in common with the one that wrote the checkpoint."""
    blocks = b"".join((args.dataset_dir / split / "state.json").read_bytes() for split in ("train", "test"))
    options = "model epochs batch_size micro_batch_size learning_rate warmup_epochs max_steps seed".split()
    return {
        **{f"--{name.replace('_', '-')}": getattr(args, name) for name in options},
        "precision": precision_of(settings),
        "blocks of fingerprint": hashlib.sha256(blocks).hexdigest()[:16],
        "number of processes": settings.world_size,
        "DeepSpeed": str(settings.deepspeed and settings.deepspeed.get("zero_optimization")),
    }


def checkpoint_to_resume(checkpoints: Path, run: dict) -> Path | None:
    """Find the newest whole checkpoint, and refuse it if it belongs to another run."""
    whole = whole_checkpoints(checkpoints)
    if not whole:
        log(f"{checkpoints} holds no whole checkpoint: starting from the beginning")
        return None
    theirs = json.loads((whole[-1] / "run.json").read_text())
    for name, value in run.items():
        if theirs.get(name) != value:
            raise InputError(
                f"{whole[-1]} was made with {name} {theirs.get(name)}, and this is {value}; "
                "give the same, or start anew with --overwrite in place of --resume"
            )
    log(f"resuming from {whole[-1]}")
    return whole[-1]


@contextlib.contextmanager
def clear_errors(checkpoints: Path) -> Iterator[None]:
    """Say in a line what the libraries say in a traceback: a full disk, memory that runs out, settings that collide.

    safetensors, tokenizers and torch.save have errors of their own for a full disk. What is left of a checkpoint goes.
    """
    try:
        yield
    except Exception as error:
        remove_partial(checkpoints)
        text = str(error)
        if any(sign in text for sign in ("No space left", "PytorchStreamWriter", "inline_container")):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(checkpoints.parent)) from error
        if "out of memory" in text:
            raise InputError("out of GPU memory: lower --micro-batch-size; --batch-size may stay") from error
        if "loss scale already at minimum" in text:
            raise InputError("fp16 overflows at every step: lower --learning-rate, or take --precision bf16") from error
        if "DeepSpeed config" in text:
            raise InputError(f"--deepspeed says otherwise than the options: {' '.join(text.split())}") from error
        raise


def train(args: argparse.Namespace) -> bool:
    """Fine-tune, evaluate after each epoch, and save the model. False if Ctrl-C ended it."""
    from functools import partial

    import torch
    from transformers import PrinterCallback, Trainer, set_seed
    from transformers.utils.logging import set_verbosity_error

    if not torch.cuda.is_available():
        os.environ["DS_ACCELERATOR"] = "cpu"  # or DeepSpeed would warn that it looked for others
    set_verbosity_error()  # the warnings are about what is meant here: a new token, no attention mask

    checkpoints = Path(f"{args.output_dir}-checkpoints")
    if args.output_dir.exists() and not args.overwrite:
        raise InputError(
            f"{args.output_dir} is there already; name another --output-dir, or replace it with --overwrite"
        )
    if checkpoints.exists() and not (args.overwrite or args.resume):
        raise InputError(f"{checkpoints} is there already; go on from it with --resume, or replace it with --overwrite")
    check_replaceable(args.output_dir, "config.json")
    blocks, tokenizer = load_dataset(args.dataset_dir)
    set_seed(args.seed)
    model = load_model(args.model, tokenizer, block_size=len(blocks["train"][0]["input_ids"]))
    if not args.no_deepspeed:
        start_processes()
    settings = training_arguments(args, len(blocks["train"]))
    run = describe_run(args, settings)
    resumed = checkpoint_to_resume(checkpoints, run) if args.resume else None
    if settings.process_index == 0:
        remove_partial(checkpoints) if resumed else remove(checkpoints)
        print_plan(model, blocks, settings, args)

    trainer = Trainer(
        model=model,
        args=settings,
        data_collator=partial(collate, pad=tokenizer.pad_token_id),
        train_dataset=blocks["train"],
        eval_dataset=blocks["test"],
        processing_class=tokenizer,
        preprocess_logits_for_metrics=sum_token_losses,
        compute_metrics=MeanTokenLoss(),
    )
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(progress_bar(args.batch_size * model.config.n_positions))
    keeper = checkpoint_keeper(checkpoints, run, args.keep_checkpoints)
    trainer.add_callback(keeper)
    with clear_errors(checkpoints):
        trainer.train(resume_from_checkpoint=resumed and str(resumed))
        if not keeper.interrupted:
            save_model(trainer, args.output_dir, run, args.dataset_dir)
    if keeper.interrupted:
        log(f"stopped at step {trainer.state.global_step}; --resume goes on from there")
    return not keeper.interrupted


def save_model(trainer: Trainer, output_dir: Path, run: dict, dataset_dir: Path) -> None:
    """Save the whole model, the tokenizer and a report. ZeRO-3 gathers the weights, the first process writes."""
    first = trainer.is_world_process_zero()
    with written_beside(output_dir) if first else contextlib.nullcontext(output_dir) as folder:
        trainer.save_model(str(folder))
        if first:
            remove(folder / "training_args.bin")  # a pickle, of no use to a reader of the model
            write_report(folder, trainer.state.log_history, run, dataset_dir)


def write_report(folder: Path, history: list[dict], run: dict, dataset_dir: Path) -> None:
    """Write metrics.json, learning_curve.png and a model card, README.md, that shows both and samples."""
    from matplotlib.figure import Figure

    (folder / "metrics.json").write_text(json.dumps({"run": run, "history": history}, indent=1), encoding="utf-8")
    steps = [entry for entry in history if "loss" in entry]
    tests = [entry for entry in history if "eval_loss" in entry]
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot([e["epoch"] for e in steps], [e["loss"] for e in steps], ".-", color="#9a9a9a", label="train")
    axes.plot([e["epoch"] for e in tests], [e["eval_loss"] for e in tests], "o-", color="#0072b2", label="test")
    axes.set(title="Learning curve", xlabel="epoch", ylabel="loss (nats a token)")
    axes.legend()
    figure.savefig(folder / "learning_curve.png", dpi=120)

    before, after = (perplexity_of(entry["eval_loss"]) for entry in (tests[0], tests[-1]))
    card = dataset_dir / "README.md"
    data = [line for line in card.read_text(encoding="utf-8").splitlines() if line[:1] == "|"] if card.exists() else []
    lines = [
        "# A chatter",
        "",
        f"{run['--model']}, fine-tuned on chat by train.py: test perplexity {before:.2f} before, {after:.2f} after. It",
        "says what people said, and may say it of real people: not for moderation, and not for passing as one of them.",
        "",
        "![learning curve](learning_curve.png)",
        "",
        "## Messages it opens a chat with",
        "",
        *(f"    {text}" for text in tests[-1].get("samples", [])),
        "",
        "## Training",
        "",
        "| | |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in run.items()),
        "",
        "## Data",
        "",
        *data,
    ]
    (folder / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def parse_args() -> argparse.Namespace:
    parser = parser_of(__doc__)
    add = parser.add_argument
    add(
        "--dataset-dir",
        type=Path,
        default=Path("data/tokenized_datasets"),
        help="of tokenize_logs.py (data/tokenized_datasets)",
    )
    add("--model", default="gpt2-medium", help="hub name or folder of the model to start from (gpt2-medium)")
    add(
        "--output-dir",
        type=Path,
        default=Path("models/gpt2-twitch-chatter"),
        help="folder for the fine-tuned model (models/gpt2-twitch-chatter)",
    )
    add("--overwrite", action="store_true", help="replace an --output-dir that is there")
    add("--resume", action="store_true", help="go on from the newest checkpoint of the same run, if there is one")
    add("--keep-checkpoints", type=positive_int, metavar="N", help="keep the newest N (all)")
    add("--deepspeed", type=Path, default=Path("ds_config.json"), help="DeepSpeed's settings (ds_config.json)")
    add("--no-offload", dest="offload", action="store_false", help="keep parameters and optimizer on the GPU")
    add("--no-deepspeed", action="store_true", help="train with the plain Trainer")
    add(
        "--precision",
        choices=["auto", "fp16", "bf16", "fp32"],
        default="auto",
        help="auto is fp16 on a GPU, fp32 on the CPU",
    )
    add("--epochs", type=float, default=3, help="times through the training blocks (3)")
    add("--batch-size", type=positive_int, default=24, help="blocks an optimizer step, over all processes (24)")
    add(
        "--micro-batch-size",
        type=positive_int,
        default=8,
        help="blocks a process holds at a time: lower it when memory runs out (8)",
    )
    add("--learning-rate", type=float, default=1e-3, help="its highest value (1e-3)")
    add("--warmup-epochs", type=float, default=0.1, help="length of the linear warm-up (0.1)")
    add("--max-steps", type=int, default=-1, help="stop after so many steps, whatever --epochs says")
    add(
        "--report-to",
        choices=["none", "tensorboard"],
        default="none",
        help="tensorboard writes to <output-dir>-checkpoints/runs (none)",
    )
    add("--seed", type=int, default=42, help="of the order of the blocks, dropout and new weights (42)")
    add("--local_rank", type=int, help=argparse.SUPPRESS)  # the deepspeed launcher passes it
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    # Deprecations inside of the libraries, advice on threads, a CUDA compiler without a GPU: for each process and step.
    warnings.filterwarnings("ignore", module="torch.distributed|accelerate.state")
    for library in ("accelerate", "torch.utils.cpp_extension"):
        logging.getLogger(library).setLevel(logging.ERROR)
    with one_line_errors(), contextlib.redirect_stdout(sys.stderr):  # DeepSpeed logs to stdout
        finished = train(args)
        leave_processes()
    sys.exit(0 if finished else 130)


if __name__ == "__main__":
    main()
