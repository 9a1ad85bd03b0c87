"""Ill-treat the stages, and print what survived: a row a fault, nothing may be lost.

Kills at random moments, full disks, damaged and locked inputs, two runs at once, and ten million lines of noise. After
each, nothing half-written may stand under a final name, an error is one line, and a rerun gives what an undisturbed run
gives: the same bytes, or for training the same weights to within TOLERANCE.

python bench/soak.py
"""

import argparse
import hashlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from harness import ROOT, Command, run, sample_logs, table
from safetensors.numpy import load_file
from tqdm import tqdm

sys.path.insert(0, str(ROOT))
from parse_logs import KINDS, parse_logs

TOLERANCE = 1e-6  # of a weight: threads add up in another order
MODEL = ROOT / "models/tiny-gpt2"


@dataclass
class Stage:
    """A script, its input, and how to read its output; `rerun` are the options to go on with after a fault."""

    script: str
    reads: Path
    options: list[str | Path]
    output: str  # the option that names it
    rerun: tuple[str, ...] = ()

    def command(self, output: Path, again: bool = False) -> Command:
        return [sys.executable, self.script, *self.options, self.output, output, *(self.rerun if again else ())]

    def result(self, output: Path) -> dict:
        """Read the weights, or digest each file; {} where there is nothing."""
        if self.script == "train.py":
            weights = output / "model.safetensors"
            return load_file(weights) if output.exists() else {}  # a folder without weights is half-written: an error
        files = sorted(path for path in output.rglob("*") if path.is_file() and path.name[0] != ".")
        return {str(path.relative_to(output)): hashlib.sha256(path.read_bytes()).digest() for path in files}


def same(found: dict, wanted: dict) -> bool:
    if found.keys() != wanted.keys():
        return False
    pairs = [(found[name], wanted[name]) for name in wanted]
    return all(a == b if isinstance(a, bytes) else np.allclose(a, b, rtol=0, atol=TOLERANCE) for a, b in pairs)


def part_of(found: dict, wanted: dict) -> bool:
    """Whether all that is there is right. Each CSV is renamed for itself, so some may be there and others not."""
    return all(name in wanted for name in found) and same(found, {name: wanted[name] for name in found})


def start(command: Command) -> subprocess.Popen:
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    return subprocess.Popen([*map(str, command)], cwd=ROOT, **pipes, start_new_session=True)


def finish(command: Command) -> tuple[int, str]:
    """Run a command to its end; give its exit code and what it said."""
    process = start(command)
    said = process.communicate()[1].decode(errors="replace")
    return process.returncode, said


class Lost(Exception):
    """What a fault destroyed."""


def expect(condition: bool, what: str) -> None:
    if not condition:
        raise Lost(what)


def expect_one_line_error(stage: Stage, code: int, said: str) -> None:
    is_one = code == 1 and "Traceback" not in said and said.splitlines()[-1].startswith(f"{stage.script}: error: ")
    expect(is_one, f"exit code {code}: {said[-2000:]}")


def kill(stage: Stage, wanted: dict, seconds: float, scratch: Path, rng: random.Random) -> None:
    """Kill a run with all its processes at a random moment, look at what is there, and run again."""
    process = start(stage.command(scratch / "out"))
    time.sleep(rng.uniform(0, seconds))
    os.killpg(process.pid, 9)
    process.communicate()
    found = stage.result(scratch / "out")
    expect(part_of(found, wanted), "half-written")
    if stage.rerun and found:  # it had ended
        return
    code, said = finish(stage.command(scratch / "out", again=True))
    expect(code == 0 and same(stage.result(scratch / "out"), wanted), f"another result: {said[-2000:]}")


