"""chatter.training.resume: a run continues from its own complete checkpoints, however it was stopped."""

import json
import os
import re
import shutil
import signal
import sys
from pathlib import Path

import pytest
from conftest import (
    ROOT,
    RUN,
    SPIES,
    TEN_STEPS,
    TOLERANCE,
    TORCHRUN,
    assert_the_best_is_saved,
    error_of,
    largest_difference,
    placement_and_settings_of,
    run,
    start,
    wait_for,
)
from datasets import DatasetDict
from safetensors.torch import load_file
from transformers import AutoConfig

from chatter.cli import InputError
from chatter.files import MANIFEST
from chatter.training.checkpoints import MARKER, complete_checkpoints, find_best, find_fault, mark_complete, read_state
from chatter.training.resume import (
    BASE,
    FREE,
    RESOLVED,
    RESUMED,
    ROUNDING,
    SCHEDULE,
    describe_run,
    find_checkpoint,
    lacks_evaluation,
    recorded_learning_rate,
)
from chatter.training.settings import choose_precision
from chatter.training.zero import without_placement
from train import parse_args


def test_adapters_do_not_continue_a_run_without_them(checkpoints):
    assert find_checkpoint(checkpoints, RUN | {"--lora-rank": 0}) == checkpoints / "checkpoint-12"
    with pytest.raises(InputError, match="was made with --lora-rank 0, but this run has 8"):
        find_checkpoint(checkpoints, RUN | {"--lora-rank": 8})


def test_the_newest_complete_checkpoint_is_found(checkpoints, capsys):
    assert find_checkpoint(checkpoints, RUN) == checkpoints / "checkpoint-12"
    assert capsys.readouterr().err == f"resuming from {checkpoints / 'checkpoint-12'}\n"


def test_without_a_complete_checkpoint_a_run_starts_from_the_beginning(tmp_path, capsys):
    assert find_checkpoint(tmp_path / "nowhere", RUN) is None
    assert capsys.readouterr().err == f"no complete checkpoint in {tmp_path / 'nowhere'}: starting from the beginning\n"


def test_the_checkpoint_of_another_run_is_refused(checkpoints):
    message = r"checkpoint-12 was made with --seed 42, but this run has 43\. Use the same, or start again with"
    with pytest.raises(InputError, match=message):
        find_checkpoint(checkpoints, RUN | {"--seed": 43})


def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one(checkpoints, capsys):
    (checkpoints / "checkpoint-12/scheduler.pt").unlink()
    assert find_checkpoint(checkpoints, RUN) == checkpoints / "checkpoint-9"
    damaged, resumed = capsys.readouterr().err.splitlines()
    assert damaged.startswith(f"{checkpoints / 'checkpoint-12'} is not used, as it is damaged: scheduler.pt is missing")
    assert resumed == f"resuming from {checkpoints / 'checkpoint-9'}"


def test_all_processes_choose_the_same_checkpoint(checkpoints, monkeypatch):
    """Whichever looks first: only the first process renames the damaged one."""
    (checkpoints / "checkpoint-12/scheduler.pt").unlink()
    for rank, name in {"1": "checkpoint-12", "0": "checkpoint-12.unused", "2": "checkpoint-12.unused"}.items():
        monkeypatch.setenv("RANK", rank)
        assert find_checkpoint(checkpoints, RUN) == checkpoints / "checkpoint-9"
        assert (checkpoints / name).exists()


LORA = RUN | {"--lora-rank": 8, BASE: "d1ge57"}


@pytest.fixture
def adapters(checkpoints):
    """The folder of `checkpoints`, of which the newest has adapters."""
    mark_complete(checkpoints / "checkpoint-15", LORA, None)
    return checkpoints


def test_adapters_are_not_resumed_on_another_base(adapters):
    assert find_checkpoint(adapters, LORA) == adapters / "checkpoint-15"
    with pytest.raises(InputError, match=r"the weights of --model gpt2 have changed since .*checkpoint-15 was saved"):
        find_checkpoint(adapters, LORA | {BASE: "0ther"})


def test_a_base_may_be_in_another_folder(adapters, capsys):
    """As the error about another base advises. The same name is no proof, and another name no obstacle."""
    assert find_checkpoint(adapters, LORA | {"--model": "copies/gpt2"}) == adapters / "checkpoint-15"
    assert "--model was gpt2 and is now copies/gpt2: its weights are the same" in capsys.readouterr().err
    with pytest.raises(InputError, match="was made with --model gpt2, but this run has copies/gpt2"):
        find_checkpoint(adapters, LORA | {"--model": "copies/gpt2", BASE: "0ther"})


