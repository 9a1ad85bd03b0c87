"""Check on a GPU, in some ten minutes and without a network: training, resuming, memory, engines, speed, generation.

Prints a table of checks, with the expected and the measured values, and writes it to bench/results/<machine>-gpu.md
after each row, so that a run that is cut off leaves what it has measured. Goes on after a failure. The exit code is 1
if a check of correctness failed; speed and memory have bars, but do not fail. Without a GPU this is a rehearsal on the
CPU with a tiny shape, which writes nothing.

    make gpu                       # in .venv
    make gpu RUN=python3           # with the installed packages, if .venv cannot be created
    make gpu ROWS="speed memory"   # only some of: training resuming memory engines speed generation
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from importlib.util import find_spec
from pathlib import Path

import torch
from bench_generate import time_stream
from bench_train import read_speeds
from datasets import DatasetDict
from harness import RESULTS, ROOT, Command, Run, machine, parse_args, run, save, table, time_call
from random_models import BATCH_SIZE, SHAPES, make_dataset, make_model

from chatter.generation.choose_engine import load_engine
from chatter.gpu import has_bf16
from chatter.training.loss import IGNORED_LABEL

NUM_STEPS = 10
PROMPT = "what game is this?"
GPU_PEAK = r"peak of GPU memory: ([\d.]+) GB"  # in what a run prints, by PyTorch's own count
LORA_REFERENCE = "LoRA --no-deepspeed"  # which DeepSpeed's LoRA is compared with
AT_ONCE = max(1, min(8, (os.cpu_count() or 1) // 2))  # runs of the small model, which are not timed
TOLERANCE = {"fp32": 1e-4, "fp16": 2e-2, "bf16": 3e-2}  # of a mean loss near 11, beside float32
TF32 = 2e-3  # of a mean loss in float32 whose matrix products are rounded to 10 bits
SHAPES["tiny"] = (32, 2, 2)
MODES = {
    "default": [],
    "--offload": ["--offload"],
    "--no-deepspeed": ["--no-deepspeed"],
    "--no-deepspeed --compile": ["--no-deepspeed", "--compile"],
}
# Rows of the speed table: name -> options, and the bar in tokens per second on an H100; None if there is none.
SPEED = {
    "train.py": ([], 60_000),
    "--offload": (["--offload"], 25_000),
    "--no-offload --micro-batch-size 8": (["--no-offload", "--micro-batch-size", "8"], None),
    "--no-deepspeed": (["--no-deepspeed"], None),
    "--no-deepspeed --compile": (["--no-deepspeed", "--compile"], 110_000),
    "--lora-rank 16": (["--lora-rank", "16"], None),
    "--gradient-checkpointing": (["--gradient-checkpointing"], None),
}


@dataclass(frozen=True)
class Place:
    """Where the checks run, and their model and dataset."""

    scratch: Path
    device: str
    model: Path

    @property
    def speed_model(self) -> Path:
        return self.scratch / "speed/model"

    @property
    def rehearsal(self) -> bool:
        return self.device == "cpu"

    def train(self, name: str, *options: str | Path) -> tuple[Path, Command]:
        """Return the output folder of a run of train.py, and its command."""
        folder = self.scratch / name.replace(" ", "").replace(",", "-")
        command = [sys.executable, "train.py", "--model", self.model, "--dataset-dir", self.scratch / "dataset"]
        command += ["--output-dir", folder, "--device", self.device, "--epochs", str(NUM_STEPS)]
        return folder, [*command, "--warmup-epochs", "2", *options]


@dataclass
class Checks:
    """The rows of the table, written to `path` after each; `failed` is True if a check of correctness did not pass."""

    head: str
    path: Path | None
    rows: list[dict] = field(default_factory=list)
    failed: bool = False

    def add(self, name: str, expected: str, measured: str, passed: bool | None, correctness: bool = True) -> None:
        """Add a row. `passed` is None where there is nothing to compare with."""
        result = {True: "yes", False: "NO" if correctness else "no", None: ""}[passed]
        self.rows.append({"check": name, "expected": expected, "measured": measured, "passed": result})
        self.failed |= correctness and passed is False
        print(f"{name}: {measured} (expected: {expected}) {result}", file=sys.stderr, flush=True)
        if self.path:
            self.path.write_text(self.text)

    @property
    def text(self) -> str:
        return f"{self.head}\n\n{table(self.rows)}\n"

    def add_near(self, name: str, value: float, wanted: float, tolerance: float) -> None:
        passed = abs(value - wanted) <= tolerance  # False for nan
        self.add(name, f"{wanted:.4f} within {tolerance:g}", f"{value:.4f}", passed)

    @contextmanager
    def going_on(self, name: str, correctness: bool = True) -> Iterator[None]:
        """Turn an error into a row."""
        try:
            yield
        except (Exception, SystemExit) as error:  # harness.run exits with the output of a command that fails
            traceback.print_exc()
            [*_, last] = str(error).strip().splitlines() or [type(error).__name__]
            self.add(name, "no error", last[:200], False, correctness)


def read_number(done: Run, pattern: str) -> float:
    """Return the last number that a pattern finds in what a run printed; 0 if it finds none."""
    found = re.findall(pattern, done.output)
    return float(found[-1]) if found else 0.0


def read_history(folder: Path) -> list[dict]:
    return json.loads((folder / "metrics.json").read_text())["history"]


def losses_of(folder: Path) -> tuple[float, float, float]:
    """Return what a run reported: the test loss before training, the mean loss in training, the last test loss."""
    history, tests = read_history(folder), read_test_losses(folder)
    return tests[0], next(entry["loss"] for entry in history if "loss" in entry), tests[-1]


def read_test_losses(folder: Path) -> list[float]:
    """Return the test losses that a run reported, the first before training."""
    return [entry["eval_loss"] for entry in read_history(folder) if "eval_loss" in entry]


def load_blocks(place: Place, split: str) -> torch.Tensor:
    return DatasetDict.load_from_disk(place.scratch / "dataset")[split].with_format("torch")["input_ids"][:].long()


def mean_loss(network: torch.nn.Module, blocks: torch.Tensor) -> float:
    """Return the mean loss over all tokens in float32, by transformers alone."""
    with torch.no_grad():
        chunks = blocks.to(network.device).split(8)
        losses = [network(input_ids=chunk, labels=chunk).loss.item() * len(chunk) for chunk in chunks]
    return sum(losses) / len(blocks)


def plain_loop(place: Place) -> tuple[float, float, float]:
    """Return the three losses of `losses_of`, after the same steps in plain PyTorch, in float32 on the same device.

    A step takes the whole split, so that the order of the blocks does not matter, and the model has no dropout.
    """
    from transformers import AutoModelForCausalLM

    network = AutoModelForCausalLM.from_pretrained(place.model, dtype=torch.float32).to(place.device)
    network.loss_type = "ForCausalLM"
    train, test = load_blocks(place, "train").to(place.device), load_blocks(place, "test")
    before, losses = mean_loss(network.eval(), test), []
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.0)
    shares = [0.5, 1, *(left / 8 for left in range(8, -1, -1))]  # of the learning rate: a warm-up of 2 steps
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, shares.__getitem__)
    network.train()
    for _ in range(NUM_STEPS):
        total = 0.0
        for chunk in train.split(8):
            loss = network(input_ids=chunk, labels=chunk).loss * len(chunk) / len(train)
            loss.backward()
            total += loss.item()
        losses.append(total)
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return before, sum(losses) / NUM_STEPS, mean_loss(network.eval(), test)


def check_training(checks: Checks, place: Place) -> None:
    """Compare each mode and precision with the plain loop, and LoRA with the plain Trainer's."""
    wanted = plain_loop(place)
    runs = {}
    for precision in TOLERANCE:
        if precision == "fp16" and place.rehearsal:
            continue  # DeepSpeed refuses it on a CPU where it is slow
        if precision == "bf16" and not place.rehearsal and not has_bf16():
            continue
        for mode, options in MODES.items():
            if "--compile" not in options or precision == "fp32":
                runs[f"{mode}, {precision}"] = ["--precision", precision, *options]
    lora = ["--precision", "fp32", "--lora-rank", "4", "--learning-rate", "0.05"]
    runs |= {"LoRA": lora, LORA_REFERENCE: [*lora, "--no-deepspeed"]}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        done = {name: pool.submit(train, place, name, options) for name, options in runs.items()}
    for name, future in done.items():
        with checks.going_on(name):
            folder, output = future.result()
            tolerance = TOLERANCE[name.split(", ")[1]] if "LoRA" not in name else 2e-3
            if not place.rehearsal and has_bf16():
                tolerance = max(tolerance, TF32)
            losses, target = losses_of(folder), wanted
            if name.startswith("LoRA"):
                moved = losses[0] - losses[1]  # on the training blocks: the others are random, too
                checks.add(f"{name}: the loss falls", "by more than 0.02", f"{moved:.3f}", moved > 0.02)
                target = losses_of(place.scratch / LORA_REFERENCE.replace(" ", ""))
            if name != LORA_REFERENCE:
                worst = max(abs(loss - want) for loss, want in zip(losses, target, strict=True))
                measured = ", ".join(f"{loss:.4f}" for loss in losses)
                expected = f"{', '.join(f'{loss:.4f}' for loss in target)} within {tolerance:g}"
                checks.add(f"{name}: loss before, in and after training", expected, measured, worst <= tolerance)
            num_samples = output.count("\n    chat: ")
            checks.add(f"{name}: samples", "1 or more", str(num_samples), num_samples > 0)


