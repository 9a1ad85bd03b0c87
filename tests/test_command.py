"""chatter/command.py: options, help and log lines, which are the same in all scripts."""

import argparse
import re
import sys

import pytest
from conftest import SCRIPTS, ended, run

from chatter.command import make_parser, number, positive_int


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        (number(int), "-7", -7),
        (number(int, at_least=3), "3", 3),
        (number(int, at_least=0, below=8), "7", 7),
        pytest.param(number(int, at_least=0), "9" * 400, int("9" * 400), id="huge"),
        (number(float), "-1e-3", -0.001),
        (number(float, above=0), "1e-300", 1e-300),
        (number(float, above=0, at_most=1), "1", 1.0),
        (number(float, above=0, below=1), ".5", 0.5),
        (positive_int, "1", 1),
    ],
)
def test_a_number_within_its_bounds_is_accepted(read, text, value):
    assert read(text) == value and type(read(text)) is type(value)


@pytest.mark.parametrize(
    ("read", "text", "error"),
    [
        (number(int, at_least=3), "2", "must be at least 3"),
        (number(int, at_least=0, below=8), "8", "must be less than 8"),
        pytest.param(number(int, below=2**63), "9" * 400, f"must be less than {2**63}", id="huge"),
        (number(float, above=0), "0", "must be more than 0"),
        (number(float, above=0, at_most=1), "1.5", "must be at most 1"),
        (number(float, above=0, below=1), "1", "must be less than 1"),
        (positive_int, "0", "must be at least 1"),
        (positive_int, "1.5", "must be a whole number, not '1.5'"),
        (number(int), "many", "must be a whole number, not 'many'"),
        (number(int), "", "must be a whole number, not ''"),
        (number(float), "many", "must be a number, not 'many'"),
        (number(float), "nan", "must be finite"),
        (number(float), "inf", "must be finite"),
        (number(float), "-inf", "must be finite"),
        (number(float), "1e999", "must be finite"),
        (number(float, above=0), "inf", "must be finite"),
        (number(float, above=0), "nan", "must be finite"),
        (number(float, above=0, below=1), "nan", "must be finite"),
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
