"""Stage 3: fine-tune GPT-2 on the blocks, with the Hugging Face Trainer on DeepSpeed ZeRO-3.

Reads   --dataset-dir, the DatasetDict and the tokenizer that tokenize_logs.py wrote, and the pretrained --model.
Writes  --output-dir: model.safetensors, config, generation config and tokenizer, for from_pretrained; and a checkpoint
        after each epoch in <output-dir>-checkpoints/.

    python train.py                                      # gpt2-medium on one GPU, or on the CPU
    deepspeed --num_gpus 2 train.py --batch-size 32      # several GPUs; torchrun --nproc_per_node 2 does as well
    python train.py --model models/tiny-gpt2 --dataset-dir data/demo/tokenized_datasets --output-dir models/demo
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import logging
import math
import os
import socket
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from parse_logs import InputError, check_replaceable, one_line_errors, positive_int, remove, written_beside

if TYPE_CHECKING:  # imported where they are used: --help should not wait for them
    import torch
    from datasets import DatasetDict
    from transformers import (
        EvalPrediction,
        PreTrainedModel,
        PreTrainedTokenizerBase,
        ProgressCallback,
        Trainer,
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
    except (OSError, ValueError) as error:
        raise InputError(
            f"{dataset_dir} is no dataset of tokenize_logs.py; run it first, or name the folder with --dataset-dir"
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
    newline = tokenizer.encode("\n")[0]
    network.generation_config.pad_token_id = tokenizer.pad_token_id
    network.generation_config.eos_token_id = [newline, tokenizer.eos_token_id]  # a message ends with its line
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


def load_deepspeed_config(path: Path) -> dict:
    """Read ds_config.json; where DeepSpeed cannot compile its CPU Adam, let it use PyTorch's AdamW instead."""
    from deepspeed.ops.op_builder import CPUAdamBuilder

    try:
        config = json.loads(path.read_text())
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}") from error
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
        deepspeed.init_distributed("gloo")  # before TrainingArguments, which would count one process


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
    num_processes = int(os.environ.get("WORLD_SIZE", "1"))
    accumulation, rest = divmod(args.batch_size, args.micro_batch_size * num_processes)
    if rest or not accumulation:
        raise InputError(
            f"--batch-size {args.batch_size} is no multiple of --micro-batch-size {args.micro_batch_size} times "
            f"{num_processes} process(es)"
        )
    steps_per_epoch = math.ceil(num_train_blocks / args.batch_size)
    return TrainingArguments(
        output_dir=f"{args.output_dir}-checkpoints",
        deepspeed=None if args.no_deepspeed else load_deepspeed_config(args.deepspeed),
        use_cpu=not cuda,
        fp16=precision == "fp16",
        bf16=precision == "bf16",
        optim="adamw_torch",
        learning_rate=args.learning_rate,
        lr_scheduler_type="linear",  # up over the warm-up, then down to 0 at the last step
        warmup_steps=math.ceil(args.warmup_epochs * steps_per_epoch),
        num_train_epochs=args.epochs,
        max_steps=args.max_steps,
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
        report_to="none",
        disable_tqdm=True,  # progress_bar() takes its place
        seed=args.seed,
    )


def progress_bar() -> ProgressCallback:
    """Make the Trainer's progress bar with the loss beside it, and a line for each evaluation in place of a dict."""
    from transformers import ProgressCallback

    class Progress(ProgressCallback):
        def on_log(self, args, state, control, logs=None, **kwargs):
            if "loss" not in logs:
                return
            now = {"loss": f"{logs['loss']:.3f}", "lr": f"{logs['learning_rate']:.1e}"}
            if sys.stderr.isatty():
                self.training_bar.set_postfix(now)
            else:
                log(f"step {state.global_step} of {state.max_steps}: loss {now['loss']}, learning rate {now['lr']}")

        def on_evaluate(self, args, state, control, metrics, **kwargs):
            super().on_evaluate(args, state, control, **kwargs)
            loss = metrics["eval_loss"]
            perplexity = math.exp(loss) if loss < 700 else math.inf
            log(f"epoch {state.epoch or 0:.2f}: test loss {loss:.4f}, perplexity {perplexity:.2f}")

    return Progress()


@contextlib.contextmanager
def clear_disk_errors(checkpoints: Path) -> Iterator[None]:
    """Say that a disk is full as Python does: safetensors, tokenizers and torch.save have errors of their own for it.

    What an error leaves of a checkpoint goes: the Trainer writes trainer_state.json last.
    """
    try:
        yield
    except Exception as error:
        for checkpoint in checkpoints.glob("checkpoint-*"):
            if not (checkpoint / "trainer_state.json").exists():
                remove(checkpoint)
        if "No space left" in str(error) or "PytorchStreamWriter" in str(error):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(checkpoints.parent)) from error
        raise


def train(args: argparse.Namespace) -> None:
    """Fine-tune, evaluate after each epoch, and save the model."""
    from functools import partial

    import torch
    from transformers import PrinterCallback, Trainer, set_seed
    from transformers.utils.logging import set_verbosity_error

    if not torch.cuda.is_available():
        os.environ["DS_ACCELERATOR"] = "cpu"  # or DeepSpeed would warn that it looked for others
    set_verbosity_error()  # the warnings are about what is meant here: a new token, no attention mask

    checkpoints = Path(f"{args.output_dir}-checkpoints")
    for folder in (args.output_dir, checkpoints):
        if folder.exists() and not args.overwrite:
            raise InputError(f"{folder} is there already; name another --output-dir, or replace it with --overwrite")
    check_replaceable(args.output_dir, "config.json")
    blocks, tokenizer = load_dataset(args.dataset_dir)
    set_seed(args.seed)
    model = load_model(args.model, tokenizer, block_size=len(blocks["train"][0]["input_ids"]))
    if not args.no_deepspeed:
        start_processes()
    settings = training_arguments(args, len(blocks["train"]))
    if settings.process_index == 0:
        remove(checkpoints)

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
    trainer.add_callback(progress_bar())
    with clear_disk_errors(checkpoints):
        trainer.train()
        save_model(trainer, args.output_dir)


def save_model(trainer: Trainer, output_dir: Path) -> None:
    """Save the whole model and the tokenizer. ZeRO-3 gathers the weights from all processes, the first one writes."""
    first = trainer.is_world_process_zero()
    with written_beside(output_dir) if first else contextlib.nullcontext(output_dir) as folder:
        trainer.save_model(str(folder))
        if first:
            remove(folder / "training_args.bin")  # a pickle, of no use to a reader of the model


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
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
    add("--deepspeed", type=Path, default=Path("ds_config.json"), help="DeepSpeed's settings (ds_config.json)")
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
    add("--seed", type=int, default=42, help="of the order of the blocks, dropout and new weights (42)")
    add("--local_rank", type=int, help=argparse.SUPPRESS)  # the deepspeed launcher passes it
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    # Deprecations inside of the libraries and advice on threads, for each process and step.
    warnings.filterwarnings("ignore", module="torch.distributed|accelerate.state")
    logging.getLogger("accelerate").setLevel(logging.ERROR)
    with one_line_errors(), contextlib.redirect_stdout(sys.stderr):  # DeepSpeed logs to stdout
        train(args)


if __name__ == "__main__":
    main()