def train(place: Place, name: str, options: list[str]) -> tuple[Path, str]:
    """Train the small model; return its folder, and what train.py printed."""
    folder, command = place.train(name, *options)
    return folder, run(command).output


def train_default(place: Place) -> Path:
    """Return the folder of the default run in fp32, and train it unless `check_training` has."""
    folder = place.scratch / "default-fp32"
    return folder if folder.exists() else train(place, "default, fp32", ["--precision", "fp32"])[0]


def check_resuming(checks: Checks, place: Place) -> None:
    """Stop a run with SIGTERM, resume it, and compare its last loss with an uninterrupted run's."""
    undisturbed = losses_of(train_default(place))[2]
    folder, command = place.train("stopped", "--precision", "fp32")
    process = subprocess.Popen(list(map(str, command)), cwd=ROOT, stderr=subprocess.DEVNULL)
    marker = Path(f"{folder}-checkpoints/checkpoint-3/run.json")
    while process.poll() is None and not marker.exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    code = process.wait()
    checks.add("exit code after SIGTERM", "143", str(code), code == 143)
    run([*command, "--resume"])
    checks.add_near("stopped and resumed: the last test loss", losses_of(folder)[2], undisturbed, 1e-3)


def check_memory(checks: Checks, place: Place) -> None:
    """Train with micro-batches that fit no GPU, and with less memory than was estimated.

    In a rehearsal a spy raises PyTorch's error.
    """
    folder = place.scratch / "too-much"
    folder.mkdir()
    spy = [sys.executable, "tests/spies/out_of_memory.py", "train.py"]
    plain = [sys.executable, "train.py"]
    num_blocks, length = (24, 32) if place.rehearsal else (8192, 512)  # logits of 400 GB
    make_dataset(folder, place.model, num_blocks, length)
    command = ["--model", place.model, "--dataset-dir", folder / "dataset", "--output-dir", folder / "model"]
    command += ["--device", place.device, "--no-deepspeed"]
    size = ["--batch-size", str(num_blocks), "--micro-batch-size", str(num_blocks)]
    command = list(map(str, [*(spy if place.rehearsal else plain), *command, *size]))
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    [*_, last] = done.stderr.splitlines() or [""]
    passed = done.returncode == 1 and "error: out of GPU memory. Pass a lower --micro-batch-size" in last
    checks.add("out of memory", "exit code 1, out of GPU memory", f"exit code {done.returncode}, {last[:90]}", passed)
    _, command = place.train("less-memory")
    limit = {"TOKENS": "128"} if place.rehearsal else {"BYTES": "1.7e9"}  # enough for half of a micro-batch
    command = list(map(str, [*spy, *command[2:], "--max-steps", "3"]))
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ | limit)
    again = [line for line in done.stderr.splitlines() if "starting again" in line]
    measured, passed = f"exit code {done.returncode}, {'; '.join(again)}", bool(again) and not done.returncode
    checks.add("less memory than estimated", "exit code 0, starting again", measured, passed)


