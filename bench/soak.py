"""Break the stages on purpose, and check that nothing is lost: a row for each stage and fault.

The faults are kills and SIGTERM at random moments, full disks, damaged and unreadable input, logs that are joined, cut,
copied or mixed, two runs at once, streams that are closed or full, outputs that are links or contain files of others,
and ten million lines of noise. After each, no output may be half-written, an error must be one line, and a rerun must
give the result of an undisturbed run: the same bytes or, for training, the same weights up to TOLERANCE. The exit code
is 1 if anything was lost.

    python bench/soak.py
    python bench/soak.py --quick   2 tries of each fault per stage, and 100,000 lines of noise
"""

from __future__ import annotations

import gzip
import hashlib
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from harness import ROOT, Command, parse_args, run, sample_logs, save, table
from safetensors import SafetensorError
from safetensors.numpy import load_file
from tqdm import tqdm

from chatter.cli import bounded, positive_int
from chatter.files import STAGING
from chatter.logs.formats import KINDS
from parse_logs import parse_logs

TOLERANCE = 1e-6  # of a weight: threads add numbers in another order each time
MODEL = ROOT / "models/tiny-gpt2"
Result = dict[str, bytes | np.ndarray]  # file name -> digest, or parameter name -> weights


@dataclass(frozen=True)
class Stage:
    """A script, its input, and its options."""

    script: str
    input_dir: Path
    options: tuple[str | Path, ...]  # without --output-dir
    resume: tuple[str, ...] = ()  # options to continue after a kill
    replace: tuple[str, ...] = ()  # options to replace an output

    def command(self, output_dir: Path, *options: str) -> Command:
        return [sys.executable, self.script, *self.options, "--output-dir", output_dir, *options]

    def result(self, output_dir: Path) -> Result:
        """Return the weights, or a digest of each file; {} if there is no output."""
        if self.script == "train.py":
            # A folder without weights is half-written: an error.
            return load_file(output_dir / "model.safetensors") if output_dir.exists() else {}
        names = sorted(path.relative_to(output_dir) for path in output_dir.rglob("*") if path.is_file())
        shown = [name for name in names if not any(part[0] == "." for part in name.parts)]  # others are not results
        return {str(name): hashlib.sha256((output_dir / name).read_bytes()).digest() for name in shown}

    def with_copy_of_input(self, copy: Path) -> Stage:
        """Return a stage that reads `copy`, a new copy of the input."""
        shutil.copytree(self.input_dir, copy)
        options = tuple(copy if option == self.input_dir else option for option in self.options)
        return replace(self, input_dir=copy, options=options)


@dataclass(frozen=True)
class Case:
    """A stage to break, with the result and the time of an undisturbed run."""

    stage: Stage
    wanted: Result  # of an undisturbed run
    seconds: float  # that an undisturbed run takes
    scratch: Path  # an empty folder
    rng: random.Random


class Lost(Exception):
    """What a fault destroyed."""


def expect(condition: bool, what: str) -> None:
    """Raise Lost unless the condition holds."""
    if not condition:
        raise Lost(what)


def is_same(found: Result, wanted: Result) -> bool:
    if found.keys() != wanted.keys():
        return False
    pairs = [(found[name], wanted[name]) for name in wanted]
    return all(a == b if isinstance(a, bytes) else np.allclose(a, b, rtol=0, atol=TOLERANCE) for a, b in pairs)


def expect_part(found: Result, wanted: Result) -> None:
    """Raise Lost if a file is wrong. Files may be missing, because parse_logs.py moves its CSVs one by one."""
    is_part = all(name in wanted for name in found)
    expect(is_part and is_same(found, {name: wanted[name] for name in found}), "half-written")


def expect_plain_error(stage: Stage, code: int, stderr: str, text: str = "") -> None:
    """Raise Lost unless a run ended with exit code 1 and, as its last line, an error that contains `text`."""
    last_line = stderr.splitlines()[-1] if stderr else ""
    is_plain = last_line.startswith(f"{stage.script}: error: ") and text in last_line and "Traceback" not in stderr
    expect(code == 1 and is_plain, f"exit code {code}: {stderr[-2000:]}")


def start(command: Command, streams: str = "") -> subprocess.Popen:
    """Start a command; `streams` is what a shell does to its streams, as in `2>&-`."""
    if streams:
        command = ["sh", "-c", f"{shlex.join(map(str, command))} {streams}"]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    return subprocess.Popen([*map(str, command)], cwd=ROOT, **pipes, start_new_session=True)


def wait(process: subprocess.Popen) -> tuple[int, str]:
    """Wait for the end of a process; return its exit code and what it wrote to stderr."""
    stderr = process.communicate()[1].decode(errors="replace")
    return process.returncode, stderr


