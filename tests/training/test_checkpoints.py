"""chatter.training.checkpoints: complete checkpoints are marked, checked, found and deleted."""

import json

import pytest
from conftest import CHECKPOINT_FILES, RUN, TEN_STEPS, error_of

from chatter.cli import InputError
from chatter.files import MANIFEST
from chatter.training.checkpoints import (
    FILES,
    MARKER,
    RUN_ID,
    STATE,
    check_origin,
    complete_checkpoints,
    delete_incomplete,
    find_best,
    find_fault,
    mark_complete,
    prepare_checkpoints,
    read_run_id,
    set_aside_unusable,
)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_complete_checkpoints_are_in_the_order_of_their_steps(checkpoints):
    assert [path.name for path in complete_checkpoints(checkpoints)] == [f"checkpoint-{n}" for n in (6, 9, 12)]


@pytest.mark.parametrize(("num_kept", "kept"), [(1, [9, 12]), (2, [9, 12]), (3, [6, 9, 12]), (None, [6, 9, 12])])
def test_the_newest_checkpoints_and_the_best_are_kept(checkpoints, num_kept, kept):
    """What is incomplete is neither counted nor deleted: another process may be writing it."""
    mark_complete(checkpoints / "checkpoint-12", RUN, num_kept)
    assert [path.name for path in complete_checkpoints(checkpoints)] == [f"checkpoint-{n}" for n in kept]
    assert (checkpoints / "checkpoint-15").exists()


def test_the_best_checkpoint_is_complete_and_of_a_step(checkpoints):
    """Not the evaluation before training, nor that of a checkpoint that is not complete."""
    assert find_best(checkpoints) == (checkpoints / "checkpoint-9", {"step": 9, "epoch": 3.0, "eval_loss": 2.0})
    mark_complete(checkpoints / "checkpoint-15", RUN, None)
    assert find_best(checkpoints)[0].name == "checkpoint-15"


@pytest.mark.parametrize("name", [MARKER, STATE])
@pytest.mark.parametrize("content", ["", "{", "[1]", '{"files": 1}'])
def test_a_checkpoint_whose_description_is_damaged_is_set_aside(checkpoints, name, content, capsys):
    (checkpoints / "checkpoint-12" / name).write_text(content)
    assert_is_set_aside(checkpoints, name, capsys)


@pytest.mark.parametrize("name", [*CHECKPOINT_FILES, STATE])
def test_a_checkpoint_without_one_of_its_files_is_set_aside(checkpoints, name, capsys):
    (checkpoints / "checkpoint-12" / name).unlink()
    assert_is_set_aside(checkpoints, f"{name} is missing", capsys)


@pytest.mark.parametrize("name", CHECKPOINT_FILES)
@pytest.mark.parametrize("size", [0, 11, 13])
def test_a_checkpoint_with_a_file_of_another_size_is_set_aside(checkpoints, name, size, capsys):
    (checkpoints / "checkpoint-12" / name).write_bytes(bytes(size))
    assert_is_set_aside(checkpoints, f"{name} has {size} of 12 bytes", capsys)


def assert_is_set_aside(checkpoints, reason, capsys):
    """Assert that checkpoint-12 is damaged, before and after it is renamed, and that the line about it says why."""
    before = checkpoints / "checkpoint-12"
    for _ in range(2):
        assert [path.name for path in complete_checkpoints(checkpoints)] == ["checkpoint-6", "checkpoint-9"]
        set_aside_unusable(checkpoints)
        assert not before.exists() and (checkpoints / "checkpoint-12.unused").exists()
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{before} is not used, as it is damaged: ") and reason in line
    assert line.endswith("It is now called checkpoint-12.unused.")


def test_a_damaged_checkpoint_is_neither_the_best_nor_counted_nor_deleted(checkpoints):
    (checkpoints / "checkpoint-9/model.safetensors").write_bytes(b"")
    assert find_best(checkpoints)[0].name == "checkpoint-12"
    mark_complete(checkpoints / "checkpoint-15", RUN, 2)
    assert [path.name for path in complete_checkpoints(checkpoints)] == ["checkpoint-12", "checkpoint-15"]
    assert (checkpoints / "checkpoint-9").exists()


def test_a_checkpoint_of_an_earlier_version_lists_no_sizes_and_can_be_used(checkpoints):
    marker = checkpoints / "checkpoint-12" / MARKER
    recorded = json.loads(marker.read_text())
    assert recorded.pop(FILES).keys() == {*CHECKPOINT_FILES, STATE}
    assert recorded == RUN | {RUN_ID: read_run_id(checkpoints)}
    marker.write_text(json.dumps(recorded))
    assert find_fault(marker.parent) is None and complete_checkpoints(checkpoints)[-1] == marker.parent


def test_a_checkpoint_of_another_run_is_set_aside(checkpoints, capsys):
    """A copy that deletes nothing leaves those of an earlier run beside the newer ones."""
    marker = checkpoints / "checkpoint-12" / MARKER
    marker.write_text(json.dumps(json.loads(marker.read_text()) | {RUN_ID: "another"}))
    set_aside_unusable(checkpoints)
    assert complete_checkpoints(checkpoints)[-1] == checkpoints / "checkpoint-9"
    [aside] = capsys.readouterr().err.splitlines()
    assert aside == (
        f"{checkpoints}/checkpoint-12 is not used, as it is from another run. It is now called checkpoint-12.unused."
    )