def check_engines(checks: Checks, place: Place) -> None:
    """Compare the loss that a run reported with the saved model's, in both engines of generate.py."""
    folder = train_default(place)
    reported, blocks = min(read_test_losses(folder)[1:]), load_blocks(place, "test")  # the best model is saved
    engine = load_engine(folder, place.device, "transformers")
    checks.add_near("the saved model in transformers", mean_loss(engine.model.float(), blocks), reported, TF32)
    if not find_spec("ctranslate2"):
        checks.add("the saved model in CTranslate2", "", "not installed", None)
        return
    engine = load_engine(folder, "cpu", "ctranslate2")
    scores = engine.model.score_batch([engine.tokens(block) for block in blocks.tolist()])
    scored = [score for result in scores for score in result.log_probs]
    assert len(scored) == blocks.numel() - len(blocks) and IGNORED_LABEL not in blocks
    loss = -sum(scored) / len(scored)
    checks.add_near("the saved model in CTranslate2", loss, reported, 0.05)


def check_speed(checks: Checks, place: Place) -> list[dict]:
    """Time the steps of train.py on gpt2-medium's shape in its modes, without evaluations, beside its peers."""
    shape, length, steps = ("tiny", 32, 20) if place.rehearsal else ("gpt2-medium", 512, 40)
    model, scratch = place.speed_model, place.speed_model.parent
    make_model(model, shape)
    make_dataset(scratch, model, BATCH_SIZE * steps, length)
    half = "fp32" if place.rehearsal else "bf16" if has_bf16() else "fp16"
    ours = [sys.executable, "bench/train_steps.py", "--dataset-dir", scratch / "dataset", "--device", place.device]
    ours += ["--max-steps", str(steps), "--model"]
    rows = []
    for name, (options, bar) in SPEED.items():
        rows += measure(checks, f"{name}, {half}", [*ours, model, "--precision", half, *options], bar)
    if not place.rehearsal:
        rows += measure(checks, "train.py, fp16", [*ours, model, "--precision", "fp16"], None)
        llama = [*ours, make_llama(scratch), "--precision", half]
        rows += measure(checks, f"Llama of SmolLM2-135M's shape, {half}", llama, None)
    size = str(BATCH_SIZE)
    peer = [model, scratch / "dataset", str(steps), size]
    trainer = [sys.executable, "bench/peers/train_trainer.py", *peer, "8", half, scratch / "peer"]
    rows += measure(checks, f"the plain Trainer, micro-batches of 8, {half}", trainer, None)
    loop = [sys.executable, "bench/peers/train_loop.py", *peer, size, half]
    rows += measure(checks, f"hand-written loop, compiled, {half}", loop, None)
    return rows


