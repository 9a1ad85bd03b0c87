"""The pages for users: links lead somewhere, and the files, options and examples that they name exist."""

import importlib.util
import re
import subprocess
import sys

import pytest
from conftest import ROOT, SCRIPTS

MANUAL = ["README.md", *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md"))]
PAGES = [*MANUAL, "CONTRIBUTING.md", "data/README.md", "models/README.md"]
LINK = re.compile(r"\]\(([^()\s]+)\)")
CODE = re.compile(r"`([^`]+)`")
OPTION = re.compile(r"(?<![\w-])--[a-z][\w-]*")
# What may be the path of a file or folder: a name with an ending of ours, or with a / behind or in it.
PATH = re.compile(r"[\w.-]+(?:/[\w.-]+)*/?")
ENDINGS = (".py", ".md", ".ipynb", ".json", ".txt", ".csv", ".png", ".sh", ".toml", ".u64", ".safetensors")
OURS = ("chatter/", "tests/", "bench/", "docs/", "data/sample_logs", "models/tiny-gpt2")  # what is committed
EXAMPLES = {
    "optouts.txt",  # of users
    "agreed.txt",
    "/etc/hosts",  # of the system
    "march/a.txt",  # in an archive
    "../a.txt",
    "chat.zip/march/a.csv",
    "lparkourer10/twitch_chat",  # on the hub
    "Michielo/twitchchat",
    "data/parquet",
    "models/gpt2-twitch-chatter-checkpoints",  # beside the default of --output-dir
    "gpt2-twitch-chatter-checkpoints/",
}
# Options of programs other than the four scripts.
OTHERS = {
    "deepspeed": {"--num_gpus", "--hostfile"},
    "torchrun": {"--nproc_per_node", "--shutdown-timeout"},
    "pip": {"--index-url"},
    "yt-dlp": {"--skip-download", "--write-subs", "--sub-langs"},
    "DiscordChatExporter.Cli": {"--channel", "--token"},
    "curl": {"--fail", "--silent", "--show-error", "--compressed", "--output"},
    "TwitchDownloaderCLI": {"--id"},
    "rsync, hf": {"--exclude", "--delete", "--delay-updates", "--revision", "--local-dir", "--repo-type"},
    "docker": {"--shm-size", "--ipc"},
    "vllm, convert-hf-to-gguf": {"--max-model-len", "--outfile", "--outtype"},
}


def read(page):
    return (ROOT / page).read_text(encoding="utf-8")


def blocks_of_code(page):
    """The indented blocks of a page, as lists of lines without the blank ones."""
    blocks = re.findall(r"^ {4}.*\n(?:\n*^ {4}.*\n)*", read(page), re.MULTILINE)
    return [[line for line in block.splitlines() if line] for block in blocks]


def prose(page):
    return re.sub(r"^ {4}.*$", "", read(page), flags=re.MULTILINE)


def anchors(page):
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def is_path(text):
    return bool(PATH.fullmatch(text)) and ("/" in text or text.endswith(ENDINGS)) and not text.startswith("http")


def code_of_the_project():
    files = [*map(ROOT.joinpath, SCRIPTS), ROOT / "Makefile", *sorted((ROOT / "chatter").rglob("*.py"))]
    return "\n".join(path.read_text(encoding="utf-8") for path in files)


def exists(path, page, code):
    """Whether a path is in the repository, seen from its root or from the page, or names what the code writes."""
    here = (ROOT / page).parent.relative_to(ROOT)
    candidates = {path, (here / path).as_posix()}
    if any((ROOT / candidate).exists() for candidate in candidates) or path in EXAMPLES:
        return True
    names = [re.escape(candidate.rstrip("/")) for candidate in candidates]
    return not path.startswith(OURS) and bool(re.search(rf"(?<![\w./-])(?:{'|'.join(names)})(?![\w-])", code))


@pytest.fixture(scope="module")
def code():
    return code_of_the_project()


@pytest.fixture(scope="module")
def options():
    """Script -> the options in its help."""
    commands = {script: [sys.executable, str(ROOT / script), "--help"] for script in SCRIPTS}
    helps = {script: subprocess.run(command, capture_output=True, text=True) for script, command in commands.items()}
    return {script: {*OPTION.findall(done.stdout)} for script, done in helps.items()}


def commands_in(line):
    """(script, options behind it) for each script of ours that a line of code runs, and the rest of the line."""
    parts = re.split(rf"\b({'|'.join(map(re.escape, SCRIPTS))})\b", line.split(" #")[0])
    return [*zip(parts[1::2], map(OPTION.findall, parts[2::2]), strict=True)], OPTION.findall(parts[0])


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_headings(page):
    for target in LINK.findall(prose(page)):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file.resolve().relative_to(ROOT).as_posix()), target