def test_files_that_somebody_adds_do_no_damage(checkpoints):
    (checkpoints / "checkpoint-12/notes.txt").touch()
    assert find_fault(checkpoints / "checkpoint-12") is None


def test_a_copy_of_a_checkpoint_is_none(checkpoints):
    for name in ("checkpoint-12 (copy)", "checkpoint-twelve", "old-checkpoint-3"):
        (checkpoints / name).mkdir()
        (checkpoints / name / MARKER).write_text("{}")
    set_aside_unusable(checkpoints)
    assert [path.name for path in complete_checkpoints(checkpoints)] == [f"checkpoint-{n}" for n in (6, 9, 12)]


def test_a_checkpoint_that_is_damaged_again_replaces_the_one_set_aside(checkpoints):
    for content in (b"first", b"second"):
        (checkpoints / "checkpoint-12").mkdir(exist_ok=True)
        (checkpoints / "checkpoint-12" / MARKER).write_bytes(content)
        set_aside_unusable(checkpoints)
    assert (checkpoints / "checkpoint-12.unused" / MARKER).read_bytes() == b"second"


def test_only_a_new_run_deletes_what_was_set_aside(checkpoints):
    (checkpoints / "checkpoint-12/scheduler.pt").unlink()
    set_aside_unusable(checkpoints)
    delete_incomplete(checkpoints)
    prepare_checkpoints(checkpoints, keep_complete=True)
    assert names(checkpoints) == [MANIFEST, "checkpoint-12.unused", "checkpoint-6", "checkpoint-9"]
    prepare_checkpoints(checkpoints, keep_complete=False)
    assert names(checkpoints) == [MANIFEST]


def test_a_folder_of_nothing_but_damaged_checkpoints_stays_ours(checkpoints):
    for step in (6, 9, 12):
        (checkpoints / f"checkpoint-{step}/scheduler.pt").unlink()
    set_aside_unusable(checkpoints)
    delete_incomplete(checkpoints)
    prepare_checkpoints(checkpoints, keep_complete=True)
    assert names(checkpoints) == [MANIFEST, *sorted(f"checkpoint-{step}.unused" for step in (6, 9, 12))]


def test_a_run_keeps_its_id_as_long_as_it_has_a_complete_checkpoint(checkpoints):
    assert read_run_id(checkpoints) is None  # of an earlier version
    ids = []
    for keep_complete in (True, True, False, True):
        prepare_checkpoints(checkpoints, keep_complete)
        ids.append(read_run_id(checkpoints))
    assert ids[0] == ids[1] and len({*ids}) == 3


def test_what_is_incomplete_is_deleted(checkpoints):
    (checkpoints / "runs").mkdir()  # of TensorBoard
    delete_incomplete(checkpoints)
    assert names(checkpoints) == [MANIFEST, "checkpoint-12", "checkpoint-6", "checkpoint-9", "runs"]


@pytest.mark.parametrize(
    ("keep_complete", "kept"), [(True, ["checkpoint-12", "checkpoint-6", "checkpoint-9"]), (False, [])]
)
def test_files_of_others_are_never_deleted(keep_complete, kept, checkpoints):
    """A new run and a resumed one delete checkpoints of train.py, and nothing else."""
    for name in ("notes.txt", "checkpoint-notes", "checkpoint-9 (copy)", ".hidden"):
        (checkpoints / name).mkdir()
    prepare_checkpoints(checkpoints, keep_complete)
    assert names(checkpoints) == sorted(
        [MANIFEST, ".hidden", "checkpoint-9 (copy)", "checkpoint-notes", "notes.txt", *kept]
    )


def test_a_folder_of_somebody_else_is_refused(tmp_path):
    (tmp_path / "checkpoint-500").mkdir()  # of another program
    with pytest.raises(InputError, match="contains other files"):
        check_origin(tmp_path)
    assert names(tmp_path) == ["checkpoint-500"]


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "checkpoints").touch()
    with pytest.raises(InputError, match=r"checkpoints is a file, not a folder\. Move it away"):
        check_origin(tmp_path / "checkpoints")


def test_an_empty_folder_is_taken(tmp_path):
    check_origin(tmp_path)
    prepare_checkpoints(tmp_path / "deep/checkpoints", keep_complete=False)
    assert names(tmp_path / "deep/checkpoints") == [MANIFEST]


def test_no_empty_folder_is_left(tmp_path):
    (tmp_path / "checkpoints/checkpoint-3").mkdir(parents=True)
    delete_incomplete(tmp_path / "checkpoints")
    assert names(tmp_path) == []
    delete_incomplete(tmp_path / "nowhere")
    assert names(tmp_path) == []


@pytest.mark.slow
def test_checkpoints_of_another_program_survive_the_refusal(small_model, dataset_dir, tmp_path):
    """The error advises to move them away."""
    foreign = tmp_path / "model-checkpoints/checkpoint-500/model.safetensors"
    foreign.parent.mkdir(parents=True)
    foreign.touch()
    args = ["--model", small_model, "--dataset-dir", dataset_dir, "--output-dir", tmp_path / "model", *TEN_STEPS]
    error = error_of("train.py", *args, "--overwrite", "--no-deepspeed")
    assert "model-checkpoints contains other files. Move them away" in error and foreign.exists()
