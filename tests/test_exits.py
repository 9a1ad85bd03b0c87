"""chatter/exits.py: however a command ends, it ends in order."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT, TINY, contents, ended, start, write_csv


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
    assert ended(script_with("import no_such_package"))[::2] == (
        1,
        "script.py: error: the package no_such_package is not installed. Run pip install -r requirements.txt.\n",
    )


@pytest.mark.parametrize(
    ("number", "code", "text"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
def test_signals_end_with_one_line(number, code, text, script_with):
    command = script_with("import time", "print('started', flush=True)", "time.sleep(60)")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "started\n"
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (code, f"script.py: {text}\n")


def test_a_reader_that_has_gone_is_no_error_to_report(script_with):
    """As in `generate.py -n 99 | head -1`."""
    command = script_with("print('first', flush=True)", "import time", "time.sleep(0.5)", "print('more', flush=True)")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.readline() == b"first\n"
    process.stdout.close()
    assert (process.wait(60), process.stderr.read()) == (1, b"")


SHELL = {  # what a shell does to the streams -> exit code of a script that writes to both and needs neither
    "2>&-": 0,
    "2>/dev/full": 0,
    "<&-": 0,
    "<&- 2>&-": 0,
    ">/dev/full": 1,
    ">&-": 1,
    "<&- >&- 2>&-": 1,
}


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


@pytest.mark.parametrize("seconds", [0.5, 1.0, 1.5])
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
