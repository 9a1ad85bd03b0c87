"""chatter.generation.reload: a changed model is loaded beside the old one, which stays if that fails."""

import os
import shutil

import pytest

from chatter.cli import InputError
from chatter.generation.reload import ModelFolder
from chatter.interrupt import Terminated


@pytest.fixture
def folder(random_model, tmp_path):
    return shutil.copytree(random_model, tmp_path / "model", ignore=shutil.ignore_patterns("ctranslate2"))


@pytest.fixture
def model_folder(folder):
    """A folder whose model is the number of times that it was loaded."""
    loads = []
    found = ModelFolder(folder, lambda: loads.append(1) or len(loads))
    assert found.load() == 1
    return found


def in_place(path):
    """Write other bytes, as many and as old as before."""
    data, state = path.read_bytes(), path.stat()
    path.write_bytes(data[::-1])
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


def by_renaming(path):
    copy = path.with_suffix(".new")
    shutil.copy2(path, copy)
    copy.replace(path)


@pytest.mark.parametrize("change", [in_place, by_renaming])
@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "chat_format.json"])
def test_a_change_is_noticed_once(name, change, model_folder):
    assert model_folder.load_if_changed() is None
    change(model_folder.folder / name)
    assert [model_folder.load_if_changed() for _ in range(3)] == [2, None, None]


def test_new_files_are_noticed_but_not_the_copy_for_ctranslate2(model_folder):
    (model_folder.folder / "ctranslate2").mkdir()
    (model_folder.folder / "README.md").write_text("x")
    assert model_folder.load_if_changed() is None
    (model_folder.folder / "said.u64").write_bytes(bytes(8))
    assert model_folder.load_if_changed() == 2


def test_while_the_folder_is_replaced_nothing_is_loaded(model_folder, tmp_path):
    model_folder.folder.rename(tmp_path / "old")
    assert model_folder.load_if_changed() is None
    model_folder.folder.mkdir()
    shutil.copy(tmp_path / "old/config.json", model_folder.folder)
    assert model_folder.load_if_changed() is None
    model_folder.folder.joinpath("config.json").unlink()
    model_folder.folder.rmdir()
    shutil.copytree(tmp_path / "old", model_folder.folder)
    assert model_folder.load_if_changed() == 2


class Panic(BaseException):
    """As pyo3 raises for a panic in Rust."""


@pytest.mark.parametrize("error", [InputError("no\nmodel."), RuntimeError("bad"), Panic("oh"), MemoryError()], ids=repr)
def test_a_model_that_cannot_be_loaded_leaves_the_old_one(error, model_folder, capsys):
    def fail():
        raise error

    load, model_folder.load_model = model_folder.load_model, fail
    by_renaming(model_folder.folder / "config.json")
    assert model_folder.load_if_changed() is None and model_folder.load_if_changed() is None
    reason = {
        InputError: "no\\nmodel.",
        RuntimeError: "RuntimeError: bad",
        Panic: "Panic: oh",
        MemoryError: "MemoryError",
    }
    assert capsys.readouterr().err.splitlines() == [
        f"{model_folder.folder} has changed: loading the new model",
        f"keeping the old model, as the new one cannot be loaded: {reason[type(error)]}",
    ]
    model_folder.load_model = load
    by_renaming(model_folder.folder / "config.json")
    assert model_folder.load_if_changed() == 2


@pytest.mark.parametrize("error", [KeyboardInterrupt, Terminated, SystemExit])
def test_a_signal_ends_a_load(error, model_folder):
    def fail():
        raise error(15)

    model_folder.load_model = fail
    by_renaming(model_folder.folder / "config.json")
    with pytest.raises(error):
        model_folder.load_if_changed()


def test_a_model_that_changes_while_it_is_loaded_is_loaded_again(model_folder):
    load, changes = model_folder.load_model, [by_renaming]

    def change_and_load():
        for change in changes:
            change(model_folder.folder / "tokenizer.json")
        changes.clear()
        return load()

    model_folder.load_model = change_and_load
    by_renaming(model_folder.folder / "config.json")
    assert [model_folder.load_if_changed() for _ in range(3)] == [None, 3, None]