def test_another_model_is_refused_without_adapters(checkpoints):
    with pytest.raises(InputError, match="was made with --model gpt2, but this run has copies/gpt2"):
        find_checkpoint(checkpoints, RUN | {"--model": "copies/gpt2"})


def test_adapters_of_an_earlier_version_are_resumed_with_a_warning(checkpoints, capsys):
    mark_complete(checkpoints / "checkpoint-15", RUN | {"--lora-rank": 8}, None)
    assert find_checkpoint(checkpoints, LORA) == checkpoints / "checkpoint-15"
    assert "did not record the weights that its adapters belong to: make sure that gpt2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("--epochs", 5.0, "--epochs was 3.0 and is now 5.0"),
        ("--learning-rate", 5e-4, "--learning-rate was 0.001 and is now 0.0005"),
        ("--max-steps", 100, "--max-steps was None and is now 100"),
    ],
)
def test_the_schedule_may_change_and_that_is_said(name, value, said, checkpoints, capsys):
    assert find_checkpoint(checkpoints, RUN | {name: value}) == checkpoints / "checkpoint-12"
    assert capsys.readouterr().err.endswith(f"{said}: the schedule changes from here on\n")


def test_the_learning_rate_of_the_newest_complete_checkpoint_is_recorded(checkpoints, tmp_path):
    assert recorded_learning_rate(tmp_path / "nowhere") is None
    assert recorded_learning_rate(checkpoints) == RUN["--learning-rate"]
    mark_complete(checkpoints / "checkpoint-15", RUN | {"--learning-rate": 7e-4}, None)
    assert recorded_learning_rate(checkpoints) == 7e-4


def test_where_and_in_which_parts_a_step_is_computed_may_change_and_that_is_said(checkpoints, capsys):
    before = RUN | {"--micro-batch-size": 24, "--offload": False}
    mark_complete(checkpoints / "checkpoint-15", before, None)
    now = before | {"--micro-batch-size": 12, "--offload": True}
    assert find_checkpoint(checkpoints, now) == checkpoints / "checkpoint-15"
    assert capsys.readouterr().err.splitlines()[1:] == [
        "--micro-batch-size was 24 and is now 12: dropout and rounding can differ from here on",
        "--offload was False and is now True: dropout and rounding can differ from here on",
    ]


def test_buckets_and_offloading_in_the_config_may_change(checkpoints, capsys):
    """And the checkpoints of before, which recorded them, can be resumed."""
    stored = {"zero_optimization": {"stage": 3, "offload_param": {"device": "cpu"}, "reduce_bucket_size": "auto"}}
    mark_complete(checkpoints / "checkpoint-15", RUN | {"DeepSpeed config": stored}, None)
    now = {"DeepSpeed config": without_placement({"zero_optimization": {"stage": 3, "reduce_bucket_size": 7}})}
    assert find_checkpoint(checkpoints, RUN | now)
    other = {"DeepSpeed config": without_placement({"zero_optimization": {"stage": 2}})}
    with pytest.raises(
        InputError, match=r"another DeepSpeed config \(see zero_optimization\)\. Pass the earlier one with"
    ):
        find_checkpoint(checkpoints, RUN | other)
    with pytest.raises(InputError, match=r"was made with DeepSpeed\. Leave out --no-deepspeed, or start again"):
        find_checkpoint(checkpoints, RUN | {"DeepSpeed config": None})
    mark_complete(checkpoints / "checkpoint-15", RUN | {"DeepSpeed config": None}, None)
    with pytest.raises(InputError, match=r"was made with --no-deepspeed\. Pass it, too, or start again"):
        find_checkpoint(checkpoints, RUN | other)


@pytest.fixture
def options(dataset_dir, monkeypatch):
    """Return a function that parses train.py's options."""

    def parse(*args):
        basics = ["--no-deepspeed", "--dataset-dir", dataset_dir, *args]
        monkeypatch.setattr(sys, "argv", ["train.py", *map(str, basics)])
        return parse_args()

    return parse


def description(args):
    """Return the description of a run with these options, as a checkpoint has it."""
    run = describe_run(args, *placement_and_settings_of(args, 24), choose_precision(args))
    return json.loads(json.dumps(run))


