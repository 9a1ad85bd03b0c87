"""Advice in the messages of parse_logs.py, tokenize_logs.py and generate.py: whoever follows it reaches the goal.

tests/test_training_advice.py is about train.py.
"""

import ast
import gzip
import itertools
import json
import os
import re
import shutil
import sys
from pathlib import Path

import pytest
import test_training_advice
from advice import Case, follow, move, rows, shell, warm, write
from conftest import ROOT, TINY, error_of, log_line, run
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from chatter.wording.training_messages import HASHES

# A part of each message whose advice no test follows, and what that would need.
UNTESTED = {
    "no whole copy in": "a network",
    "cannot be downloaded": "tests/test_hub.py",
    "has no such model that you": "a network",
    "is not installed. Run pip": "pip",
    "not enough memory": "a machine with little memory",
    "Please report it": "a bug",
    "out of GPU memory. Close other programs": "a GPU",
    "a process was killed": "a machine with little memory",
    "is a mount point": "another disk",
    "in use by another run": "tests/test_files.py",
    "files. Unpack it by hand": "tests/logs/test_archives.py",
    "is not in the archive any more": "tests/logs/test_archives.py",
    "unpack it by hand": "tests/logs/test_archives.py",
    "Unpack it by hand": "an archive of 256 MB",
    "Download or write it again": "tests/logs/test_columnar.py",
    "Write it again, for example as Parquet": "tests/logs/test_columnar.py",
    "which skips them": "tests/logs/test_columnar.py",
    "Leave out --compile": "tests/generation/test_stream.py",
    "do not fit its config.json": "test_train_again_with_overwrite_mends_every_file_of_a_model",
    "--compile works only with": "tests/generation/test_stream.py",
}
LINE = log_line("somechannel", "hello chat")
TABLE = "when,who,said\n2024-03-07 21:05:09,ann,hello chat\n"
CHAT = [f"message {number}" for number in range(20)]
PARSE = "parse_logs.py --logs-dir logs --output-dir raw"
TOKENIZE = f"tokenize_logs.py --input-dir raw --output-dir data --block-size 16 --model {TINY}"
STREAM = "generate.py --device cpu --max-new-tokens 10 --seed 1 --model"
GENERATE = STREAM.replace(".py", ".py hello")


def word_tokenizer(*vocabulary):
    return Tokenizer(WordLevel(dict(zip(vocabulary, range(9), strict=False)), unk_token=vocabulary[0])).to_str()


