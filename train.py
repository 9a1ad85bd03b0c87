"""Stage 3: fine-tune a language model on the blocks, with the Hugging Face Trainer on DeepSpeed ZeRO-3.

Reads   --dataset-dir, the DatasetDict and tokenizer that tokenize_logs.py wrote, and the pretrained --model.
Writes  --output-dir: model.safetensors, configs and tokenizer, for from_pretrained, and a report: a model card
        (README.md), learning_curve.png and metrics.json. A checkpoint after each epoch goes to
        <output-dir>-checkpoints/. Ctrl-C, SIGTERM and SIGHUP save one; --resume continues from the newest. The model of
        the checkpoint with the lowest test loss is saved.

    python train.py                                      # gpt2-medium on one GPU, or on the CPU
    deepspeed --num_gpus 2 train.py                      # several GPUs; torchrun --nproc_per_node 2 works as well
    python train.py --model HuggingFaceTB/SmolLM2-360M --lora-rank 16 --eval-every 0.25 --patience 3
    python train.py --model models/tiny-gpt2 --dataset-dir data/demo/tokenized_datasets --output-dir models/demo/again
"""

from __future__ import annotations

if __name__ == "__main__":
    import chatter.interrupt  # noqa: F401 (from here on, Ctrl-C prints one line)

import argparse
import contextlib
import logging
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from chatter.cli import (
    InputError,
    bounded,
    is_first_process,
    log,
    make_parser,
    plain_errors,
    positive_int,
)
from chatter.devices import choose_device
from chatter.files import MODEL_MARKER, reserved
from chatter.training.checkpoints import checkpoints_beside, delete_incomplete, prepare_checkpoints
from chatter.training.distributed import join_process_group, leave_group_on_error, leave_process_group
from chatter.training.library_errors import plain_library_errors
from chatter.training.outputs import check_outputs, longer
from chatter.training.restart import replaced_by_smaller_run

if TYPE_CHECKING:
    from chatter.training.placement import FirstSteps
    from chatter.training.run import TrainingRun


def train(args: argparse.Namespace, output_dir: Path) -> int:
    """Fine-tune, evaluate after each epoch, and save the model in `output_dir`.

    Return 0, or the number of the signal that stopped it.
    """
    from transformers.utils.logging import set_verbosity_error

    from chatter.training.placement import FirstSteps
    from chatter.training.plan import print_plan
    from chatter.training.resume import find_checkpoint, is_finished
    from chatter.training.saving import save_model

    set_verbosity_error()  # it would warn about a new token and a missing attention mask, which are intended
    run = prepare(args, output_dir)
    checkpoint = find_checkpoint(run.checkpoints, run.description) if args.resume else None
    if checkpoint and is_finished(checkpoint, run.settings.max_steps, longer(args)):
        log(f"this run is finished: saving its model again. Pass {longer(args)} to train further.")
        if is_first_process():
            save_model(run)
        return 0
    if is_first_process():
        print_plan(run)
        prepare_checkpoints(run.checkpoints, keep_complete=args.resume)
    try:
        with FirstSteps(run.placement) as first_steps:
            signal_number = fit(run, checkpoint, first_steps)
        if not signal_number and is_first_process():
            save_model(run)
    except Exception:
        if is_first_process():
            delete_incomplete(run.checkpoints)
        raise
    return signal_number