def expect_recovery(case: Case, output: Path) -> None:
    """Raise Lost unless a stopped run left correct files, and another run completes them."""
    stage = case.stage
    found = stage.result(output)
    expect_part(found, case.wanted)
    if stage.resume and found:  # it had ended
        return
    code, stderr = wait(start(stage.command(output, *stage.resume)))
    expect(code == 0 and is_same(stage.result(output), case.wanted), f"another result: {stderr[-2000:]}")


def kill(case: Case) -> None:
    """Kill a run with all its processes at a random moment, check what is there, and run it again."""
    stage, output = case.stage, case.scratch / "out"
    process = start(stage.command(output))
    time.sleep(case.rng.uniform(0, case.seconds))
    os.killpg(process.pid, 9)
    wait(process)
    expect_recovery(case, output)


def terminate(case: Case) -> None:
    """Send SIGTERM at a random moment, check how the run ends and what is there, and run it again."""
    stage, output = case.stage, case.scratch / "out"
    process = start(stage.command(output))
    time.sleep(case.rng.uniform(0, case.seconds))
    process.terminate()
    code, stderr = wait(process)
    expect(code in (0, 143, -signal.SIGTERM), f"exit code {code}: {stderr[-2000:]}")  # it may not have begun
    if code == 143:
        last_line = stderr.splitlines()[-1]
        expect(last_line == f"{stage.script}: terminated" or last_line.startswith("stopped at step"), stderr[-2000:])
        expect(not [*case.scratch.glob(".*.partial")] and not (output / STAGING).exists(), "half-written")
    expect_recovery(case, output)


def close_streams(case: Case) -> None:
    """Run with standard streams that are closed or full."""
    streams = case.rng.choice(["2>&-", "2>/dev/full", ">&-", "<&- 2>&-", "<&- >&- 2>&-"])
    code, stderr = wait(start(case.stage.command(case.scratch / "out"), streams))
    expect(code == 0 and is_same(case.stage.result(case.scratch / "out"), case.wanted), f"{streams}: {code} {stderr}")


def link_output(case: Case) -> None:
    """Run twice with an output that is a link."""
    output = case.scratch / "out"
    output.symlink_to(case.scratch / "disk/real")
    for options in ((), case.stage.replace):
        code, stderr = wait(start(case.stage.command(output, *options)))
        expect(code == 0 and output.is_symlink(), f"exit code {code}: {stderr[-2000:]}")
        expect(is_same(case.stage.result(output), case.wanted), "another result")