LOG = {"logs/a.txt": LINE}
RAW = {"raw/a.csv": rows(*CHAT)}
CASES = [
    # parse_logs.py
    Case("Put your logs there, or pass their folder", PARSE, {"here/a.txt": LINE}, PARSE.replace("logs ", "here ", 1)),
    Case("Put your logs there, or pass their folder", PARSE, {"a.txt": LINE}, do=move("a.txt", "logs/a.txt")),
    Case("compressed or not, in logs. Put your logs there.", PARSE, {"logs/a.md": ""}, do=write("logs/a.txt", LINE)),
    Case("pass --format bare", PARSE, {"logs/a.txt": "ann: hi\nbob: hello\n"}, f"{PARSE} --format bare"),
    Case(
        "rename it to a.csv", PARSE, {"logs/a.txt": "Username,Message\nann,hi\n"}, do=move("logs/a.txt", "logs/a.csv")
    ),
    Case(
        "Make its first line a header",
        PARSE,
        {"logs/a.csv": "\nu,hi\n"},
        do=write("logs/a.csv", "username,message\nu,hi\n"),
    ),
    Case(
        "If it is not compressed, rename it to",
        PARSE,
        {"logs/a.txt.gz": LINE},
        do=move("logs/a.txt.gz", "logs/a.txt"),
    ),
    Case("Pass fewer of them", f"{PARSE} --only-users ann", LOG, f"{PARSE} --only-users u"),
    Case("Pass fewer of them", f"{PARSE} --exclude-users ann u", LOG, f"{PARSE} --exclude-users ann"),
    Case("is a file, not a folder. Choose another", PARSE, LOG | {"raw": ""}, PARSE.replace("raw", "new")),
    Case("Not a directory. Choose another --output-dir", PARSE + "/x/y", LOG | {"raw/x": ""}, PARSE),
    Case(
        "the folder of logs/a.csv/b.txt. Rename one of them",
        PARSE,
        LOG | {"logs/a.csv/b.txt": LINE + "!"},
        do=move("logs/a.txt", "logs/c.txt"),
    ),
    Case("was not written by parse_logs.py", PARSE, LOG | {"raw/a.csv": "mine"}, do=move("raw/a.csv", "mine.csv")),
    Case("was not written by parse_logs.py", PARSE, LOG | {"raw/a.csv": "mine"}, PARSE.replace("raw", "new")),
    Case("is neither a file nor a user name", f"{PARSE} --only-users opt-outs.tx", LOG, f"{PARSE} --only-users u"),
    Case(
        "is not a user name. Write one name a line",
        f"{PARSE} --only-users users.txt",
        LOG | {"users.txt": '"u" and "ann"\n'},
        do=write("users.txt", "u\nann\n"),
    ),
    Case(
        "contains no user name. Write one name a line; a # begins a comment",
        f"{PARSE} --only-users users.txt",
        LOG | {"users.txt": "# u\n"},
        do=write("users.txt", "u  # agreed\n"),
    ),
    Case("for the user, or", f"{PARSE} --only-users u", LOG | {"u.txt": "u\n"}, f"{PARSE} --only-users @u"),
    Case("for the user, or", f"{PARSE} --only-users u", LOG | {"u.txt": "u\n"}, f"{PARSE} --only-users ./u.txt"),
    Case(
        "is not in UTF-8. Save the file in UTF-8",
        f"{PARSE} --exclude-users users.txt",
        LOG | {"users.txt": "käse\n".encode("latin-1")},
        do=write("users.txt", "käse\n"),
    ),
    Case(
        "Pass one of when, who, said",
        f"{PARSE} --columns message=text",
        {"logs/a.csv": TABLE},
        f"{PARSE} --columns message=said",
    ),
    Case("There are no tables: leave out --columns", f"{PARSE} --columns message=text", LOG, PARSE),
    Case(
        "Name it with --columns username=NAME",
        f"{PARSE} --columns message=said --exclude-users bob",
        {"logs/a.csv": TABLE},
        f"{PARSE} --columns message=said,username=who --exclude-users bob",
    ),
    Case(
        "or move the file away",
        f"{PARSE} --columns message=said --exclude-users bob --strict",
        LOG | {"logs/b.csv": TABLE},
        f"{PARSE} --exclude-users bob --strict",
        move("logs/b.csv", "b.csv"),
    ),
    Case(
        "Unpack as much of it as possible by hand, or remove it",
        f"{PARSE} --strict",
        LOG | {"logs/b.txt.gz": gzip.compress(LINE.encode() * 100)[:-9]},
        do=shell("gzip -dc < logs/b.txt.gz > logs/b.txt; rm logs/b.txt.gz"),
    ),
    Case(
        r"tr '\r' '\n' < old.txt > new.txt",
        PARSE,
        {"logs/a.txt": f"{LINE}\r{LINE}\r"},
        do=shell(r"tr '\r' '\n' < logs/a.txt > logs/new.txt; rm logs/a.txt"),
    ),
    Case(
        "Save it as a CSV in UTF-8",
        PARSE,
        {"logs/a.csv": "user,message\nann,käse\n".encode("latin-1")},
        do=write("logs/a.csv", "user,message\nann,käse\n"),
    ),
    Case(
        "Close it, or double it if it was typed",
        PARSE,
        {"logs/a.csv": rows('"hi', *CHAT)},
        do=write("logs/a.csv", rows('"""hi"', *CHAT)),
    ),
    # tokenize_logs.py
    Case("is not a folder. Run parse_logs.py first", TOKENIZE, {"logs/a.txt": f"{LINE}\n" * 9}, do=lambda: warm(PARSE)),
    Case("no .csv file in raw", TOKENIZE, {"raw/a.txt": "", "r2/a.csv": rows(*CHAT)}, TOKENIZE.replace("raw", "r2")),
    Case(
        "positions of",
        TOKENIZE.replace("16", "1024"),
        RAW,
        TOKENIZE.replace("16", "512"),
        write("raw/a.csv", rows(*CHAT * 99)),
    ),
    Case("or pass a smaller --block-size", TOKENIZE.replace("16", "256"), RAW, TOKENIZE),
    Case("contains the working directory", TOKENIZE.replace("data", "."), RAW, TOKENIZE),
    Case("Choose a shorter --output-dir", TOKENIZE.replace("data", "d" * 240), RAW, TOKENIZE),
    Case("is not in UTF-8. Choose another", TOKENIZE.replace("data", os.fsdecode(b"\xff")), RAW, TOKENIZE),
    Case("Move them away, or choose another", TOKENIZE, RAW | {"data/mine": ""}, do=move("data/mine", "mine")),
    Case("Move them away, or choose another", TOKENIZE, RAW | {"data/mine": ""}, TOKENIZE.replace("data", "new")),
    Case("is a file, not a folder. Choose another", TOKENIZE, RAW | {"data": ""}, TOKENIZE.replace("data", "new")),
    Case(
        "Rename one of when, who, said in its first line",
        TOKENIZE,
        RAW | {"raw/b.csv": TABLE},
        do=write("raw/b.csv", TABLE.replace("said", "message")),
    ),
    Case("move the file out of the input folder", TOKENIZE, RAW | {"raw/b.csv": TABLE}, do=move("raw/b.csv", "b.csv")),
    Case(
        "values instead of 5. Correct it",
        TOKENIZE,
        RAW | {"raw/b.csv": rows("one, two")},
        do=write("raw/b.csv", rows('"one, two"')),
    ),
    Case(
        "Correct it, or move it away",
        TOKENIZE,
        RAW | {"raw/b.csv": rows("x" * (9 << 20))},
        do=move("raw/b.csv", "b.csv"),
    ),
    Case(
        "fill in its column channel",
        f"{TOKENIZE} --with-channel",
        {"raw/a.csv": rows(*CHAT, channel="")},
        do=write("raw/a.csv", rows(*CHAT, channel="c")),
    ),
    Case(
        "Pass a larger --block-size",
        f"{TOKENIZE} --with-channel --block-size 4",
        RAW,
        f"{TOKENIZE} --with-channel --block-size 32",
    ),
    Case("Check --model", TOKENIZE.replace(str(TINY), "/models/tiny"), RAW, TOKENIZE),
    Case(
        "cannot be read",
        f"{TOKENIZE} --model tiny",
        RAW | {"tiny/tokenizer.json": "{"},
        do=lambda: shutil.copytree(TINY, "tiny", dirs_exist_ok=True),
    ),
    Case(
        "no token for the end of a text. Use another model",
        f"{TOKENIZE} --model words",
        RAW | {"words/tokenizer.json": word_tokenizer("hi", "\n")},
        TOKENIZE,
    ),
    Case(
        "no separate token for a line break. Use another model",
        f"{TOKENIZE} --model words",
        RAW | {"words/tokenizer.json": word_tokenizer("<|endoftext|>")},
        TOKENIZE,
    ),
    # generate.py
    Case("Shorten it", f"{GENERATE} parrot --complete '{'x ' * 99}'", {}, f"{GENERATE} parrot --complete x"),
    Case(
        "Pass a higher --temperature, or",
        f"{STREAM} parrot ping --temperature 0.1 --banned-words words",
        {"words": "what"},
        f"{STREAM} parrot ping --temperature 3 --banned-words words",
    ),
    *(
        Case(
            f"Pass a higher --temperature without {option}",
            f"{STREAM} parrot ping {option} --banned-words words",
            {"words": "what"},
            f"{STREAM} parrot ping --temperature 3 --banned-words words",
        )
        for option in ("--greedy", "--top-k 1")
    ),
    Case(
        "Pass another --complete",
        f"{GENERATE} parrot --complete what --banned-words words",
        {"words": "what"},
        f"{GENERATE} parrot --complete ping --banned-words words",
    ),
    Case(
        "--stream reads the chat from standard input",
        f"{GENERATE} parrot --stream -n 2",
        {},
        f"{STREAM} parrot --stream",
        code=2,
    ),
    Case("pass both", f"{STREAM} parrot --trigger bot", {}, f"{STREAM} parrot --trigger bot --stream", code=2),
    *(
        Case("pass -n without it", f"{GENERATE} parrot -n 2 {option}", {}, f"{GENERATE} parrot -n 2", code=2)
        for option in ("--greedy", "--top-k 1")
    ),
    Case("Run train.py first, or pass another folder", f"{GENERATE} nowhere", {}, f"{GENERATE} parrot"),
    Case(
        "was not written by train.py. Pass another folder",
        f"{GENERATE} damaged",
        {"damaged/chat_format.json": None},
        f"{GENERATE} parrot",
    ),
    Case(
        "Copy it from the folder tokenizer of the model's dataset",
        f"{GENERATE} damaged",
        {"damaged/tokenizer.json": None},
        do=lambda: shutil.copy("parrot/tokenizer.json", "damaged"),  # the dataset of the model has the same one,
    ),
    Case(
        "Pass --engine transformers",
        f"{GENERATE} parrot --engine ctranslate2 --device mps",
        {},
        f"{GENERATE} parrot --engine transformers",
    ),
    Case(
        "Pass --engine transformers",
        f"{GENERATE} damaged --engine ctranslate2",
        {"damaged/.ctranslate2.lock/x": "", "damaged/ctranslate2/weights.sha256": ""},
        f"{GENERATE} damaged --engine transformers",
    ),
    Case("Pass --device cpu", f"{GENERATE} parrot --device mps", {}, f"{GENERATE} parrot --device cpu"),
    Case("Leave out --channel", f"{GENERATE} parrot --channel c", {}, f"{GENERATE} parrot"),
    Case("Pass one of alpha, beta", f"{GENERATE} channels --channel gamma", {}, f"{GENERATE} channels --channel beta"),
    Case("pass --channel to speak in beta", f"{GENERATE} channels", {}, f"{GENERATE} channels --channel beta", code=0),
    Case("or leave out --no-copies", f"{GENERATE} parrot --no-copies", {}, f"{GENERATE} parrot"),
    Case(
        "is damaged, or of another version",
        f"{GENERATE} damaged --no-copies",
        {f"damaged/{HASHES}": "x"},
        f"{GENERATE} damaged",
    ),
    Case(
        "contains no words. Write one word or phrase a line",
        f"{GENERATE} parrot --banned-words words",
        {"words": "\n"},
        do=write("words", "bad\nvery bad\n"),
    ),
]


