"""chatter.cli: options, help, log lines and exit codes, which are the same in all scripts."""

import argparse
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT, SCRIPTS, SPIES, TINY, contents, ended, run, start, write_csv

from chatter.cli import bounded, make_parser, positive_int

SHELL = {  # what a shell does to the streams -> exit code of a script that writes to both and needs neither
    "2>&-": 0,
    "2>/dev/full": 0,
    "<&-": 0,
    "<&- 2>&-": 0,
    ">/dev/full": 1,
    ">&-": 1,
    "<&- >&- 2>&-": 1,
}


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        (bounded(int), "-7", -7),
        (bounded(int, at_least=3), "3", 3),
        (bounded(int, at_least=0, below=8), "7", 7),
        pytest.param(bounded(int, at_least=0), "9" * 400, int("9" * 400), id="huge"),
        (bounded(float), "-1e-3", -0.001),
        (bounded(float, above=0), "1e-300", 1e-300),
        (bounded(float, above=0, at_most=1), "1", 1.0),
        (bounded(float, above=0, below=1), ".5", 0.5),
        (positive_int, "1", 1),
    ],
)
def test_a_number_within_its_bounds_is_accepted(read, text, value):
    assert read(text) == value and type(read(text)) is type(value)


@pytest.mark.parametrize(
    ("read", "text", "error"),
    [
        (bounded(int, at_least=3), "2", "must be at least 3"),
        (bounded(int, at_least=0, below=8), "8", "must be less than 8"),
        pytest.param(bounded(int, below=2**63), "9" * 400, f"must be less than {2**63}", id="huge"),
        (bounded(float, above=0), "0", "must be more than 0"),
        (bounded(float, above=0, at_most=1), "1.5", "must be at most 1"),
        (bounded(float, above=0, below=1), "1", "must be less than 1"),
        (positive_int, "0", "must be at least 1"),
        (positive_int, "1.5", "must be a whole number, not '1.5'"),
        (bounded(int), "many", "must be a whole number, not 'many'"),
        (bounded(int), "", "must be a whole number, not ''"),
        (bounded(float), "many", "must be a number, not 'many'"),
        (bounded(float), "nan", "must be finite"),
        (bounded(float), "inf", "must be finite"),
        (bounded(float), "-inf", "must be finite"),
        (bounded(float), "1e999", "must be finite"),
        (bounded(float, above=0), "inf", "must be finite"),
        (bounded(float, above=0), "nan", "must be finite"),
        (bounded(float, above=0, below=1), "nan", "must be finite"),
    ],
)
def test_another_number_is_refused_as_argparse_refuses_it(read, text, error, capsys):
    parser = argparse.ArgumentParser(prog="script.py")
    parser.add_argument("--x", type=read)
    with pytest.raises(SystemExit) as ended:
        parser.parse_args([f"--x={text}"])
    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"script.py: error: argument --x: {error}"


def test_help_is_the_docstring_and_ends_with_its_commands():
    text = make_parser("What it does.\n\nReads   a\nWrites  b\n\n    python x.py\n    python x.py --y\n").format_help()
    assert "\nWhat it does.\n\nReads   a\nWrites  b\n" in text
    assert text.endswith("\n    python x.py\n    python x.py --y\n")


def test_help_shows_the_defaults_that_say_something():
    parser = make_parser("What it does.\n\n    python x.py\n")
    parser.add_argument("--size", default=512, help="tokens")
    parser.add_argument("--copies", help="how many")
    parser.add_argument("--text", default="", help="words")
    parser.add_argument("--flag", action="store_true", help="do it")
    parser.add_argument("--no-flag", dest="other", action="store_false", help="do not")
    options = parser.format_help().split("options:")[1]
    assert "tokens (default: 512)" in options and options.count("(default") == 1


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_shows_each_default_once(script):
    """The text of an option does not name the default that argparse adds, and a flag has none."""
    text = run(script, "--help", COLUMNS="1000").stdout
    options = re.findall(r"^  (-\S.*?)(?:  +|\n {20,})(\S.*)$", text, re.MULTILINE)
    assert len(options) > 7
    for names, described in options:
        is_flag = not re.search(r" [A-Z{]", names)
        assert described.count("default") == 0 if is_flag else described.count("default") <= 1, names


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_ends_with_commands_to_type(script):
    *_, commands = run(script, "--help").stdout.rstrip().split("\n\n")
    assert len(commands.splitlines()) >= 3
    assert all(line.startswith("    ") and script in line for line in commands.splitlines())


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_loads_no_heavy_library(script):
    """So that it answers at once."""
    asked = run(script, "--help", launcher=[sys.executable, "-X", "importtime"]).stderr
    loaded = {line.split("|")[-1].strip().split(".")[0] for line in asked.splitlines()}
    assert {"argparse", "chatter"} <= loaded
    heavy = "ctranslate2 datasets deepspeed huggingface_hub matplotlib numpy pandas polars pyarrow tokenizers torch"
    assert not loaded & {*heavy.split(), "transformers"}