def test_every_option_is_compared(options):
    """Except options that do not change the weights, and those that are compared by their results."""
    args = options()
    assert vars(args).keys() >= RESUMED.keys()  # no option that was renamed
    free = {name for name in RESUMED if RESUMED[name] in (FREE, RESOLVED)}
    compared = {f"--{name.replace('_', '-')}" for name in vars(args).keys() - free}
    assert {name for name in description(args) if name.startswith("--")} == compared
    assert compared >= {"--model", "--batch-size", "--learning-rate", "--epochs", "--seed"}
    assert [name for name in RESUMED if RESUMED[name] == SCHEDULE] == ["epochs", "max_steps", "learning_rate"]
    rounding = ["device", "gradient_checkpointing", "micro_batch_size", "offload", "compile"]
    assert [name for name in RESUMED if RESUMED[name] == ROUNDING] == rounding


def test_an_option_of_the_future_is_compared(options, checkpoints):
    """Resuming with another value is refused, although nobody has listed the option anywhere."""
    args = options()
    args.label_smoothing = 0.1
    mark_complete(checkpoints / "checkpoint-15", description(args), None)
    assert find_checkpoint(checkpoints, description(args)) == checkpoints / "checkpoint-15"
    args.label_smoothing = 0.2
    with pytest.raises(InputError, match=r"made with --label-smoothing 0\.1, but this run has 0\.2"):
        find_checkpoint(checkpoints, description(args))


@pytest.mark.parametrize(
    "changed",
    [
        ["--output-dir", "elsewhere"],
        ["--overwrite"],
        ["--resume"],
        ["--keep-checkpoints", 1],
        ["--report-to", "tensorboard"],
        ["--local_rank", 0],
    ],
    ids=lambda changed: changed[0],
)
def test_options_that_do_not_change_the_weights_may_change(options, changed):
    assert description(options(*changed)) == description(options())


def test_the_precision_that_auto_comes_to_may_be_given(options):
    precision = choose_precision(options())
    assert description(options("--precision", precision)) == description(options("--precision", "auto"))


def changes(before, after):
    """Return the names under which two descriptions differ."""
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


@pytest.mark.parametrize(
    ("option", "value"),
    [("--seed", 1), ("--model", "gpt2"), ("--max-steps", 5), ("--lora-rank", 2)],
)
def test_options_that_change_the_weights_are_compared(options, option, value):
    assert changes(description(options()), description(options(option, value))) == {option}


def test_the_precision_is_compared(options):
    assert changes(description(options()), description(options("--precision", "bf16"))) == {"precision"}


def test_other_blocks_are_noticed(options, dataset_dir, tmp_path):
    blocks = DatasetDict.load_from_disk(dataset_dir)
    copy = shutil.copytree(dataset_dir, tmp_path / "copy")
    assert description(options("--dataset-dir", copy)) == description(options())
    blocks["test"] = blocks["test"].select([0, 1])
    blocks.save_to_disk(tmp_path / "fewer")
    fewer = description(options("--dataset-dir", tmp_path / "fewer"))
    assert changes(description(options()), fewer) == {"fingerprint of the blocks"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        pytest.param(
            ["--batch-size", 8],
            "was made with --batch-size 24, but this run has 8. Use the same, or",
            id="batch size",
            marks=pytest.mark.thorough,
        ),
        pytest.param(["--no-deepspeed"], "was made with DeepSpeed. Leave out --no-deepspeed", id="DeepSpeed"),
    ],
)
def test_resuming_with_other_options_is_refused(zero3, dataset_dir, tmp_path, changed, reason):
    """In one line, and the checkpoints stay."""
    checkpoints = shutil.copytree(f"{zero3[0]}-checkpoints", tmp_path / "model-checkpoints")
    model = json.loads((zero3[0] / "metrics.json").read_text())["run"]["--model"]  # of the worker that trained it
    args = ["--model", model, "--dataset-dir", dataset_dir, "--output-dir", tmp_path / "model", *TEN_STEPS]
    error = error_of("train.py", *args, *changed, "--resume")
    assert f"{checkpoints / 'checkpoint-10'} {reason}" in error
    assert len(complete_checkpoints(checkpoints)) == 10


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "after"),
    [(["--offload"], ["--no-offload"]), (["--no-offload"], ["--offload", "--micro-batch-size", 4])],
    ids=["to the device", "to the CPU's memory, in smaller micro-batches"],
)
def test_a_resumed_run_may_offload_more_or_less(plain_loop, zero3, small_model, dataset_dir, tmp_path, before, after):
    """Adam's moments come along: the weights are those of the plain loop, which nothing interrupts."""
    basics = ["--model", small_model, "--output-dir", tmp_path / "model"]
    if before == ["--offload"]:  # as on a CPU by default
        basics, _ = copy_of(zero3[0], tmp_path)
    basics += ["--dataset-dir", dataset_dir, *TEN_STEPS]
    if before != ["--offload"]:
        run("train.py", *basics, *before)
    for step in range(6, 11):
        shutil.rmtree(tmp_path / f"model-checkpoints/checkpoint-{step}")
    done = run("train.py", *basics, *after, "--resume", "--overwrite")
    assert f"--offload was {before == ['--offload']} and is now {before != ['--offload']}: dropout and" in done.stderr
    assert largest_difference(plain_loop[0], tmp_path / "model-checkpoints/checkpoint-10") < TOLERANCE