@pytest.fixture
def folder(parrot, tmp_path, monkeypatch):
    """A folder with a model, one that a case may damage, and one of two channels; the working directory."""
    monkeypatch.chdir(tmp_path)
    for name in ("parrot", "damaged", "channels"):
        shutil.copytree(parrot, name)
    chat_format = json.loads((parrot / "chat_format.json").read_text())
    write("channels/chat_format.json", json.dumps(chat_format | {"channels": ["alpha", "beta"]}))()
    return tmp_path


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.says}-{case.command.split('.')[0]}")
def test_whoever_follows_the_advice_reaches_the_goal(case, folder):
    _, done = follow(case)
    assert done.stdout.strip() or not case.command.startswith("generate") or "--stream" in case.then


def test_csvs_whose_logs_are_gone_are_deleted_with_prune(folder):
    for name in ("a", "b"):
        Path("logs").mkdir(exist_ok=True)
        write(f"logs/{name}.txt", log_line(name, "hi"))()
    warm(PARSE)
    Path("logs/b.txt").unlink()
    assert "--prune deletes them): raw/b.csv" in warm(PARSE).stderr
    assert "deleted: raw/b.csv" in warm(f"{PARSE} --prune").stderr and not Path("raw/b.csv").exists()


def test_csvs_of_copies_are_deleted_with_prune(folder):
    Path("logs").mkdir()
    write("logs/b.txt", LINE)()
    warm(PARSE)
    shutil.copy("logs/b.txt", "logs/a.txt")
    assert "also in raw/b.csv, which tokenize_logs.py reads and --prune deletes" in warm(PARSE).stderr
    assert "deleted: raw/b.csv" in warm(f"{PARSE} --prune").stderr and not Path("raw/b.csv").exists()