def test_a_log_line_goes_to_stderr_from_the_first_process_alone(script_with):
    command = script_with("log('said')")
    assert ended(command) == ended(command, env={"RANK": "0"}) == (0, "", "said\n")
    assert ended(command, env={"RANK": "1"}) == (0, "", "")


def test_progress_bars_are_for_terminals(script_with):
    command = script_with("import tqdm", "list(tqdm.tqdm([1, 2], disable=None))", "list(tqdm.tqdm([1, 2]))")
    assert ended(command) == (0, "", "")


@pytest.mark.parametrize("script", SCRIPTS)
def test_wrong_usage_has_exit_code_2(script):
    done = run(script, "--no-such-option", check=False)
    assert (done.returncode, done.stdout) == (2, "") and "unrecognized arguments: --no-such-option" in done.stderr


def test_an_input_error_is_one_line(script_with):
    command = script_with("raise InputError('a is wrong. Do b.')")
    assert ended(command) == (1, "", "script.py: error: a is wrong. Do b.\n")


def test_an_error_of_the_system_names_the_file(script_with, tmp_path):
    code, output, errors = ended(script_with(f"open({str(tmp_path / 'no' / 'where')!r})"))
    assert (code, output) == (1, "")
    assert errors == f"script.py: error: {tmp_path / 'no' / 'where'}: No such file or directory.\n"


def test_a_line_break_in_the_name_of_a_file_is_escaped(script_with):
    assert ended(script_with("open('a\\nb\\rc')"))[2] == "script.py: error: a\\nb\\rc: No such file or directory.\n"


def test_an_unexpected_error_is_one_line_that_names_its_report(script_with):
    code, output, errors = ended(script_with("{}['key']"))
    assert (code, output, len(errors.splitlines())) == (70, "", 1)
    [path] = re.findall(r"^script\.py: unexpected error: KeyError\. Please report it, and attach (.+)\.$", errors)
    report = Path(path).read_text()
    Path(path).unlink()
    assert "KeyError: 'key'" in report and "Traceback" in report
    assert re.search(r"^Python 3\.\d+\.\d+ on ", report, re.MULTILINE)
    assert re.search(r"^transformers 5", report, re.MULTILINE) and "script.py" in report.splitlines()[0]


def test_memory_that_runs_out_and_a_missing_package_are_one_line(script_with):
    assert ended(script_with("raise MemoryError"))[::2] == (
        1,
        "script.py: error: not enough memory. Close other programs, or use a machine with more.\n",
    )
    code, _, line = ended(script_with("import torch", "raise torch.OutOfMemoryError"))
    assert (code, line) == (
        1,
        "script.py: error: out of GPU memory. Close other programs that use the GPU, or pass --device cpu.\n",
    )
    assert ended(script_with("import no_such_package"))[::2] == (
        1,
        "script.py: error: the package no_such_package is not installed. Run pip install -r requirements.txt.\n",
    )


