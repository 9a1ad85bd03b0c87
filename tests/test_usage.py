"""Any combination of options, good and bad: exit code 0, 1 or 2, and never a traceback."""

import sys

import pytest
from conftest import TINY, run, write_csv
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

NUMBERS = ["", *"nan inf -inf 0 -1 1 2 3.5 1e-9 1e308 1e400 99999999999999999999 many ٣".split()]
PATHS = ["nowhere", ".", "..", "file.txt", "folder", "", "/dev/null", "x" * 300, "a\nb", "\udcff"]
TEXTS = ["", "hi", "-", "--", "-_-", "<|endoftext|>", "\u202e", "\udcff", "!command", "привет 😂"]
few = settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)


def options(**values):
    """Draw some of these options; None is a flag. Each value is given with = or behind a blank."""
    each = []
    for name, choices in values.items():
        option = f"--{name.replace('_', '-')}"
        if choices is None:
            each.append(st.just([option]))
        else:
            value = st.sampled_from(choices)
            each.append(st.one_of(value.map(lambda v, o=option: [f"{o}={v}"]), value.map(lambda v, o=option: [o, v])))
    return st.lists(st.one_of(each), max_size=4).map(lambda drawn: [word for words in drawn for word in words])


@pytest.fixture
def folder(tmp_path):
    """A working directory with a log, a CSV, a file and an empty folder."""
    (tmp_path / "logs").mkdir()
    (tmp_path / "raw").mkdir()
    (tmp_path / "folder").mkdir()
    (tmp_path / "file.txt").write_text("user\n")
    (tmp_path / "logs/a.txt").write_text("[2024-03-7 21:05:09] #c user: hi\n[2024-03-7 21:05:10] #c u2: www.x.tv\n")
    write_csv(tmp_path / "raw/a.csv", ["hello chat"] * 300)
    return tmp_path


def assert_ends_in_order(script, args, cwd):
    done = run(script, *[arg.replace("\0", "") for arg in args], cwd=cwd, check=False)
    assert done.returncode in (0, 1, 2), (args, done.stderr)
    assert "Traceback" not in done.stderr and "unexpected error" not in done.stderr, (args, done.stderr)
    if done.returncode == 1:
        assert done.stderr.splitlines()[-1].startswith(f"{script}: error: "), (args, done.stderr)


@pytest.mark.slow
@few
@given(
    args=options(
        logs_dir=PATHS,
        output_dir=PATHS,
        jobs=NUMBERS,
        exclude_users=["user", "file.txt", "nowhere.txt", "", "two words"],
        exclude_bots=None,
        drop_moderated=None,
        min_user_messages=NUMBERS,
        drop_links=None,
        mask_mentions=None,
        format=["auto", "bare", "raw IRC", ""],
        columns=["message=Text", "message", "=", "message=,username=x", "\udcff=1"],
        prune=None,
        verbose=None,
    )
)
def test_parse_logs(folder, args):
    assert_ends_in_order("parse_logs.py", ["--logs-dir", "logs", "--output-dir", "out", *args], folder)


@pytest.mark.slow
@few
@given(
    args=options(
        input_dir=PATHS,
        output_dir=PATHS,
        model=[*PATHS, "no/such", "a/b/c"],
        block_size=NUMBERS,
        test_size=NUMBERS,
        seed=NUMBERS,
        drop_duplicates=NUMBERS,
        max_tokens=NUMBERS,
        jobs=NUMBERS,
        verbose=None,
    )
)
def test_tokenize_logs(folder, args):
    basics = ["--input-dir", "raw", "--output-dir", "out", "--model", str(TINY), "--block-size", "64"]
    assert_ends_in_order("tokenize_logs.py", [*basics, *args], folder)


@pytest.mark.slow
@few
@given(
    args=options(
        model=PATHS,
        complete=TEXTS,
        stream=None,
        trigger=TEXTS,
        num_messages=NUMBERS,
        json=None,
        seed=NUMBERS,
        device=["auto", "cpu", "cuda", "tpu"],
        engine=["auto", "ctranslate2", "transformers", "other"],
        temperature=NUMBERS,
        top_p=NUMBERS,
        top_k=NUMBERS,
        repetition_penalty=NUMBERS,
        max_new_tokens=NUMBERS,
        greedy=None,
        banned_words=PATHS,
    ),
    chat=st.lists(st.sampled_from(TEXTS), max_size=3),
)
def test_generate(folder, random_model, args, chat):
    assert_ends_in_order("generate.py", ["--model", str(random_model), "--max-new-tokens", "5", *args, *chat], folder)


TRAIN_NUMBERS = "keep_checkpoints epochs batch_size micro_batch_size learning_rate warmup_epochs max_steps seed".split()


@given(
    args=options(
        **dict.fromkeys(TRAIN_NUMBERS, NUMBERS),
        dataset_dir=PATHS,
        model=PATHS,
        output_dir=PATHS,
        deepspeed=PATHS,
        overwrite=None,
        resume=None,
        no_offload=None,
        no_deepspeed=None,
        precision=["auto", "fp16", "int4"],
        report_to=["none", "tensorboard", "wandb"],
    )
)
def test_train(args):
    """The parser alone: what it lets through is a number that training can use."""
    import train

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["train.py", *args])
        try:
            parsed = train.parse_args()
        except SystemExit as ended:
            assert ended.code == 2
            return
    assert parsed.learning_rate is None or 0 < parsed.learning_rate < float("inf")
    assert 0 < parsed.epochs <= 1e6 and parsed.warmup_epochs >= 0
    assert min(parsed.batch_size, parsed.micro_batch_size or 1) >= 1 and (parsed.max_steps or 1) >= 1
    assert 0 <= parsed.seed < 2**32