DAMAGED = ["scheduler.pt", "model_states.pt", "model.safetensors"]  # tests/training/test_checkpoints.py has all cases


def copy_of(trained, tmp_path):
    """Copy a trained model and its checkpoints; return the basic options of its run, and the newest checkpoint."""
    checkpoints = shutil.copytree(f"{trained}-checkpoints", tmp_path / "model-checkpoints")
    folder = shutil.copytree(trained, tmp_path / "model")
    model = json.loads((folder / "metrics.json").read_text())["run"]["--model"]
    return ["--model", model, "--output-dir", folder], checkpoints / "checkpoint-10"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "launcher"),
    [
        ("optim_states.pt", [sys.executable]),
        *(pytest.param(damage, [sys.executable], marks=pytest.mark.thorough) for damage in DAMAGED),
        *(pytest.param(damage, TORCHRUN, marks=pytest.mark.thorough) for damage in ["optim_states.pt", *DAMAGED]),
    ],
)
def test_a_run_with_a_truncated_checkpoint_goes_on_from_the_one_before(
    train_once, dataset_dir, tmp_path, launcher, damage
):
    """All processes choose the same one, and the run comes to the same loss again."""
    options = ["--micro-batch-size", 4] if launcher == TORCHRUN else []
    name = "to be damaged" if options else "zero3"  # as the fixture
    folder, _ = train_once(name, *options, launcher=launcher)
    basics, newest = copy_of(folder, tmp_path)
    losses = [entry["eval_loss"] for entry in read_state(newest)["log_history"] if "eval_loss" in entry]
    [path, *_] = newest.rglob(f"*{damage}")
    path.write_bytes(path.read_bytes()[:-1])
    args = [*basics, "--dataset-dir", dataset_dir, *TEN_STEPS, *options, "--resume"]
    done = run("train.py", *args, launcher=launcher)
    name = path.relative_to(newest).as_posix()
    assert f"{newest} is not used, as it is damaged: {name} has " in done.stderr
    assert f"resuming from {newest.with_name('checkpoint-9')}\n" in done.stderr
    assert newest.with_name("checkpoint-10.unused").exists() and find_fault(newest) is None
    again = [entry["eval_loss"] for entry in read_state(newest)["log_history"] if "eval_loss" in entry]
    assert again == pytest.approx(losses, abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    "damage",
    ["optim_states.pt", pytest.param("scheduler.pt", marks=pytest.mark.thorough), "rng_state.pth"],
)
def test_damage_that_leaves_the_size_is_one_line(zero3, dataset_dir, tmp_path, damage):
    """The checkpoint is named, and without it the run goes on."""
    basics, newest = copy_of(zero3[0], tmp_path)
    [path] = newest.rglob(f"*{damage}")
    path.write_bytes(bytes(path.stat().st_size))
    args = [*basics, "--dataset-dir", dataset_dir, *TEN_STEPS, "--epochs", 11, "--resume"]
    error = run("train.py", *args, check=False)
    assert error.returncode == 1, error.stderr
    assert f"train.py: error: {newest} cannot be loaded (" in error.stderr.splitlines()[-1]
    newest.rename(tmp_path / "away")
    assert f"resuming from {newest.with_name('checkpoint-9')}\n" in run("train.py", *args).stderr


@pytest.mark.slow
def test_a_config_that_is_wrong_is_not_called_a_damaged_checkpoint(zero3, dataset_dir, tmp_path):
    basics, _ = copy_of(zero3[0], tmp_path)
    config = json.loads((ROOT / "ds_config.json").read_text())
    config["zero_optimization"]["offload_param"] = {"device": "cpu", "pin_memory": "?"}
    (tmp_path / "own.json").write_text(json.dumps(config))
    args = [*basics, "--dataset-dir", dataset_dir, *TEN_STEPS, "--epochs", 11, "--resume"]
    error = run("train.py", *args, "--deepspeed", tmp_path / "own.json", check=False)
    assert error.returncode == 1, error.stderr
    assert "the --deepspeed config is not valid: " in error.stderr.splitlines()[-1]