@pytest.mark.parametrize("page", PAGES)
def test_paths_exist(page, code):
    named = [text for text in CODE.findall(prose(page)) if is_path(text)]
    assert [path for path in named if not exists(path, page, code)] == []


def test_the_tree_in_the_readme_exists():
    """Its lines are a path or several, and a comment; those further to the right are inside the folder above."""
    [tree] = [block for block in blocks_of_code("README.md") if block[0].lstrip().startswith("parse_logs.py  ")]
    folder = ""
    for line in tree:
        names = re.split(r",? ", re.split(r"  +", line.strip())[0])
        inside = folder if line.startswith(" " * 6) else ""
        assert all([*ROOT.glob(f"{inside}{name}")] for name in names), line
        folder = inside or names[0]


@pytest.mark.parametrize("page", MANUAL)
def test_options_of_commands_exist(page, options):
    """A command has options of its script alone, and in front of it those of a launcher."""
    others = set().union(*OTHERS.values())
    lines = [line for block in blocks_of_code(page) for line in block] + CODE.findall(prose(page))
    for line in lines:
        commands, before = commands_in(line)
        for script, given in commands:
            assert {*given} <= options[script], line
        assert {*before} <= others.union(*options.values()), line
        assert not commands or {*before} <= others, line


@pytest.mark.parametrize("page", MANUAL)
def test_options_in_rows_of_tables_exist(page, options):
    """A row that names scripts has options of each of them."""
    for row in re.findall(r"^\|.*$", prose(page), re.MULTILINE):
        for script in {*CODE.findall(row)} & {*SCRIPTS}:
            assert {*OPTION.findall(row)} <= options[script], row


@pytest.mark.parametrize("page", MANUAL)
def test_options_exist(page, options):
    known = set().union(*options.values(), *OTHERS.values())
    assert {*OPTION.findall(read(page))} - known == set()


def test_no_option_of_other_programs_is_listed_in_vain():
    used = {option for page in MANUAL for option in OPTION.findall(read(page))}
    assert set().union(*OTHERS.values()) <= used


@pytest.mark.parametrize("page", MANUAL)
def test_a_page_is_short(page):
    lines = read(page).splitlines()
    assert len(lines) <= (115 if page == "README.md" else 120)
    assert max(map(len, lines)) <= 130


def test_the_commands_for_your_own_chat_can_be_pasted():
    """bench/newcomer.sh runs the code under this heading up to the next text."""
    section = read("README.md").split("## Your own chat\n")[1]
    commands = re.match(r"\n*((?: {4}.*\n|\n)+)", section)[1]
    assert re.findall(r"python (\w+\.py)", commands) == SCRIPTS
    assert "<" not in commands and "$" not in commands


@pytest.fixture(scope="module")
def drawing():
    spec = importlib.util.spec_from_file_location("draw_pipeline", ROOT / "docs/draw_pipeline.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where its dataclass looks for it
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def shapes(drawing):
    return drawing.follow_message()


def test_the_picture_can_be_drawn(drawing, shapes, tmp_path):
    drawing.draw(shapes, tmp_path / "pipeline.png")
    drawn, committed = (tmp_path / "pipeline.png").read_bytes(), (ROOT / "docs/pipeline.png").read_bytes()
    for png in (drawn, committed):
        assert png.startswith(b"\x89PNG") and len(png) < 100_000
    assert drawn[16:24] == committed[16:24]  # width and height


def test_the_example_in_the_readme_is_what_the_scripts_write(drawing, shapes):
    lines = [line.strip() for block in blocks_of_code("README.md") for line in block]
    tokens = "|".join(shapes.tokens[: drawing.NUM_TOKENS]).replace("\n", "\\n")
    assert {shapes.line, shapes.header, shapes.row, f"{tokens}|...", drawing.ANSWER} <= {*lines}
    assert shapes.message == drawing.ANSWER