def prepare(args: argparse.Namespace, output_dir: Path) -> TrainingRun:
    """Load the blocks and the model, and choose the settings. Raises InputError if they do not fit together."""
    from transformers import set_seed

    from chatter.hub import fetch_model
    from chatter.tokens.chat import ChatFormat
    from chatter.tokens.dataset import load_blocks, read_data_summary
    from chatter.tokens.text_size import count_text
    from chatter.training.base import digest_weights
    from chatter.training.model import add_adapters, fuse_gelu, load_model
    from chatter.training.placement import choose_placement
    from chatter.training.resume import describe_run, recorded_learning_rate
    from chatter.training.run import TrainingRun, known_channels
    from chatter.training.saving import folders_with_training_messages
    from chatter.training.settings import choose_precision, count_steps, default_learning_rate, training_arguments
    from chatter.training.zero import complete_config, read_config

    blocks, tokenizer = load_blocks(args.dataset_dir)
    data = read_data_summary(args.dataset_dir)
    block_size = len(blocks["train"][0]["input_ids"])
    set_seed(args.seed)
    model = fuse_gelu(load_model(args.model, tokenizer, block_size))
    if args.lora_rank:
        model = add_adapters(model, args.lora_rank)
    base = fetch_model(args.model, weights=True)
    if not args.no_deepspeed:
        join_process_group()
    precision = choose_precision(args, model.config.dtype)
    config = None if args.no_deepspeed else read_config(args.deepspeed)
    placement = choose_placement(args, model, block_size, precision != "fp32", config)
    config = config and complete_config(config, model, placement.mode)
    steps_per_epoch = count_steps(len(blocks["train"]), args.batch_size)
    base_digest = digest_weights(base) if args.lora_rank else None  # adapters fit no other weights
    checkpoints = checkpoints_beside(args.output_dir)
    recorded = recorded_learning_rate(checkpoints) if args.resume else None
    default = default_learning_rate(model.config.model_type, args.lora_rank)
    args.learning_rate = args.learning_rate or recorded or default
    settings = training_arguments(args, placement, config, steps_per_epoch, checkpoints, precision)
    return TrainingRun(
        args=args,
        output_dir=output_dir,
        checkpoints=checkpoints,
        blocks=blocks,
        data_summary=data,
        test_text=count_text(blocks["test"], tokenizer, data.get("channels", ())),
        tokenizer=tokenizer,
        chat_format=ChatFormat.of(tokenizer, block_size, known_channels(data, base)),
        model=model,
        base=base,
        message_folders=folders_with_training_messages(args.dataset_dir, base),
        precision=precision,
        placement=placement,
        settings=settings,
        steps_per_epoch=steps_per_epoch,
        description=describe_run(args, placement, settings, precision, base_digest),
    )


