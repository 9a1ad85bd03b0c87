"""chatter.training.outputs: what a run may replace, and what it is told to pass instead."""

import json
from argparse import Namespace

import pytest

from chatter.cli import InputError
from chatter.training.checkpoints import RUN_ID, prepare_checkpoints, read_run_id
from chatter.training.outputs import METRICS, check_outputs


@pytest.fixture
def model(checkpoints):
    """A model that the run of `checkpoints` saved."""
    prepare_checkpoints(checkpoints, keep_complete=True)
    folder = checkpoints.parent / "model"
    folder.mkdir()
    (folder / METRICS).write_text(json.dumps({RUN_ID: read_run_id(checkpoints)}))
    return folder


def check(output_dir, *flags, model="gpt2", lora_rank=0, max_steps=None):
    given = {name: name in flags for name in ("resume", "overwrite")}
    check_outputs(Namespace(output_dir=output_dir, model=str(model), lora_rank=lora_rank, max_steps=max_steps, **given))


def error(output_dir, *flags, **options):
    with pytest.raises(InputError) as raised:
        check(output_dir, *flags, **options)
    return str(raised.value)


def test_a_new_folder_is_taken(tmp_path):
    for flags in ((), ("resume",), ("overwrite",), ("resume", "overwrite")):
        check(tmp_path / "new", *flags)


def test_the_model_of_the_same_run_is_replaced_by_resume(model, capsys):
    check(model, "resume")
    assert capsys.readouterr().err == f"{model}, which this run saved before, will be replaced when the run ends\n"
    assert "Pass --resume with more --epochs to train it further, another --output-dir, or --overwrite" in error(model)
    assert "Pass --resume with a higher --max-steps to train it further, another" in error(model, max_steps=9)


@pytest.mark.parametrize("metrics", [None, "{", "[]", "{}", '{"run id": null}', '{"run id": "0ther"}'])
def test_another_model_is_not_replaced_by_resume(model, metrics):
    (model / METRICS).unlink() if metrics is None else (model / METRICS).write_text(metrics)
    assert f"{model} was not saved by the run of {model}-checkpoints. Move it away, or pass --overwrite as" in error(
        model, "resume"
    )
    check(model, "resume", "overwrite")
    assert f"{model} already exists. Pass another --output-dir, or --overwrite to replace it." in error(model)


def test_a_model_and_checkpoints_of_an_earlier_version_have_no_id(model, checkpoints):
    """Two missing ids are not the same id."""
    (checkpoints / ".chatter.json").write_text('{"files": []}')
    (model / METRICS).write_text("{}")
    assert "was not saved by the run of" in error(model, "resume")


def test_a_model_without_a_complete_checkpoint_is_not_replaced_by_resume(model, checkpoints):
    """The advice works: --overwrite without --resume."""
    for step in (6, 9, 12):
        (checkpoints / f"checkpoint-{step}/scheduler.pt").unlink()
    text = error(model, "resume")
    assert f"{model} already exists, and {checkpoints} has no complete checkpoint to resume from (" in text
    assert "not checkpoint-9: it is damaged: scheduler.pt is missing; " in text
    assert "or --overwrite instead of --resume to replace the model by a new run" in text
    assert "--resume" not in error(model)
    check(model, "overwrite")


def test_checkpoints_without_a_model_are_resumed_or_overwritten(checkpoints):
    model = checkpoints.parent / "model"
    assert f"{checkpoints} already exists. Pass --resume to continue" in error(model)
    check(model, "resume")
    check(model, "overwrite")


def test_adapters_do_not_replace_their_base(model, checkpoints, tmp_path, monkeypatch):
    """By whatever name it is called."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(model)
    for base in (model, "model", "./model/", "../" + tmp_path.name + "/model", "link"):
        for flags in (("overwrite",), ("resume",), ("resume", "overwrite"), ()):
            assert "which a run with --lora-rank needs" in error(model, *flags, model=base, lora_rank=8)
        check(model, "overwrite", model=base)
    check(tmp_path / "link2", model=model, lora_rank=8)
    assert "needs until it is finished" in error(tmp_path / "link", "overwrite", model=model, lora_rank=8)


@pytest.mark.parametrize("lora_rank", [0, 8])
def test_a_run_does_not_delete_its_own_base(lora_rank, model, checkpoints):
    """One of the checkpoints that it deletes: it could not be resumed, nor start again with less memory."""
    base = checkpoints / "checkpoint-9"
    for flags in (("overwrite",), ("resume",), ()):
        text = error(model, *flags, model=base, lora_rank=lora_rank)
        assert text == f"this run would delete {base}, its own base model. Choose another --output-dir."
    check(model.with_name("other"), model=base, lora_rank=lora_rank)


def test_a_model_of_the_hub_is_not_a_folder(tmp_path):
    check(tmp_path / "gpt2", model="gpt2", lora_rank=8)
