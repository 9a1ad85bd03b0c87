"""Stage 3: fine-tune GPT-2 on the blocks, with the Hugging Face Trainer on DeepSpeed ZeRO-3.

Reads   --dataset-dir, the DatasetDict and tokenizer that tokenize_logs.py wrote, and the pretrained --model.
Writes  --output-dir: model.safetensors, configs and tokenizer, for from_pretrained, and a report: a model card
        (README.md), learning_curve.png and metrics.json. A checkpoint after each epoch goes to
        <output-dir>-checkpoints/. Ctrl-C and SIGTERM save one too; --resume continues from the newest.

    python train.py                                      # gpt2-medium on one GPU, or on the CPU
    deepspeed --num_gpus 2 train.py --batch-size 32      # several GPUs; torchrun --nproc_per_node 2 works as well
    python train.py --model models/tiny-gpt2 --dataset-dir data/demo/tokenized_datasets --output-dir models/demo
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import math
import os
import shutil
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chatter.blocks import load_blocks
from chatter.checkpoints import (
    copy_model,
    delete_incomplete,
    describe_run,
    find_checkpoint,
    precision_of,
    prepare_checkpoints,
    read_state,
)
from chatter.command import InputError, log, make_parser, number, positive_int
from chatter.exits import plain_errors
from chatter.files import atomic_output, delete, reserved
from chatter.loss import MeanTokenLoss, collate, sum_token_losses
from chatter.models import load_model
from chatter.processes import join_process_group, leave_process_group, load_deepspeed_config, plain_library_errors
from chatter.report import read_data_summary, write_model_report

if TYPE_CHECKING:  # imported where they are used: --help should not wait for them
    from datasets import DatasetDict
    from transformers import PreTrainedModel, Trainer, TrainingArguments

# Of models that were written before there were manifests.
OLDER_FILES = ("config.json", "metrics.json", "README.md", "*.json", "*.png", "*.safetensors", "ctranslate2/*")


def train(args: argparse.Namespace, output_dir: Path) -> int:
    """Fine-tune, evaluate after each epoch, and save the model in `output_dir`.

    Return 0, or the number of the signal that stopped it, SIGINT or SIGTERM.
    """
    from functools import partial

    import torch
    from transformers import PrinterCallback, Trainer, set_seed
    from transformers.utils.logging import set_verbosity_error

    from chatter.callbacks import CompleteCheckpoints, Progress, Reschedule, StopOnSignal

    if not torch.cuda.is_available():
        os.environ["DS_ACCELERATOR"] = "cpu"  # or DeepSpeed would warn that it looked for others
    set_verbosity_error()  # the warnings are about what is intended here: a new token, no attention mask

    checkpoints = Path(f"{args.output_dir}-checkpoints").resolve()
    if checkpoints.exists() and not (args.overwrite or args.resume):
        raise InputError(
            f"{checkpoints} already exists. Pass --resume to continue from it, or --overwrite to replace it."
        )
    blocks, tokenizer = load_blocks(args.dataset_dir)
    data = read_data_summary(args.dataset_dir)
    block_size = len(blocks["train"][0]["input_ids"])
    set_seed(args.seed)
    model = load_model(args.model, tokenizer, block_size)
    if not args.no_deepspeed:
        join_process_group()
    settings = training_arguments(args, len(blocks["train"]), checkpoints)
    run = describe_run(args, settings)
    checkpoint = find_checkpoint(checkpoints, run) if args.resume else None
    settings.eval_on_start = checkpoint is None  # the checkpoint has its evaluation
    is_first = settings.process_index == 0  # of several processes
    if checkpoint and is_finished(checkpoint, settings.max_steps):
        log("this run is finished: saving its model again. Pass more --epochs to train further.")
        if is_first:
            with atomic_output(output_dir) as folder:
                copy_model(checkpoint, folder)
                write_model_report(folder, read_state(checkpoint)["log_history"], run, data)
        return 0
    if is_first:
        print_plan(model, blocks, settings, args)
        prepare_checkpoints(checkpoints, keep_complete=bool(checkpoint))

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
    stop = StopOnSignal()
    trainer.remove_callback(PrinterCallback)
    for callback in (
        *([Reschedule()] if checkpoint else []),
        Progress(args.batch_size * block_size),
        CompleteCheckpoints(checkpoints, run, args.keep_checkpoints),
        stop,
    ):
        trainer.add_callback(callback)
    try:
        trainer.train(resume_from_checkpoint=checkpoint and str(checkpoint))
        if not stop.received:
            save_model(trainer, output_dir, run, data)
    except Exception:
        if is_first:
            delete_incomplete(checkpoints)
        raise
    if stop.received:
        log(f"stopped at step {trainer.state.global_step}. Pass --resume to continue from there.")
    return stop.received


def is_finished(checkpoint: Path, max_steps: int) -> bool:
    """Return whether a checkpoint is that of the last step. Raises InputError if the run is to end before it."""
    step = read_state(checkpoint)["global_step"]
    if step > max_steps:
        raise InputError(
            f"{checkpoint} has {step} steps already, but the options ask for {max_steps}. Pass more --epochs or "
            "--max-steps, or start again with --overwrite instead of --resume."
        )
    return step == max_steps


def training_arguments(args: argparse.Namespace, num_train_blocks: int, checkpoints: Path) -> TrainingArguments:
    """Build the TrainingArguments."""
    import torch
    from transformers import TrainingArguments

    cuda = torch.cuda.is_available()
    if not cuda:
        log("no CUDA GPU found: training on the CPU")
    precision = choose_precision(args, cuda)
    if args.report_to == "tensorboard" and not find_spec("tensorboard"):
        raise InputError("--report-to tensorboard needs tensorboard. Run pip install tensorboard.")
    num_processes = int(os.environ.get("WORLD_SIZE", "1"))
    accumulation, rest = divmod(args.batch_size, args.micro_batch_size * num_processes)
    if rest or not accumulation:
        raise InputError(
            f"--batch-size {args.batch_size} is not a multiple of --micro-batch-size {args.micro_batch_size} times "
            f"{num_processes} process(es). Change one of them."
        )
    steps_per_epoch = math.ceil(num_train_blocks / args.batch_size)
    max_steps = args.max_steps or math.ceil(args.epochs * steps_per_epoch)
    warmup_steps = math.ceil(args.warmup_epochs * steps_per_epoch)
    return TrainingArguments(
        output_dir=str(checkpoints),
        deepspeed=None if args.no_deepspeed else load_deepspeed_config(args.deepspeed, args.offload),
        use_cpu=not cuda,
        fp16=precision == "fp16",
        bf16=precision == "bf16",
        optim="adamw_torch",
        learning_rate=args.learning_rate,
        lr_scheduler_type="linear",  # up during the warm-up, then down to 0 at the last step
        warmup_steps=warmup_steps if warmup_steps < max_steps else 0,  # or the learning rate would stay near 0
        max_steps=max_steps,
        per_device_train_batch_size=args.micro_batch_size,
        per_device_eval_batch_size=args.micro_batch_size,
        gradient_accumulation_steps=accumulation,
        save_strategy="epoch",
        eval_strategy="epoch",
        eval_on_start=True,
        logging_steps=10,
        logging_nan_inf_filter=False,  # a loss that is not a number must be visible
        batch_eval_metrics=True,
        remove_unused_columns=False,
        ddp_find_unused_parameters=False,
        report_to=args.report_to,
        disable_tqdm=True,  # chatter.callbacks.Progress is used instead
        log_level_replica="error",  # as in the first process, see train()
        seed=args.seed,
    )


def choose_precision(args: argparse.Namespace, cuda: bool) -> str:
    """Return fp16, bf16 or fp32 for what --precision says. Raises InputError if the device cannot train in it."""
    if args.precision == "auto":
        return "fp16" if cuda else "fp32"
    can_fp16 = cuda
    if not args.no_deepspeed:
        from deepspeed.accelerator import get_accelerator

        can_fp16 = get_accelerator().is_fp16_supported()
    if args.precision == "fp16" and not can_fp16:
        raise InputError("this device cannot train in fp16. Pass --precision bf16 or fp32.")
    return args.precision


def print_plan(
    model: PreTrainedModel, blocks: DatasetDict, settings: TrainingArguments, args: argparse.Namespace
) -> None:
    """Print what will be trained, on what and how. Raises InputError if the disk has no room for a checkpoint."""
    parameters, block_size = model.num_parameters(), model.config.n_positions
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
            f"a checkpoint takes about {checkpoint:,} bytes, but only {free:,} are free in {disk}. Free some space, or "
            "pass another --output-dir."
        )


def save_model(trainer: Trainer, output_dir: Path, run: dict[str, Any], data: dict[str, Any]) -> None:
    """Save the whole model, the tokenizer and a report. ZeRO-3 gathers the weights, the first process writes."""
    is_first = trainer.is_world_process_zero()
    with atomic_output(output_dir) if is_first else contextlib.nullcontext(output_dir) as folder:
        trainer.save_model(str(folder))
        if is_first:
            delete(folder / "training_args.bin")  # a pickle, of no use to readers of the model
            write_model_report(folder, trainer.state.log_history, run, data)


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
    add = parser.add_argument
    above_0 = number(float, above=0)
    add("--dataset-dir", type=Path, default=Path("data/tokenized_datasets"), help="dataset of tokenize_logs.py")
    add("--model", default="gpt2-medium", help="hub name or folder of the model to start from")
    add("--output-dir", type=Path, default=Path("models/gpt2-twitch-chatter"), help="folder for the fine-tuned model")
    add("--overwrite", action="store_true", help="replace an existing --output-dir and its checkpoints")
    add("--resume", action="store_true", help="continue from the newest checkpoint of the same run, if there is one")
    add("--keep-checkpoints", type=positive_int, metavar="N", help="keep only the newest N checkpoints")
    config = Path(__file__).with_name("ds_config.json")
    add("--deepspeed", type=Path, default=config, metavar="FILE", help="DeepSpeed's config")
    add("--no-offload", dest="offload", action="store_false", help="keep parameters and optimizer on the GPU")
    add("--no-deepspeed", action="store_true", help="train with the plain Trainer")
    add(
        "--precision",
        choices=["auto", "fp16", "bf16", "fp32"],
        default="auto",
        help="auto is fp16 on a GPU and fp32 on a CPU",
    )
    add("--epochs", type=number(float, above=0, at_most=1e6), default=3.0, help="passes over the training blocks")
    add("--batch-size", type=positive_int, default=24, help="blocks per optimizer step, over all processes")
    add(
        "--micro-batch-size",
        type=positive_int,
        default=8,
        help="blocks that a process computes at a time: lower it if memory runs out",
    )
    add("--learning-rate", type=above_0, default=1e-3, help="its highest value")
    add(
        "--warmup-epochs", type=number(float, at_least=0, at_most=1e6), default=0.1, help="length of the linear warm-up"
    )
    add("--max-steps", type=positive_int, metavar="N", help="stop after N steps, whatever --epochs says")
    add(
        "--report-to",
        choices=["none", "tensorboard"],
        default="none",
        help="tensorboard writes to <output-dir>-checkpoints/runs",
    )
    add("--seed", type=number(int, at_least=0, below=2**32), default=42, help="random seed of block order and dropout")
    add("--local_rank", type=int, help=argparse.SUPPRESS)  # passed by the deepspeed launcher
    return parser.parse_args()


def main() -> None:
    # Deprecations inside the libraries, advice on threads, a CUDA compiler without a GPU: for each process and step.
    warnings.filterwarnings("ignore", module="torch.distributed|accelerate.state")
    for library in ("accelerate", "torch.utils.cpp_extension"):
        logging.getLogger(library).setLevel(logging.ERROR)
    with plain_errors():
        args = parse_args()
        if not args.no_deepspeed and not find_spec("deepspeed"):
            raise InputError("DeepSpeed is not installed. Run pip install deepspeed on Linux, or pass --no-deepspeed.")
        if args.output_dir.exists() and not args.overwrite:
            raise InputError(
                f"{args.output_dir} already exists. Pass another --output-dir, or --overwrite to replace it."
            )
        with contextlib.ExitStack() as stack:
            output_dir = args.output_dir
            if os.environ.get("RANK", "0") == "0":  # the first of the processes that a launcher started
                output_dir = stack.enter_context(reserved(output_dir, OLDER_FILES))
            stack.enter_context(contextlib.redirect_stdout(sys.stderr))  # DeepSpeed logs to stdout
            stack.enter_context(plain_library_errors(output_dir))
            signal_number = train(args, output_dir)
            leave_process_group()
    sys.exit(signal_number and 128 + signal_number)


if __name__ == "__main__":
    main()