def measure(checks: Checks, name: str, command: Command, bar: int | None) -> list[dict]:
    """Return the row of one run, and add what it measured to the checks: speed, and memory beside the estimate."""
    with checks.going_on(name, correctness=False):
        done = run(command)
        speeds = read_speeds(done)
        estimated, peak = read_number(done, r"GPU memory +about ([\d.]+)"), read_number(done, GPU_PEAK)
        row = {"name": name, "tokens/s": statistics.median(speeds), "MFU": read_number(done, r"MFU ([\d.]+)")}
        row |= {"GPU peak GB": peak, "GPU GB, estimated": estimated}
        row |= {"host peak GB": read_number(done, r"peak of host memory: ([\d.]+)")}
        facts = f"{', '.join(f'{speed:,.0f}' for speed in speeds)} tokens/s"
        facts += f", MFU {row['MFU']:.2f}" if row["MFU"] else ""
        facts += f", {row['host peak GB']:.1f} GB of host memory" if row["host peak GB"] else ""
        facts += f"; {done.seconds:.0f} s in all"
        on_h100 = bar and torch.cuda.is_available() and "H100" in torch.cuda.get_device_name()
        passed = row["tokens/s"] >= bar if on_h100 else None
        checks.add(name, f"{bar:,} tokens/s or more on an H100" if bar else "", facts, passed, correctness=False)
        if estimated and peak:
            near, expected = abs(estimated / peak - 1) <= 0.15, f"{estimated:.1f} GB within 15%"
            checks.add(f"{name}: GPU memory", expected, f"{peak:.2f} GB", near, correctness=False)
        return [row]
    return []


