"""Check on a GPU, in ten minutes and without a network: correct training, resuming, speed, memory and generation.

Prints one table of checks, with what was expected and what was measured, and writes it to
bench/results/<machine>-gpu.md. Goes on after a failure. The exit code is 1 if a check of correctness failed; speed and
memory have bars, but do not fail. Without a GPU this is a rehearsal on the CPU with a tiny shape, which writes nothing.

    make gpu                       # in .venv
    make gpu RUN=python3           # with the installed packages, if .venv cannot be created
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
from bench_train import BATCH_SIZE, make_dataset, measure, peak_of
from datasets import DatasetDict
from harness import RESULTS, ROOT, SHAPES, Command, machine, make_model, parse_args, run, save, table, time_call

from chatter.generation.choose_engine import load_engine
from chatter.gpu import is_ampere
from chatter.training.loss import IGNORED_LABEL

NUM_STEPS = 10
TOLERANCE = {"fp32": 1e-4, "fp16": 2e-2, "bf16": 3e-2}  # of a mean loss near 11, beside float32
TF32 = 2e-3  # of a mean loss in float32 whose matrix products are rounded to 10 bits
SHAPES["tiny"] = (32, 2, 2)


@dataclass(frozen=True)
class Place:
    """Where the checks run, and their model and dataset."""

    scratch: Path
    device: str
    model: Path

    @property
    def rehearsal(self) -> bool:
        return self.device == "cpu"

    def train(self, name: str, *options: str | Path) -> tuple[Path, Command]:
        """Return the output folder of a run of train.py, and its command."""
        folder = self.scratch / name.replace(" ", "")
        command = [sys.executable, "train.py", "--model", self.model, "--dataset-dir", self.scratch / "dataset"]
        command += ["--output-dir", folder, "--device", self.device, "--epochs", str(NUM_STEPS)]
        return folder, [*command, "--warmup-epochs", "2", *options]


class Checks:
    """The rows of the table; `failed` is True if a check of correctness did not pass."""

    def __init__(self) -> None:
        self.rows, self.failed = [], False

    def add(self, name: str, expected: str, measured: str, passed: bool | None, correctness: bool = True) -> None:
        """Add a row. `passed` is None where there is nothing to compare with."""
        result = {True: "yes", False: "NO" if correctness else "no", None: ""}[passed]
        self.rows.append({"check": name, "expected": expected, "measured": measured, "passed": result})
        self.failed |= correctness and passed is False
        print(f"{name}: {measured} (expected: {expected}) {result}", file=sys.stderr)

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


def read_metrics(folder: Path) -> list[dict]:
    return json.loads((folder / "metrics.json").read_text())["history"]


def losses_of(folder: Path) -> tuple[float, float, float]:
    """Return what a run reported: the test loss before training, the mean loss in training, the last test loss."""
    history, tests = read_metrics(folder), read_test_losses(folder)
    return tests[0], next(entry["loss"] for entry in history if "loss" in entry), tests[-1]


def read_test_losses(folder: Path) -> list[float]:
    """Return the test losses that a run reported, the first before training."""
    return [entry["eval_loss"] for entry in read_metrics(folder) if "eval_loss" in entry]


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
    from transformers import AutoModelForCausalLM, get_linear_schedule_with_warmup

    network = AutoModelForCausalLM.from_pretrained(place.model, dtype=torch.float32).to(place.device)
    network.loss_type = "ForCausalLM"
    train, test = load_blocks(place, "train").to(place.device), load_blocks(place, "test")
    before, losses = mean_loss(network.eval(), test), []
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.0)
    schedule = get_linear_schedule_with_warmup(optimizer, 2, NUM_STEPS)
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
    """Compare each mode and precision with the plain loop."""
    wanted = plain_loop(place)
    names = ("the loss before the first step", "the mean loss of ten steps", "the last test loss")
    modes = {"ZeRO-3": [], "ZeRO-3 --no-offload": ["--no-offload"], "plain Trainer": ["--no-deepspeed"]}
    for precision, tolerance in TOLERANCE.items():
        if precision == "fp16" and place.rehearsal:
            continue  # DeepSpeed refuses it on a CPU where it is slow
        if precision == "bf16" and not place.rehearsal and not is_ampere():
            continue
        if precision == "fp32" and not place.rehearsal and is_ampere():
            tolerance = TF32
        for mode, options in modes.items():
            with checks.going_on(f"{mode}, {precision}"):
                folder, command = place.train(f"{mode}-{precision}", "--precision", precision, *options)
                done = run(command)
                for name, value, want in zip(names, losses_of(folder), wanted, strict=True):
                    checks.add_near(f"{mode}, {precision}: {name}", value, want, tolerance)
                num_samples = done.output.count("\n    chat: ")
                checks.add(f"{mode}, {precision}: samples", "1 or more", str(num_samples), num_samples > 0)


def check_resuming(checks: Checks, place: Place) -> None:
    """Stop a run with SIGTERM, resume it, and compare its last loss with an uninterrupted run's."""
    undisturbed = losses_of(place.scratch / "ZeRO-3-fp32")[2]
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