def test_an_epoch_that_a_signal_left_without_an_evaluation_gets_one(checkpoints):
    """Its checkpoint could never be the best one."""
    newest = checkpoints / "checkpoint-12"
    assert not lacks_evaluation(newest, steps_per_epoch=3)
    state = read_state(newest)
    history = [entry for entry in state["log_history"] if entry["step"] != 12]
    (newest / "trainer_state.json").write_text(json.dumps(state | {"log_history": history}))
    assert lacks_evaluation(newest, steps_per_epoch=3) and not lacks_evaluation(newest, steps_per_epoch=5)


EIGHT_EPOCHS = ["--batch-size", 8, "--micro-batch-size", 8, "--epochs", 8]  # of three steps


@pytest.fixture(scope="module")
def model_with_dropout(small_model, tmp_path_factory):
    """A folder with a model whose training depends on the state of the random generators."""
    folder = tmp_path_factory.mktemp("models") / "dropout"
    shutil.copytree(small_model, folder)
    config = AutoConfig.from_pretrained(folder, resid_pdrop=0.1, embd_pdrop=0.1, attn_pdrop=0.1)
    config.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def undisturbed(model_with_dropout, dataset_dir, tmp_path_factory):
    """The folder of a model after eight epochs that nothing disturbed."""
    folder = tmp_path_factory.mktemp("undisturbed") / "model"
    run("train.py", "--model", model_with_dropout, "--dataset-dir", dataset_dir, "--output-dir", folder, *EIGHT_EPOCHS)
    return folder


@pytest.mark.slow
def test_stopped_in_every_way_and_resumed(undisturbed, model_with_dropout, dataset_dir, tokenizer, tmp_path):
    """Killed before the optimizer's part of a checkpoint and before its last file, stopped by Ctrl-C: the same weights.

    To 5e-6 in float32, where eight epochs move weights by 1e-2 and threads add in another order.
    """
    folder, checkpoints = tmp_path / "model", tmp_path / "model-checkpoints"
    args = ["--model", model_with_dropout, "--dataset-dir", dataset_dir, "--output-dir", folder, *EIGHT_EPOCHS]
    kill_at = [sys.executable, SPIES / "kill_at.py"]
    for moment, options in {"checkpoint-3/global_step3": [], "checkpoint-9/trainer_state.json": ["--resume"]}.items():
        killed = run("train.py", *args, *options, launcher=kill_at, check=False, MOMENT=moment)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        checkpoint = checkpoints / Path(moment).parent
        assert checkpoint.exists() and not (checkpoint / MARKER).exists()
    assert f"no complete checkpoint in {checkpoints}: starting from the beginning\n" in killed.stderr

    process = start("train.py", *args, "--resume", warm=True, start_new_session=True)
    wait_for((checkpoints / "checkpoint-12" / MARKER).exists, process)
    os.killpg(process.pid, signal.SIGINT)
    errors = process.communicate()[1]
    assert process.returncode == 130 and f"resuming from {checkpoints / 'checkpoint-6'}\n" in errors, errors
    stopped_at = int(re.search(r"\nstopped at step (\d+)\. Pass --resume to continue from there\.\n$", errors)[1])
    assert (checkpoints / f"checkpoint-{stopped_at}" / MARKER).exists() and not folder.exists()

    assert "Pass --resume to continue from it" in error_of("train.py", *args)

    resumed = run("train.py", *args, "--resume", "--keep-checkpoints", 2).stderr
    assert f"resuming from {checkpoints / f'checkpoint-{stopped_at}'}\n" in resumed
    best, evaluation = find_best(checkpoints)
    assert {path.name for path in checkpoints.iterdir()} == {MANIFEST, "checkpoint-21", "checkpoint-24", best.name}
    assert json.loads((folder / "metrics.json").read_text())["best"] == evaluation
    assert_the_best_is_saved(folder, dataset_dir, tokenizer)
    last = (Path(f"{path}-checkpoints", "checkpoint-24") for path in (folder, undisturbed))
    weights, expected = (load_file(path / "model.safetensors") for path in last)
    assert weights.keys() == expected.keys()
    assert max((weights[name] - expected[name]).abs().max() for name in weights) < 5e-6
    before = load_file(model_with_dropout / "model.safetensors")["transformer.h.0.mlp.c_fc.weight"]
    assert (before - expected["transformer.h.0.mlp.c_fc.weight"]).abs().max() > 1e-3