def fit(run: TrainingRun, checkpoint: Path | None, first_steps: FirstSteps) -> int:
    """Train from the beginning or from a checkpoint. Return 0, or the number of the signal that stopped it."""
    from functools import partial

    from transformers import PrinterCallback, Trainer

    from chatter.training.callbacks import CompleteCheckpoints, Evaluations, Progress, Schedule, StopOnSignal
    from chatter.training.loss import MeanTokenLoss, collate, sum_token_losses
    from chatter.training.plan import log_peak
    from chatter.training.resume import Loading, lacks_evaluation

    args, blocks = run.args, run.blocks
    run.settings.eval_on_start &= checkpoint is None or lacks_evaluation(checkpoint, run.steps_per_epoch)
    trainer = Trainer(
        model=run.model,
        args=run.settings,
        data_collator=partial(collate, pad=run.tokenizer.pad_token_id),
        train_dataset=blocks["train"],
        eval_dataset=blocks["test"],
        processing_class=run.tokenizer,
        preprocess_logits_for_metrics=sum_token_losses,
        compute_metrics=MeanTokenLoss(run.test_text),
    )
    trainer.remove_callback(PrinterCallback)
    every = max(1, round(args.eval_every * run.steps_per_epoch)) if args.eval_every else 0  # steps
    stop = StopOnSignal()
    for callback in (
        Schedule(),
        Progress(run, every or run.steps_per_epoch),
        Evaluations(every, run.steps_per_epoch, args.patience),
        CompleteCheckpoints(run.checkpoints, run.description, args.keep_checkpoints),
        stop,
        first_steps,
    ):
        trainer.add_callback(callback)
    with Loading(trainer, checkpoint):
        trainer.train(resume_from_checkpoint=checkpoint and str(checkpoint))
    log_peak()
    if stop.received:
        log(f"stopped at step {trainer.state.global_step}. Pass --resume to continue from there.")
    return stop.received


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
    add = parser.add_argument
    above_0 = bounded(float, above=0)
    add("--dataset-dir", type=Path, default=Path("data/tokenized_datasets"), help="dataset of tokenize_logs.py")
    add("--model", default="gpt2-medium", help="hub name or folder of the model to start from")
    add("--output-dir", type=Path, default=Path("models/gpt2-twitch-chatter"), help="folder for the fine-tuned model")
    add(
        "--overwrite",
        action="store_true",
        help="replace an existing --output-dir and its checkpoints; with --resume only the model",
    )
    add("--resume", action="store_true", help="continue from the newest checkpoint, and replace its run's own model")
    add("--keep-checkpoints", type=positive_int, metavar="N", help="keep only the newest N checkpoints, and the best")
    config = Path(__file__).with_name("ds_config.json")
    add("--deepspeed", type=Path, default=config, metavar="FILE", help="DeepSpeed's config")
    add(
        "--offload",
        action=argparse.BooleanOptionalAction,
        help="keep parameters and optimizer states in CPU memory, or not; without either, only if they do not fit",
    )
    add("--device", choices=["auto", "cuda", "cpu"], default="auto", help="auto is a GPU if the machine has one")
    add("--gradient-checkpointing", action="store_true", help="compute activations twice: slower, but less memory")
    add("--no-deepspeed", action="store_true", help="train with the plain Trainer")
    add("--compile", action="store_true", help="compile the model, which takes a minute; needs --no-deepspeed")
    add(
        "--precision",
        choices=["auto", "fp16", "bf16", "fp32"],
        default="auto",
        help="auto is fp32 on a CPU; on a GPU, bf16 for models saved in bf16, if it supports that, or else fp16",
    )
    add("--epochs", type=bounded(float, above=0, at_most=1e6), default=3.0, help="passes over the training blocks")
    add("--batch-size", type=positive_int, default=24, help="blocks per optimizer step, over all processes")
    add(
        "--micro-batch-size",
        type=positive_int,
        metavar="N",
        help="blocks per process in one forward pass; default: as many as fit on the GPU, or up to 8 on a CPU",
    )
    add("--learning-rate", type=above_0, help="default: 1e-3 for GPT-2; for others 3e-4, or 3e-3 with LoRA")
    add("--warmup-epochs", type=bounded(float, at_least=0, at_most=1e6), default=0.1, help="epochs of linear warm-up")
    add(
        "--lora-rank",
        type=bounded(int, at_least=0, at_most=4096),
        default=0,
        help="train LoRA adapters of this rank; 0: train all weights",
    )
    add(
        "--eval-every",
        type=bounded(float, at_least=0, at_most=1),
        default=0.0,
        help="also evaluate after each such fraction of an epoch; 0: only at the end of each epoch",
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
    args = parser.parse_args()
    if not args.no_deepspeed and not find_spec("deepspeed"):
        raise InputError("DeepSpeed is not installed. Run pip install deepspeed on Linux, or pass --no-deepspeed.")
    if args.compile and not args.no_deepspeed:
        raise InputError("--compile does not work with DeepSpeed. Pass --no-deepspeed as well.")
    return args


def main() -> None:
    # Each process would repeat these at each step: deprecations, advice on threads, a missing CUDA compiler.
    warnings.filterwarnings("ignore", module="torch.distributed|accelerate.state")
    warnings.filterwarnings("ignore", module="transformers.modeling_utils", category=FutureWarning)
    for library in ("accelerate", "torch.utils.cpp_extension"):
        logging.getLogger(library).setLevel(logging.ERROR)
    with plain_errors():
        args = parse_args()
        with contextlib.ExitStack() as stack:
            stack.enter_context(replaced_by_smaller_run())
            output_dir = args.output_dir
            if is_first_process():
                output_dir = stack.enter_context(reserved(output_dir, MODEL_MARKER))
            check_outputs(args)
            args.device = choose_device(args.device, args.precision)
            stack.enter_context(contextlib.redirect_stdout(sys.stderr))  # DeepSpeed logs to stdout
            stack.enter_context(plain_library_errors(output_dir))
            stack.enter_context(leave_group_on_error())
            signal_number = train(args, output_dir)
            leave_process_group()
    sys.exit(signal_number and 128 + signal_number)


if __name__ == "__main__":
    main()