def put_others_files_there(case: Case) -> None:
    """Run with an output folder where files that the script did not write would be deleted or replaced."""
    stage, output = case.stage, case.scratch / "out"
    victim = output / case.rng.choice(sorted(case.wanted) if stage.script == "parse_logs.py" else ["notes.txt"])
    victim.parent.mkdir(parents=True)
    victim.write_text("name,age\n")
    code, stderr = wait(start(stage.command(output, *stage.replace)))
    expect_plain_error(stage, code, stderr, victim.name)
    expect(victim.read_text() == "name,age\n" and len([*output.rglob("*")]) == 1, "a file of somebody else")


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """Mount a disk of `size` bytes. Raises PermissionError without the right to mount."""
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        raise PermissionError("no permission to mount a disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def fill_disk(case: Case) -> None:
    """Run on a disk that is too small by a random amount."""
    stage = case.stage
    wait(start(stage.command(case.scratch / "whole")))
    size = sum(path.stat().st_size for path in case.scratch.glob("whole*/**/*") if path.is_file())
    with small_disk(case.scratch / "disk", max(4096, int(size * case.rng.uniform(0.02, 0.9)))) as disk:
        code, stderr = wait(start(stage.command(disk / "out")))
        found = stage.result(disk / "out")
        if code == 0:  # it was large enough after all
            expect(is_same(found, case.wanted), "another result")
            return
        expect_plain_error(stage, code, stderr)
        expect_part(found, case.wanted)


def damage(case: Case) -> None:
    """Truncate a file of the input, or flip a bit in it. Expect a one-line error or a complete result."""
    stage = case.stage.with_copy_of_input(case.scratch / "in")
    victim = case.rng.choice(
        sorted(path for path in stage.input_dir.rglob("*") if path.is_file() and path.stat().st_size)
    )
    content = bytearray(victim.read_bytes())
    place = case.rng.randrange(len(content))
    if case.rng.random() < 0.5:
        what = f"{victim.name} truncated to {place} bytes"
        del content[place:]
    else:
        what = f"{victim.name} with a flipped bit in byte {place}"
        content[place] ^= 1 << case.rng.randrange(8)
    victim.write_bytes(content)
    code, stderr = wait(start(stage.command(case.scratch / "out")))
    found = stage.result(case.scratch / "out")
    if code == 0:
        expect(bool(found), f"{what}: no result")
        return
    try:
        expect_plain_error(stage, code, stderr)
        expect_part(found, case.wanted)
    except Lost as lost:
        raise Lost(f"{what}: {lost}") from None


def read_rows(folder: Path) -> Counter[str]:
    """Count the rows of all CSVs in a folder."""
    return Counter(row for path in folder.rglob("*.csv") for row in path.read_text().split("\n")[1:-1])


def mix_up(case: Case) -> None:
    """Join, cut, copy or mix logs as people's scripts do. Every message that is left stays, once."""
    stage = case.stage.with_copy_of_input(case.scratch / "in")
    first, second = case.rng.sample(sorted(stage.input_dir.iterdir()), 2)
    wait(start(case.stage.command(case.scratch / "whole")))
    wanted, missing = read_rows(case.scratch / "whole"), 0
    lines, others = first.read_bytes().splitlines(keepends=True), second.read_bytes().splitlines(keepends=True)
    how = case.rng.choice(["joined", "cut", "copied", "gzipped copy", "mixed", "blank lines and \\r\\n"])
    if how == "joined":
        first.write_bytes(b"".join(lines + others))
        second.unlink()
    elif how == "cut":
        place = case.rng.randrange(sum(map(len, lines)))
        first.write_bytes(b"".join(lines)[:place])
        missing = b"".join(lines)[place:].count(b"\n") + 1
    elif how == "copied":
        shutil.copy(first, first.with_suffix(".log"))
    elif how == "gzipped copy":
        first.with_name(f"{first.name}.gz").write_bytes(gzip.compress(b"".join(lines)))
    elif how == "mixed":  # the order within each log stays
        places = sorted(case.rng.choices(range(len(lines) + 1), k=len(others)), reverse=True)
        for place, line in zip(places, reversed(others), strict=True):
            lines.insert(place, line)
        first.write_bytes(b"".join(lines))
        second.unlink()
    else:
        first.write_bytes(b"\n\n".join(lines).replace(b"\n", b"\r\n"))
    code, stderr = wait(start(stage.command(case.scratch / "out")))
    expect(code == 0, f"{how}: exit code {code}: {stderr[-2000:]}")
    found = read_rows(case.scratch / "out")
    new, gone = (found - wanted).total(), (wanted - found).total()
    expect(new <= (how == "cut") and gone <= missing, f"{how}: {new} new rows, {gone} of {missing} rows gone")


def make_unreadable(case: Case) -> None:
    """Take away the permission to read a file of the input, and root's capability to read it anyway."""
    stage = case.stage.with_copy_of_input(case.scratch / "in")
    data_files = [path for path in stage.input_dir.rglob("*") if path.suffix in {".txt", ".csv", ".arrow"}]
    case.rng.choice(sorted(data_files)).chmod(0)
    capabilities = "-dac_override,-dac_read_search"
    without_capabilities = ["setpriv", f"--bounding-set={capabilities}", f"--inh-caps={capabilities}"]
    prefix = without_capabilities if os.geteuid() == 0 else []
    code, stderr = wait(start([*prefix, *stage.command(case.scratch / "out")]))
    if code == 0:  # parse_logs.py skips the file
        expect("cannot be read: Permission denied" in stderr, stderr[-2000:])
    else:
        expect_plain_error(stage, code, stderr)
    expect_part(stage.result(case.scratch / "out"), case.wanted)


def run_twice(case: Case) -> None:
    """Start two runs on the same output, the second a random time after the first.

    Each either succeeds or ends because the other one is running. At least one succeeds, and the output is whole.
    """
    stage, output = case.stage, case.scratch / "out"
    first = start(stage.command(output, *stage.replace))
    time.sleep(case.rng.uniform(0, case.seconds))
    second = start(stage.command(output, *stage.replace))
    ends = [wait(first), wait(second)]
    for code, stderr in ends:
        if code:
            expect_plain_error(stage, code, stderr, "is in use by another run")
    expect(any(code == 0 for code, _ in ends), f"both failed: {ends}")
    expect(is_same(stage.result(output), case.wanted), "another result")


def parse_noise(num_lines: int, scratch: Path, rng: np.random.Generator) -> tuple[int, int]:
    """Parse lines with random bytes in them; return how many lines there are, and how many the counts add up to."""
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
    results, *_ = parse_logs(logs, scratch / "noise-raw", jobs=os.cpu_count() or 1)
    return total, sum(result.counts[kind] for result in results.values() for kind in KINDS)


def make_stages(logs: Path, scratch: Path) -> list[Stage]:
    """Return the stages with their inputs: the logs, and the CSVs and blocks that are made from them."""
    raw, blocks = scratch / "raw", scratch / "blocks"
    parse = Stage("parse_logs.py", logs, ("--logs-dir", logs))
    tokenize = Stage("tokenize_logs.py", raw, ("--input-dir", raw, "--model", MODEL))
    train = Stage(
        "train.py",
        blocks,
        # On the CPU: a GPU does not come to the same weights twice.
        ("--dataset-dir", blocks, "--model", MODEL, "--micro-batch-size", "24", "--epochs", "2", "--device", "cpu"),
        resume=("--resume",),
        replace=("--overwrite",),
    )
    run(parse.command(raw))
    (few := scratch / "few").mkdir()  # messages for training
    csv = min(raw.glob("*.csv"))
    (few / csv.name).write_bytes(b"".join(csv.read_bytes().splitlines(keepends=True)[:600]))
    tokenize_few = Stage("tokenize_logs.py", few, ("--input-dir", few, "--model", MODEL, "--block-size", "128"))
    run(tokenize_few.command(blocks))
    return [parse, tokenize, train]


def main() -> None:
    tries = {"type": positive_int, "default": 20, "help": "kills per stage; other faults get fewer tries"}
    noise = {"type": positive_int, "default": 10_000_000, "help": "lines of noise to parse"}
    seed = {"type": bounded(int, at_least=0), "default": 0, "help": "random seed of the faults"}
    args = parse_args(__doc__, rounds=None, options={"--tries": tries, "--noise": noise, "--seed": seed})
    os.environ["OMP_NUM_THREADS"] = "1"  # the tries share the cores, and torch's threads would wait for each other
    faults: dict[str, tuple[Callable[[Case], None], int]] = {
        "kill -9": (kill, args.tries),
        "full disk": (fill_disk, args.tries // 4),
        "damaged input": (damage, args.tries // 2),
        "unreadable input": (make_unreadable, args.tries // 10),
        "two runs at once": (run_twice, args.tries // 4),
        "SIGTERM": (terminate, args.tries // 2),
        "closed or full streams": (close_streams, args.tries // 4),
        "output is a link": (link_output, args.tries // 10),
        "others' files in the output": (put_others_files_there, args.tries // 10),
        "logs joined, cut, copied, mixed": (mix_up, args.tries),
    }
    if args.quick:
        faults = {name: (cause, 2) for name, (cause, _) in faults.items()}
        args.noise = 100_000
    rows = []
    with (
        tempfile.TemporaryDirectory() as folder,
        sample_logs(40_000 if args.quick else 400_000) as logs,
        ThreadPoolExecutor(os.cpu_count()) as pool,
    ):
        scratch = Path(folder)
        for stage in make_stages(logs, scratch):
            seconds = run(stage.command(scratch / "undisturbed")).seconds
            wanted = stage.result(scratch / "undisturbed")
            for fault, (cause, tries) in faults.items():
                if cause is mix_up and stage.script != "parse_logs.py":
                    continue

                def survives(
                    number: int, cause=cause, fault=fault, stage=stage, wanted=wanted, seconds=seconds
                ) -> bool:
                    (folder := scratch / f"{fault}-{number}").mkdir()
                    rng = random.Random(f"{args.seed} {stage.script} {fault} {number}")
                    try:
                        cause(Case(stage, wanted, seconds, folder, rng))
                    except (Lost, FileNotFoundError, SafetensorError) as lost:
                        tqdm.write(f"{stage.script}: {fault} {number}: {lost}", file=sys.stderr)
                        return False
                    finally:
                        shutil.rmtree(folder)
                    return True

                results = pool.map(survives, range(tries))
                try:
                    survived = sum(tqdm(results, total=tries, desc=f"{stage.script}: {fault}", disable=None))
                except PermissionError as error:
                    fault, tries, survived = f"{fault}: not run, {error}", 0, 0
                rows.append({"stage": stage.script, "fault": fault, "tries": tries, "survived": survived})
            for left in scratch.glob("undisturbed*"):
                shutil.rmtree(left)
        num_lines, num_counted = parse_noise(args.noise, scratch, np.random.default_rng(args.seed))
        rows.append({"stage": "parse_logs.py", "fault": "lines of noise", "tries": num_lines, "survived": num_counted})
    rows = [row | {"lost": row["tries"] - row["survived"]} for row in rows]
    print(table(rows))
    save("soak", {"rows": rows}, args)
    sys.exit(any(row["lost"] for row in rows))


if __name__ == "__main__":
    main()
