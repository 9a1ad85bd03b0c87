"""chatter.training.base: a digest recognizes weights, whatever files they are in."""

import json
import shutil

import pytest
import torch
from conftest import TINY
from safetensors.torch import load_file, save_file

from chatter.training.base import digest_weights, has_weights

WEIGHTS = {
    "a": torch.arange(6, dtype=torch.float32).reshape(2, 3),
    "b": torch.ones(4, dtype=torch.bfloat16),
    "c": torch.tensor(2.0),
    "d": torch.empty(0),
}


def save(folder, weights, metadata=None):
    folder.mkdir(exist_ok=True)
    save_file(weights, folder / "model.safetensors", metadata)
    return digest_weights(folder)


@pytest.mark.parametrize(
    "changed",
    [
        {"a": WEIGHTS["a"] + 1e-6},
        {"a": WEIGHTS["a"].reshape(3, 2)},
        {"a": WEIGHTS["a"].view(torch.int32)},
        {"b": WEIGHTS["b"].half()},
        {"c": torch.tensor(3.0)},
        {"e": torch.ones(1)},
    ],
    ids=["values", "shape", "type", "precision", "a scalar", "one more"],
)
def test_other_weights_have_another_digest(tmp_path, changed):
    assert save(tmp_path / "model", WEIGHTS) != save(tmp_path / "other", WEIGHTS | changed)


def test_the_same_weights_in_other_files_have_the_same_digest(tmp_path):
    """With other metadata, or in several files with an index, whatever else is beside them."""
    expected = save(tmp_path / "model", WEIGHTS)
    assert save(tmp_path / "model", WEIGHTS, {"format": "pt"}) == expected
    split = tmp_path / "split"
    split.mkdir()
    parts = {"1.safetensors": ["d", "a"], "2.safetensors": ["c", "b"]}
    for part, names in parts.items():
        save_file({name: WEIGHTS[name] for name in names}, split / part)
    index = {"weight_map": {name: part for part, names in parts.items() for name in names}}
    (split / "model.safetensors.index.json").write_text(json.dumps(index))
    save_file({"z": torch.ones(1)}, split / "consolidated.safetensors")
    assert digest_weights(split) == expected


def test_random_weights_have_the_digest_of_their_config(tmp_path):
    digest = digest_weights(TINY)
    copy = shutil.copytree(TINY, tmp_path / "copy")
    assert digest_weights(copy) == digest
    config = json.loads((copy / "config.json").read_text()) | {"n_layer": 7}
    (copy / "config.json").write_text(json.dumps(config))
    assert digest_weights(copy) != digest


@pytest.mark.parametrize("damage", ["gone", "truncated", "other"])
def test_a_folder_no_longer_has_its_weights(small_model, tmp_path, damage):
    folder = shutil.copytree(small_model, tmp_path / "model")
    weights = folder / "model.safetensors"
    digest = digest_weights(folder)
    assert has_weights(folder, digest)
    if damage == "gone":
        shutil.rmtree(folder)
    elif damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:-1])
    else:
        save_file({name: 2 * weight for name, weight in load_file(weights).items()}, weights)
    assert not has_weights(folder, digest)
