"""Stage 3: fine-tune a language model on the blocks, with the Hugging Face Trainer on DeepSpeed ZeRO-3.

Reads   --dataset-dir, the DatasetDict and tokenizer that tokenize_logs.py wrote, and the pretrained --model.
Writes  --output-dir: model.safetensors, configs and tokenizer, for from_pretrained, and a report: a model card
        (README.md), learning_curve.png and metrics.json. A checkpoint after each epoch goes to
        <output-dir>-checkpoints/. Ctrl-C and SIGTERM save one too; --resume continues from the newest. The model is
        that of the checkpoint with the lowest test loss.

    python train.py                                      # gpt2-medium on one GPU, or on the CPU
    deepspeed --num_gpus 2 train.py --batch-size 32      # several GPUs; torchrun --nproc_per_node 2 works as well
    python train.py --model HuggingFaceTB/SmolLM2-360M --lora-rank 16 --eval-every 0.25 --patience 3
    python train.py --model models/tiny-gpt2 --dataset-dir data/demo/tokenized_datasets --output-dir models/demo/again
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import math
import os
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from chatter.adapters import add_adapters
from chatter.checkpoints import delete_incomplete, describe_run, find_checkpoint, prepare_checkpoints, read_state
from chatter.cli import InputError, bounded, log, make_parser, plain_errors, positive_int
from chatter.devices import choose_device, is_ampere
from chatter.files import MODEL_MARKER, reserved
from chatter.fused import choose_optimizer, fuse_gelu
from chatter.hub import fetched_folder
from chatter.loss import MeanTokenLoss, collate, sum_token_losses
from chatter.memory import log_peak
from chatter.plan import print_plan
from chatter.processes import (
    join_process_group,
    leave_process_group,
    left_on_error,
    load_deepspeed_config,
    plain_library_errors,
)
from chatter.tokens.chat import ChatFormat, known_channels, opening_header
from chatter.wording.training_messages import TrainingMessages

if TYPE_CHECKING:  # imported where they are used: --help should not wait for them
    import torch
    from transformers import TrainingArguments

HIGH = 5e-4  # a learning rate at which most models but GPT-2 forget what they knew


def train(args: argparse.Namespace, output_dir: Path) -> int:
    """Fine-tune, evaluate after each epoch, and save the model in `output_dir`.

    Return 0, or the number of the signal that stopped it, SIGINT or SIGTERM.
    """
    from functools import partial

    from transformers import PrinterCallback, Trainer, set_seed
    from transformers.utils.logging import set_verbosity_error

    from chatter.callbacks import CompleteCheckpoints, Evaluations, Progress, Reschedule, StopOnSignal
    from chatter.models import load_model
    from chatter.saving import find_sources, save_model
    from chatter.tokens.dataset import load_blocks, read_data_summary

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
    model = fuse_gelu(load_model(args.model, tokenizer, block_size))
    if model.config.model_type != "gpt2" and args.learning_rate >= HIGH and not args.lora_rank:
        log(f"a learning rate of {args.learning_rate:g} is high for most models but GPT-2: 1e-5 to 1e-4 is usual")
    if args.lora_rank:
        model = add_adapters(model, args.lora_rank)
    start = fetched_folder(args.model)
    chat_format = ChatFormat.of(tokenizer, block_size, known_channels(data, start))
    sources = find_sources(args.dataset_dir, start)
    said = TrainingMessages.open(*sources) if sources else ()
    if not args.no_deepspeed:
        join_process_group()
    settings = training_arguments(args, len(blocks["train"]), checkpoints, model.config.dtype)
    run = describe_run(args, settings)
    checkpoint = find_checkpoint(checkpoints, run) if args.resume else None
    settings.eval_on_start = checkpoint is None  # the checkpoint has its evaluation
    steps_per_epoch = count_steps(len(blocks["train"]), args.batch_size)
    every = max(1, round(args.eval_every * steps_per_epoch)) if args.eval_every else 0  # steps
    is_first = settings.process_index == 0  # of several processes
    save = partial(save_model, args, checkpoints, output_dir, tokenizer, chat_format, run, data, start, sources)
    if checkpoint and is_finished(checkpoint, settings.max_steps):
        log("this run is finished: saving its model again. Pass more --epochs to train further.")
        if is_first:
            save()
        return 0
    if is_first:
        print_plan(model, blocks, settings, args)
        prepare_checkpoints(checkpoints, keep_complete=bool(checkpoint))

    try:
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
            Progress(args.batch_size * block_size, chat_format, opening_header(data), said),
            Evaluations(every, args.patience),
            CompleteCheckpoints(checkpoints, run, args.keep_checkpoints),
            stop,
        ):
            trainer.add_callback(callback)
        trainer.train(resume_from_checkpoint=checkpoint and str(checkpoint))
        log_peak()
        if not stop.received and is_first:
            save()
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


def count_steps(num_blocks: int, batch_size: int) -> int:
    """Return the optimizer steps of an epoch, of which the last may have fewer blocks."""
    return math.ceil(num_blocks / batch_size)


def training_arguments(
    args: argparse.Namespace, num_train_blocks: int, checkpoints: Path, dtype: torch.dtype | None = None
) -> TrainingArguments:
    """Build the TrainingArguments for a model that came in `dtype`."""
    from transformers import TrainingArguments

    cuda = args.device == "cuda"
    precision = choose_precision(args, cuda, dtype)
    if args.report_to == "tensorboard" and not find_spec("tensorboard"):
        raise InputError("--report-to tensorboard needs tensorboard. Run pip install tensorboard.")
    num_processes = int(os.environ.get("WORLD_SIZE", "1"))
    accumulation, rest = divmod(args.batch_size, args.micro_batch_size * num_processes)
    if rest or not accumulation:
        raise InputError(
            f"--batch-size {args.batch_size} is not a multiple of --micro-batch-size {args.micro_batch_size} times "
            f"{num_processes} process(es). Change one of them."
        )
    steps_per_epoch = count_steps(num_train_blocks, args.batch_size)
    max_steps = args.max_steps or math.ceil(args.epochs * steps_per_epoch)
    warmup_steps = math.ceil(args.warmup_epochs * steps_per_epoch)
    return TrainingArguments(
        output_dir=str(checkpoints),
        deepspeed=None if args.no_deepspeed else load_deepspeed_config(args.deepspeed, args.offload),
        use_cpu=not cuda,
        fp16=precision == "fp16",
        bf16=precision == "bf16",
        tf32=(cuda and precision == "fp32" and is_ampere()) or None,
        optim=choose_optimizer(precision, cuda, deepspeed=not args.no_deepspeed),
        activation_checkpointing=args.gradient_checkpointing,
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
        label_names=["labels"],  # which the Trainer cannot know of a model with adapters
        report_to=args.report_to,
        disable_tqdm=True,  # chatter.callbacks.Progress is used instead
        log_level_replica="error",  # as in the first process, see train()
        seed=args.seed,
    )


def choose_precision(args: argparse.Namespace, cuda: bool, dtype: torch.dtype | None) -> str:
    """Return fp16, bf16 or fp32 for what --precision says. Raises InputError if the device cannot train in it."""
    import torch

    if args.precision == "auto":
        return "fp32" if not cuda else "bf16" if dtype == torch.bfloat16 and is_ampere() else "fp16"
    can_fp16 = cuda
    if not args.no_deepspeed:
        from deepspeed.accelerator import get_accelerator

        can_fp16 = get_accelerator().is_fp16_supported()
    if args.precision == "fp16" and not can_fp16:
        raise InputError("this device cannot train in fp16. Pass --precision bf16 or fp32.")
    return args.precision


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
    add = parser.add_argument
    above_0 = bounded(float, above=0)
    add("--dataset-dir", type=Path, default=Path("data/tokenized_datasets"), help="dataset of tokenize_logs.py")
    add("--model", default="gpt2-medium", help="hub name or folder of the model to start from")
    add("--output-dir", type=Path, default=Path("models/gpt2-twitch-chatter"), help="folder for the fine-tuned model")
    add("--overwrite", action="store_true", help="replace an existing --output-dir and its checkpoints")
    add("--resume", action="store_true", help="continue from the newest checkpoint of the same run, if there is one")
    add("--keep-checkpoints", type=positive_int, metavar="N", help="keep only the newest N checkpoints, and the best")
    config = Path(__file__).with_name("ds_config.json")
    add("--deepspeed", type=Path, default=config, metavar="FILE", help="DeepSpeed's config")
    add("--no-offload", dest="offload", action="store_false", help="keep parameters and optimizer on the GPU")
    add("--device", choices=["auto", "cuda", "cpu"], default="auto", help="auto is a GPU if the machine has one")
    add("--gradient-checkpointing", action="store_true", help="compute activations twice: slower, and less memory")
    add("--no-deepspeed", action="store_true", help="train with the plain Trainer")
    add(
        "--precision",
        choices=["auto", "fp16", "bf16", "fp32"],
        default="auto",
        help="auto is fp32 on a CPU, and on a GPU bf16 for models that come in it, where the GPU has it, else fp16",
    )
    add("--epochs", type=bounded(float, above=0, at_most=1e6), default=3.0, help="passes over the training blocks")
    add("--batch-size", type=positive_int, default=24, help="blocks per optimizer step, over all processes")
    add(
        "--micro-batch-size",
        type=positive_int,
        default=8,
        help="blocks that a process computes at a time: lower it if memory runs out",
    )
    add("--learning-rate", type=above_0, default=1e-3, help="peak learning rate, at the end of the warm-up")
    add(
        "--warmup-epochs",
        type=bounded(float, at_least=0, at_most=1e6),
        default=0.1,
        help="length of the linear warm-up",
    )
    add(
        "--lora-rank",
        type=bounded(int, at_least=0, at_most=4096),
        default=0,
        help="train adapters of this rank; 0: none",
    )
    add(
        "--eval-every",
        type=bounded(float, at_least=0, at_most=1),
        default=0.0,
        help="also evaluate after each such part of an epoch; 0: only at its end",
    )
    add("--patience", type=positive_int, metavar="N", help="stop after N evaluations without a lower test loss")
    add("--max-steps", type=positive_int, metavar="N", help="stop after N steps, whatever --epochs says")
    add(
        "--report-to",
        choices=["none", "tensorboard"],
        default="none",
        help="tensorboard writes to <output-dir>-checkpoints/runs",
    )
    add("--seed", type=bounded(int, at_least=0, below=2**32), default=42, help="random seed of block order and dropout")
    add("--local_rank", type=int, help=argparse.SUPPRESS)  # passed by the deepspeed launcher
    return parser.parse_args()


def main() -> None:
    # Deprecations inside the libraries, advice on threads, a CUDA compiler without a GPU: for each process and step.
    warnings.filterwarnings("ignore", module="torch.distributed|accelerate.state")
    warnings.filterwarnings("ignore", module="transformers.modeling_utils", category=FutureWarning)
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
        args.device = choose_device(args.device, args.precision)
        with contextlib.ExitStack() as stack:
            output_dir = args.output_dir
            if os.environ.get("RANK", "0") == "0":  # the first of the processes that a launcher started
                output_dir = stack.enter_context(reserved(output_dir, MODEL_MARKER))
            stack.enter_context(contextlib.redirect_stdout(sys.stderr))  # DeepSpeed logs to stdout
            stack.enter_context(plain_library_errors(output_dir))
            stack.enter_context(left_on_error())
            signal_number = train(args, output_dir)
            leave_process_group()
    sys.exit(signal_number and 128 + signal_number)


if __name__ == "__main__":
    main()