RIGHTS = "-dac_override,-dac_read_search,-fowner"  # which root has
AS_USER = ["setpriv", f"--bounding-set={RIGHTS}", f"--inh-caps={RIGHTS}"] if os.geteuid() == 0 else []


@pytest.mark.parametrize(
    ("locked", "says", "then"),
    [
        ("raw", "raw: Permission denied. Choose another --output-dir.", "--output-dir new"),
        ("raw/deep", "raw/deep/a.csv is a folder or is not writable. Choose another --output-dir.", "--output-dir new"),
        ("logs/b.txt", "logs/b.txt cannot be read: Permission denied. Make it readable, or move it away.", ""),
    ],
)
def test_files_without_the_right_to_read_or_write(locked, says, then, tmp_path):
    for name in ("raw/deep", "logs/deep"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("deep/a.txt", "b.txt"):
        (tmp_path / "logs" / name).write_text(log_line(name, "hi"))
    (tmp_path / locked).chmod(0o555 if then else 0)
    command = ["parse_logs.py", "--logs-dir", "logs", "--output-dir", "raw", "--strict"]
    options = {"cwd": tmp_path, "launcher": [*AS_USER, sys.executable]}
    assert error_of(*command, **options) == f"parse_logs.py: error: {says}"
    if not then:
        (tmp_path / locked).rename(tmp_path / "b.txt")
    run(*command, *then.split(), **options)


@pytest.mark.parametrize(
    ("script", "output"),
    [
        *itertools.product(["parse_logs.py", "tokenize_logs.py", "train.py"], ["locked", "file/new"]),
        *itertools.product(["parse_logs.py"], ["locked/new", "locked/deep/new"]),
    ],
)
def test_an_output_folder_that_cannot_be_written_is_named(script, output, tmp_path):
    """Not the hidden file that could not be written."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.csv").write_text(rows(*CHAT))
    (tmp_path / "file").touch()
    (tmp_path / "locked").mkdir(mode=0o555)
    if script != "parse_logs.py" and output == "locked":
        (tmp_path / output).rmdir()  # the whole folder is replaced
        tmp_path.chmod(0o555)
    inputs = {
        "parse_logs.py": ["--logs-dir", "in"],
        "tokenize_logs.py": ["--input-dir", "in", "--model", TINY],
        "train.py": ["--model", TINY, "--no-deepspeed"],
    }
    error = error_of(script, *inputs[script], "--output-dir", output, cwd=tmp_path, launcher=[*AS_USER, sys.executable])
    tmp_path.chmod(0o755)
    reason = "Not a directory" if output == "file/new" else "Permission denied"
    assert re.fullmatch(rf"{script}: error: \S*{output}: {reason}\. Choose another --output-dir\.", error)


@pytest.mark.thorough
@pytest.mark.slow
def test_train_again_with_overwrite_mends_every_file_of_a_model(small_model, dataset_dir, tmp_path):
    """The messages about damaged files of a model advise this, and about its tokenizer also to copy it."""
    model = tmp_path / "model"
    options = ["--no-deepspeed", "--device", "cpu", "--max-steps", 1, "--output-dir", model]
    run("train.py", "--model", small_model, "--dataset-dir", dataset_dir, *options)
    generate = ["generate.py", "--device", "cpu", "--no-copies", "--max-new-tokens", 5, "--model", model]
    run(*generate)
    whole = (model / "tokenizer.json").read_bytes()
    assert (dataset_dir / "tokenizer/tokenizer.json").read_bytes() == whole
    for name in ("config.json", "tokenizer.json", "chat_format.json", HASHES, "model.safetensors"):
        data = (model / name).read_bytes()
        (model / name).write_bytes(data[: len(data) // 2 - 1])
        error = run(*generate, check=False).stderr.splitlines()[-1]
        assert re.search("train.py (again with )?--overwrite", error)
        if name != "model.safetensors":
            (model / name).write_bytes(data)
    run("train.py", "--model", small_model, "--dataset-dir", dataset_dir, *options, "--overwrite")
    run(*generate)


def messages_with_advice():
    """Yield the literal parts of each message that has a second sentence, and of other texts that ask for something."""
    for path in [*ROOT.glob("*.py"), *(ROOT / "chatter").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            nodes, advises = [], r"(^|[.:] )(Pass|Run|Choose|Start|Use|Close|Update|Unset) "
            if isinstance(node, ast.Call):
                name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                if name.endswith(("Error", "UnreadableLog", "NoMessage")) or name in ("error", "log", "end"):
                    nodes, advises = [node], r"\. [A-Z]|[:,] pass |is usual|to use all: "
            elif isinstance(node, ast.Dict):
                nodes = node.values
            elif isinstance(node, ast.Return | ast.Assign | ast.AugAssign) and not isinstance(node.value, ast.Dict):
                nodes = [node]
            for each in nodes:
                texts = [part.value for part in ast.walk(each) if isinstance(part, ast.Constant)]
                parts = [text for text in texts if isinstance(text, str)]
                if any(re.search(advises, part) for part in parts):
                    yield [part.strip(" .,(") for part in parts]


def test_every_advice_is_followed():
    """Here, in tests/test_training_advice.py, or it is in one of the lists UNTESTED."""
    known = "".join(Path(path).read_text(encoding="utf-8") for path in (__file__, test_training_advice.__file__))
    messages = [*messages_with_advice()]
    untested = UNTESTED | test_training_advice.UNTESTED
    says = [*(case.says for case in CASES + test_training_advice.CASES), *untested]

    def is_followed(part):
        return len(part) > 9 and (part in known or any(each in part for each in says))

    missing = [parts for parts in messages if not any(map(is_followed, parts))]
    unknown = [each for each in untested if not any(each.strip() in part for parts in messages for part in parts)]
    assert len(messages) > 80 and missing == unknown == []