def check_out_of_memory(checks: Checks, place: Place) -> None:
    """Train with micro-batches that fit no GPU; in a rehearsal, with a spy that raises PyTorch's error."""
    folder = place.scratch / "too-much"
    folder.mkdir()
    command = [sys.executable, *(["tests/spies/out_of_memory.py"] if place.rehearsal else []), "train.py"]
    num_blocks, length = (24, 32) if place.rehearsal else (8192, 512)  # logits of 400 GB
    make_dataset(folder, place.model, num_blocks, length)
    command += ["--model", place.model, "--dataset-dir", folder / "dataset", "--output-dir", folder / "model"]
    size = ["--batch-size", str(num_blocks), "--micro-batch-size", str(num_blocks)]
    command += ["--device", place.device, "--no-deepspeed", *size]
    done = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True)
    [*_, last] = done.stderr.splitlines() or [""]
    passed = done.returncode == 1 and "error: out of GPU memory. Pass a lower --micro-batch-size" in last
    checks.add("out of memory", "exit code 1, out of GPU memory", f"exit code {done.returncode}, {last[:90]}", passed)


def check_engines(checks: Checks, place: Place) -> None:
    """Compare the loss that a run reported with the saved model's, in both engines of generate.py."""
    folder = place.scratch / "ZeRO-3-fp32"
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
    """Time the rows of bench_train.py on gpt2-medium's shape, and compare them with the bars."""
    shape, steps = ("tiny", 20) if place.rehearsal else ("gpt2-medium", 30)
    scratch = place.scratch / "speed"
    scratch.mkdir()
    make_model(scratch / "model", shape)
    make_dataset(scratch, scratch / "model", BATCH_SIZE * steps, 32 if place.rehearsal else 512)
    os.environ["TORCH_COMPILE_DISABLE"] = "1"
    gpu = "" if place.rehearsal else torch.cuda.get_device_name()
    precision = "fp32" if place.rehearsal else "bf16" if is_ampere() else "fp16"
    sampled = ["1 train.py"]
    rows = measure(scratch / "model", scratch, steps, precision, 1, place.device, sampled)
    ours, resident, _, trainer, loop, _ = rows
    speed = resident["tokens/s"]
    for row in rows:
        facts = f"{row['tokens/s']:,.0f} tokens/s" + (f", {row['GPU peak GB']:.1f} GB" if gpu else "")
        facts += f", MFU {row['MFU']:.2f}" if "MFU" in row else ""
        checks.add(f"{row['name']}, {precision}", "", facts, None)
    bars = [("--no-offload beside the plain Trainer", 1.0, trainer), ("--no-offload beside the loop", 0.9, loop)]
    for name, bar, other in bars:
        ratio = speed / other["tokens/s"]
        checks.add(name, f"{bar} or more", f"{ratio:.2f}", ratio >= bar, correctness=False)
    host = ours["peak MB"] / 1e3
    checks.add("host memory of the default", "under 16 GB", f"{host:.1f} GB", host < 16, correctness=False)
    if gpu:
        peak = ours["GPU peak GB"]
        checks.add("GPU memory of the default", "under 12 GB", f"{peak:.1f} GB", peak < 12, correctness=False)
    if gpu and peak_of(gpu) and is_ampere():
        mfu = resident["MFU"]
        checks.add("MFU of --no-offload", "0.4 or more", f"{mfu:.2f}", mfu >= 0.4, correctness=False)
    if place.rehearsal or resident.get("MFU", 0) < 0.4:
        for name, share in slowest_operations(place, scratch / "model"):
            checks.add(f"time in {name[:60]}", "", f"{share:.0%}", None)
    return rows