@contextmanager
def small_disk(folder: Path, size: int):
    """Mount a disk of so many bytes; a PermissionError where one may not."""
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        raise PermissionError("no right to mount a disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def fill_disk(stage: Stage, wanted: dict, seconds: float, scratch: Path, rng: random.Random) -> None:
    """Run on a disk that is too small by a random amount."""
    finish(stage.command(scratch / "whole"))
    size = sum(path.stat().st_size for path in scratch.glob("whole*/**/*") if path.is_file())
    with small_disk(scratch / "disk", max(4096, int(size * rng.uniform(0.02, 0.9)))) as disk:
        code, said = finish(stage.command(disk / "out"))
        found = stage.result(disk / "out")
        if code == 0:  # it suffices after all: less is there on the way than at the end
            expect(same(found, wanted), "another result")
            return
        expect_one_line_error(stage, code, said)
        expect(part_of(found, wanted), "half-written")


def with_copy_of_input(stage: Stage, copy: Path) -> Stage:
    shutil.copytree(stage.reads, copy)
    options = [copy if option == stage.reads else option for option in stage.options]
    return Stage(stage.script, copy, options, stage.output)


def damage(stage: Stage, wanted: dict, seconds: float, scratch: Path, rng: random.Random) -> None:
    """Truncate a file of the input, or flip a bit of it: an error in one line, or a result that is whole in form."""
    stage = with_copy_of_input(stage, scratch / "in")
    victim = rng.choice(sorted(path for path in stage.reads.rglob("*") if path.is_file() and path.stat().st_size))
    content = bytearray(victim.read_bytes())
    place = rng.randrange(len(content))
    if rng.random() < 0.5:
        del content[place:]
    else:
        content[place] ^= 1 << rng.randrange(8)
    victim.write_bytes(content)
    code, said = finish(stage.command(scratch / "out"))
    found = stage.result(scratch / "out")
    if code:
        expect_one_line_error(stage, code, said)
        expect(part_of(found, wanted), "half-written")
    else:
        expect(bool(found), "no result")


def lock(stage: Stage, wanted: dict, seconds: float, scratch: Path, rng: random.Random) -> None:
    """Take away the right to read a file of the input, and from root the right to read all the same."""
    stage = with_copy_of_input(stage, scratch / "in")
    victim = rng.choice(sorted(path for path in stage.reads.rglob("*") if path.suffix in {".txt", ".csv", ".arrow"}))
    victim.chmod(0)
    rights = "-dac_override,-dac_read_search"
    without = ["setpriv", f"--bounding-set={rights}", f"--inh-caps={rights}"] if os.geteuid() == 0 else []
    code, said = finish([*without, *stage.command(scratch / "out")])
    expect_one_line_error(stage, code, said)
    expect(part_of(stage.result(scratch / "out"), wanted), "half-written")


def run_twice(stage: Stage, wanted: dict, seconds: float, scratch: Path, rng: random.Random) -> None:
    """Start two runs on the same output, the second somewhat later: one at least ends right, and nothing is torn."""
    first = start(stage.command(scratch / "out"))
    time.sleep(rng.uniform(0, seconds))
    second = finish(stage.command(scratch / "out"))
    said = first.communicate()[1].decode(errors="replace")
    ends = [(first.returncode, said), second]
    for code, said in ends:
        if code:
            expect_one_line_error(stage, code, said)
    expect(any(code == 0 for code, _ in ends), f"both failed: {ends}")
    expect(same(stage.result(scratch / "out"), wanted), "torn")


def noise(num_lines: int, scratch: Path, rng: np.random.Generator) -> tuple[int, int]:
    """Parse lines with random bytes in them; give the numbers of lines, and of those that the summary accounts for."""
    logs = scratch / "noise"
    logs.mkdir()
    text = b"".join(path.read_bytes() for path in sorted((ROOT / "data/sample_logs").iterdir()))
    text += b"".join(path.read_bytes() for path in sorted((ROOT / "tests/golden").glob("*.[tl]*"))) * 200
    sample, total = np.frombuffer(text, np.uint8), 0
    while total < num_lines:
        noisy = sample.copy()
        places = rng.integers(0, len(noisy), len(noisy) // 200)  # one in every third line
        noisy[places] = rng.choice(np.frombuffer(b"\n\r \0:[]#@;=\xff\xe2" + bytes(range(256)), np.uint8), len(places))
        content = noisy.tobytes().removesuffix(b"\n") + b"\n"
        (logs / f"{total}.txt").write_bytes(content)
        total += content.count(b"\n")
    counts, _ = parse_logs(logs, scratch / "noise-raw", jobs=os.cpu_count() or 1)
    return total, sum(each[kind] for each in counts.values() for kind in KINDS)


def stages_on(logs: Path, scratch: Path) -> list[Stage]:
    """Make the inputs behind the logs: CSVs and blocks."""
    raw, blocks = scratch / "raw", scratch / "blocks"
    few = scratch / "few"  # for training
    few.mkdir()
    parse = Stage("parse_logs.py", logs, ["--logs-dir", logs], "--output-dir")
    tokenize = Stage("tokenize_logs.py", raw, ["--input-dir", raw, "--model", MODEL], "--output-dir")
    train = Stage("train.py", blocks, ["--dataset-dir", blocks], "--output-dir", ("--resume",))
    train.options += ["--model", MODEL, "--micro-batch-size", "24", "--epochs", "2"]
    run(parse.command(raw))
    csv = min(raw.iterdir())
    (few / csv.name).write_bytes(b"".join(csv.read_bytes().splitlines(keepends=True)[:600]))
    some = Stage("tokenize_logs.py", few, ["--input-dir", few, "--model", MODEL, "--block-size", "128"], "--output-dir")
    run(some.command(blocks))
    return [parse, tokenize, train]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tries", type=int, default=20, help="of a kill a stage; other faults take a part of it (20)")
    parser.add_argument("--noise", type=int, default=10_000_000, help="lines of noise to parse (10,000,000)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # the attempts share the cores, and torch's threads would wait for each other
    faults: dict[str, tuple[Callable, int]] = {
        "kill -9": (kill, args.tries),
        "full disk": (fill_disk, args.tries // 4),
        "damaged input": (damage, args.tries // 2),
        "locked input": (lock, args.tries // 10),
        "two runs at once": (run_twice, args.tries // 4),
    }
    rows = []
    with (
        tempfile.TemporaryDirectory() as name,
        sample_logs(400_000) as logs,
        ThreadPoolExecutor(os.cpu_count()) as pool,
    ):
        scratch = Path(name)
        for stage in stages_on(logs, scratch):
            seconds = run(stage.command(scratch / "undisturbed")).seconds
            wanted = stage.result(scratch / "undisturbed")
            for fault, (cause, tries) in faults.items():

                def attempt(number: int, cause=cause, fault=fault, stage=stage, wanted=wanted, seconds=seconds) -> bool:
                    (folder := scratch / f"{fault}-{number}").mkdir()
                    rng = random.Random(f"{args.seed} {stage.script} {fault} {number}")
                    try:
                        cause(stage, wanted, seconds, folder, rng)
                    except Lost as lost:
                        tqdm.write(f"{stage.script}: {fault} {number}: {lost}", file=sys.stderr)
                        return False
                    finally:
                        shutil.rmtree(folder)
                    return True

                attempts = pool.map(attempt, range(tries))
                try:
                    survived = sum(tqdm(attempts, total=tries, desc=f"{stage.script}: {fault}", disable=None))
                except PermissionError as error:
                    fault, tries, survived = f"{fault}: not run, {error}", 0, 0
                rows.append({"stage": stage.script, "fault": fault, "tries": tries, "survived": survived})
                rows[-1]["lost"] = tries - survived
            for left in scratch.glob("undisturbed*"):
                shutil.rmtree(left)
        lines, accounted = noise(args.noise, scratch, np.random.default_rng(args.seed))
        rows.append({"stage": "parse_logs.py", "fault": "lines of noise", "tries": lines, "survived": accounted})
        rows[-1]["lost"] = lines - accounted
    print(table(rows))
    sys.exit(any(row["lost"] for row in rows))


if __name__ == "__main__":
    main()