def make_llama(scratch: Path) -> Path:
    """Save a Llama with the shape of SmolLM2-135M, without weights, which starts from random ones."""
    from transformers import LlamaConfig

    folder = scratch / "llama"
    shutil.copytree(scratch / "model", folder, ignore=shutil.ignore_patterns("*.safetensors", "*config.json"))
    LlamaConfig(
        vocab_size=50_258,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
    ).save_pretrained(folder)
    return folder


def check_generation(checks: Checks, place: Place) -> None:
    """Time generate.py on the model of the speed check: one message from a cold start, 100 at once, and a stream."""
    if not (place.speed_model / "model.safetensors").exists():
        make_model(place.speed_model, "tiny" if place.rehearsal else "gpt2-medium")
    command = [sys.executable, "generate.py", "--model", place.speed_model, "--device", place.device]
    command += ["--engine", "transformers", "--max-new-tokens", "32"]
    for name, count in (("generate.py, cold", 1), ("generate.py -n 100, cold", 100)):
        with checks.going_on(name):
            seconds = time_call(lambda count=count: run([*command, PROMPT, "-n", str(count)]))
            checks.add(name, "no error", f"{seconds:.1f} s, {count / seconds:.1f} messages/s", True)
    for name, options in (("generate.py --stream", []), ("generate.py --stream --compile", ["--compile"])):
        with checks.going_on(name):
            seconds, _ = time_stream([*command, "--stream", *options], [PROMPT] * (NUM_STEPS + 1))
            checks.add(name, "no error", f"{statistics.median(seconds) * 1000:.0f} ms for a message", True)


def make_place(scratch: Path) -> Place:
    """Make a model with random weights and no dropout, and blocks for one step of training."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = scratch / "model"
    make_model(model, "tiny" if device == "cpu" else "small")
    config = json.loads((model / "config.json").read_text())
    config |= {f"{part}_pdrop": 0.0 for part in ("attn", "embd", "resid")}
    (model / "config.json").write_text(json.dumps(config))
    make_dataset(scratch, model, BATCH_SIZE, 32 if device == "cpu" else 128)
    return Place(scratch, device, model)


CHECKS: dict[str, Callable[[Checks, Place], object]] = {
    "training": check_training,
    "resuming": check_resuming,
    "memory": check_memory,
    "engines": check_engines,
    "speed": check_speed,
    "generation": check_generation,
}


def main() -> None:
    args = parse_args(__doc__, rounds=None, options={"--rows": {"nargs": "+", "choices": CHECKS, "default": [*CHECKS]}})
    cuda, started = torch.cuda.is_available(), time.perf_counter()
    facts, figures = machine(), {}
    versions = ", ".join(f"{package} {version}" for package, version in facts["versions"].items())
    today, gpu = date.today().isoformat(), facts.get("gpu", "no GPU: a rehearsal on the CPU")
    head = f"{today}, {gpu}, {facts['cpu']}, Python {facts['python']}, {versions}"
    print(head)
    RESULTS.mkdir(exist_ok=True)
    part = "" if {*args.rows} == {*CHECKS} else f"-{'-'.join(args.rows)}"  # a part does not replace the whole
    checks = Checks(head, RESULTS / f"{args.machine}-gpu{part}.md" if cuda else None)
    with tempfile.TemporaryDirectory() as scratch:
        place = make_place(Path(scratch))
        for name in args.rows:
            with checks.going_on(name):
                figures[name] = CHECKS[name](checks, place)
    checks.head += f"; {', '.join(args.rows)} in {time.perf_counter() - started:.0f} s"
    print(f"\n{checks.text}")
    if checks.path:
        checks.path.write_text(checks.text)
        if figures.get("speed"):
            save("gpu", {"date": today, "speed": figures["speed"], "rows": checks.rows}, args)
    sys.exit(checks.failed)


if __name__ == "__main__":
    main()