def slowest_operations(place: Place, model: Path) -> list[tuple[str, float]]:
    """Return the three operations that take longest in forward and backward, with their share of the time."""
    from torch.profiler import ProfilerActivity, profile
    from transformers import AutoModelForCausalLM

    from chatter.training.model import fuse_gelu

    dtype = torch.float32 if place.rehearsal else torch.float16
    network = fuse_gelu(AutoModelForCausalLM.from_pretrained(model, dtype=dtype)).to(place.device).train()
    ids = torch.randint(50_000, (8, 32 if place.rehearsal else 512), device=place.device)
    network(input_ids=ids, labels=ids).loss.backward()
    with profile(activities=[ProfilerActivity.CPU if place.rehearsal else ProfilerActivity.CUDA]) as profiled:
        network(input_ids=ids, labels=ids).loss.backward()
        if not place.rehearsal:
            torch.cuda.synchronize()
    kind = "self_cpu_time_total" if place.rehearsal else "self_device_time_total"
    events = [(event.key, getattr(event, kind)) for event in profiled.key_averages()]
    total = math.fsum(taken for _, taken in events) or 1.0
    return [(name, taken / total) for name, taken in sorted(events, key=lambda event: -event[1])[:3]]


def check_generation(checks: Checks, place: Place) -> None:
    """Time generate.py on the model of the speed check: one message from a cold start, and 100 at once."""
    command = [sys.executable, "generate.py", "--model", place.scratch / "speed/model", "--device", place.device]
    command += ["--engine", "transformers", "--max-new-tokens", "20", "what game is this?"]
    for name, options in (("generate.py, cold", []), ("generate.py -n 100", ["-n", "100"])):
        with checks.going_on(name):
            seconds = time_call(lambda options=options: run([*command, *options]))
            checks.add(name, "no error", f"{seconds:.1f} s", True)


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


def main() -> None:
    args = parse_args(__doc__, rounds=None)
    cuda = torch.cuda.is_available()
    print(f"{torch.cuda.get_device_name()}" if cuda else "no GPU: a rehearsal on the CPU")
    checks, started = Checks(), time.perf_counter()
    figures = {}
    with tempfile.TemporaryDirectory() as scratch:
        place = make_place(Path(scratch))
        steps: dict[str, Callable] = {
            "training": check_training,
            "resuming": check_resuming,
            "out of memory": check_out_of_memory,
            "engines": check_engines,
        }
        for name, check in steps.items():
            with checks.going_on(name):
                check(checks, place)
        with checks.going_on("speed", correctness=False):
            figures["speed"] = check_speed(checks, place)
        check_generation(checks, place)
    facts = machine()
    versions = ", ".join(f"{package} {version}" for package, version in facts["versions"].items())
    head = f"{facts.get('gpu', 'no GPU: a rehearsal on the CPU')}, {facts['cpu']}, Python {facts['python']}, {versions}"
    text = f"{head}\n\n{table(checks.rows)}\n\nIn {time.perf_counter() - started:.0f} s."
    print(f"\n{text}")
    if cuda:
        (RESULTS / f"{args.machine}-gpu.md").write_text(text + "\n")
        save("gpu", figures | {"rows": checks.rows}, args)
    sys.exit(checks.failed)


if __name__ == "__main__":
    main()