@pytest.mark.parametrize(
    ("number", "code", "text"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated"), (signal.SIGHUP, 129, "terminated")],
)
def test_signals_end_with_one_line(number, code, text, script_with):
    command = script_with("import time", "print('started', flush=True)", "time.sleep(60)")
    command = ["env", "--default-signal=HUP", *command]  # even if nohup runs the tests
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "started\n"
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (code, f"script.py: {text}\n")


@pytest.mark.parametrize(("number", "code", "text"), [("SIGINT", 130, "interrupted"), ("SIGTERM", 143, "terminated")])
def test_a_signal_is_not_lost_where_python_ignores_exceptions(number, code, text, script_with):
    """As in a callback of the import system, after which a script went on to its end."""
    lines = [
        "import os, signal, time, weakref",
        "class Module: pass",
        "module = Module()",
        f"watch = weakref.ref(module, lambda _: os.kill(os.getpid(), signal.{number}))",
        "del module",
        "time.sleep(60)",
    ]
    assert ended(script_with(*lines)) == (code, "", f"script.py: {text}\n")


def test_other_exceptions_that_python_ignores_are_shown(script_with):
    lines = ["class Broken:", "    def __del__(self): raise ValueError('lost')", "broken = Broken()", "del broken"]
    code, output, errors = ended(script_with(*lines, "print('went on')"))
    assert (code, output) == (0, "went on\n") and "ValueError: lost" in errors


def test_a_closed_terminal_does_not_end_what_nohup_has_started(script_with):
    command = script_with("import os, signal", "os.kill(os.getpid(), signal.SIGHUP)", "print('went on')")
    assert ended(["nohup", *command]) == (0, "went on\n", "")


@pytest.mark.parametrize("module", ["argparse", "chatter.cli", "another"])
@pytest.mark.parametrize("script", SCRIPTS)
def test_ctrl_c_is_one_line_while_a_script_loads(script, module):
    if module == "another":
        module = "chatter.devices" if script == "generate.py" else "chatter.files"
    done = run(script, "--help", launcher=[sys.executable, SPIES / "interrupt_import.py", module], check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", f"{script}: interrupted\n")


def test_a_reader_that_has_gone_is_no_error_to_report(script_with):
    """As in `generate.py -n 99 | head -1`."""
    command = script_with("print('first', flush=True)", "import time", "time.sleep(0.5)", "print('more', flush=True)")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.readline() == b"first\n"
    process.stdout.close()
    assert (process.wait(60), process.stderr.read()) == (1, b"")


@pytest.mark.parametrize(("streams", "code"), SHELL.items())
def test_streams_that_are_closed_or_full(streams, code, script_with, tmp_path):
    """A file that is opened later does not become the closed stream, which would write messages into it."""
    _, script = script_with(
        f"file = open({str(tmp_path / 'data')!r}, 'w')",
        "import sys",
        "for _ in range(10000): print('a line', file=sys.stderr)",
        "log('said')",
        "file.write('data')",
        "file.close()",
        "print('result', flush=True)",
    )
    code_found, *_ = ended(["sh", "-c", f"{sys.executable} {script} {streams}"])
    assert code_found == code
    assert (tmp_path / "data").read_text() == "data"


def test_text_is_written_in_utf_8_whatever_the_locale_says(script_with):
    command = script_with("print('привет 😂')", "log('안녕 \\udcff')")
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "LC_ALL": "C",
        "PYTHONIOENCODING": "latin-1",
        "PYTHONUTF8": "0",
    }
    done = subprocess.run(command, env=environment, capture_output=True)
    assert done.returncode == 0
    assert done.stdout.decode() == "привет 😂\n" and done.stderr.decode() == "안녕 \\udcff\n"


@pytest.mark.parametrize("seconds", [1.0, *(pytest.param(n, marks=pytest.mark.thorough) for n in (0.5, 1.5))])
def test_sigterm_leaves_no_half_output(seconds, tmp_path):
    (tmp_path / "raw").mkdir()
    write_csv(tmp_path / "raw/a.csv", [f"{n} LUL" for n in range(300_000)])
    for script, *args in [
        ("parse_logs.py", "--logs-dir", ROOT / "data/sample_logs"),
        ("tokenize_logs.py", "--input-dir", tmp_path / "raw", "--model", TINY),
    ]:
        process = start(script, *args, "--output-dir", tmp_path / script, text=True)
        time.sleep(seconds)
        process.send_signal(signal.SIGTERM)
        errors = process.communicate(timeout=60)[1]
        if process.returncode == 143:
            assert errors.endswith(f"{script}: terminated\n") and not contents(tmp_path).keys() - {"raw/a.csv"}
        else:
            assert process.returncode in (0, -signal.SIGTERM)  # it had ended, or not begun
            break
    assert not [*tmp_path.rglob("*.partial")]
