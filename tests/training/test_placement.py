"""chatter.training.placement: the fastest way that fits a GPU, unless the options say another."""

import json
import sys
from dataclasses import replace

import pytest
from conftest import ROOT
from shapes import MEDIUM

from chatter.cli import InputError
from chatter.training.placement import choose_placement
from chatter.training.zero import read_config
from train import parse_args


@pytest.fixture
def place(monkeypatch):
    """Return a function that places gpt2-medium, with blocks of 512 tokens in half precision, on a GPU of so many GB.

    No GPU is at hand. 0 GB is a CPU.
    """

    def place(gigabytes, *options, processes=1):
        monkeypatch.setattr(sys, "argv", ["train.py", *map(str, options)])
        monkeypatch.setattr("chatter.training.placement.memory_of_gpu", lambda: gigabytes * 1e9)
        monkeypatch.setattr(
            "chatter.training.placement.describe", lambda model, tokens, mode: replace(MEDIUM, tokens=tokens)
        )
        monkeypatch.setenv("WORLD_SIZE", str(processes))
        args = parse_args()
        args.device = "cuda" if gigabytes else "cpu"
        config = None if args.no_deepspeed else read_config(args.deepspeed)
        return choose_placement(args, None, 512, True, config)

    return place


@pytest.mark.parametrize(
    ("gigabytes", "options", "micro_batch_size", "offloads"),
    [
        (80, [], 24, False),
        (32, [], 24, False),
        (24, [], 12, False),
        (16, [], 8, False),
        (11, [], 4, False),
        (8, [], 6, True),
        (6, [], 4, True),
        (1, [], 1, True),  # too small: the plan says so
        (80, ["--offload"], 24, True),
        (8, ["--no-offload"], 1, False),
        (16, ["--micro-batch-size", 24], 24, True),
        (16, ["--micro-batch-size", 24, "--no-offload"], 24, False),
        (80, ["--batch-size", 30], 30, False),
        (24, ["--no-deepspeed"], 12, False),
        (16, ["--gradient-checkpointing"], 12, False),
        (0, [], 8, True),
        (0, ["--batch-size", 12], 6, True),
        (0, ["--no-offload"], 8, False),
    ],
)
def test_the_fastest_that_fits(gigabytes, options, micro_batch_size, offloads, place):
    placement = place(gigabytes, *options)
    assert (placement.micro_batch_size, placement.mode.offloads) == (micro_batch_size, offloads)
    assert placement.shape.tokens == 512 * micro_batch_size


def test_several_processes_share_a_batch(place):
    assert place(80, processes=3).micro_batch_size == 8
    assert place(80, processes=48).micro_batch_size == 1  # refused later


@pytest.mark.parametrize(
    ("gigabytes", "options", "smaller"),
    [
        (80, [], ["--micro-batch-size", "12"]),
        (80, ["--micro-batch-size", 12], ["--offload"]),
        (80, ["--micro-batch-size", 12, "--offload"], []),
        (80, ["--batch-size", 1], ["--offload"]),
        (80, ["--offload"], ["--micro-batch-size", "12"]),
        (80, ["--no-deepspeed", "--batch-size", 9], ["--micro-batch-size", "3"]),
    ],
)
def test_what_would_take_less(gigabytes, options, smaller, place):
    assert list(place(gigabytes, *options).smaller) == smaller


def test_a_config_of_the_users_own_is_obeyed(place, tmp_path):
    config = json.loads((ROOT / "ds_config.json").read_text())
    path = tmp_path / "own.json"
    path.write_text(json.dumps(config | {"train_micro_batch_size_per_gpu": 6}))
    placement = place(80, "--deepspeed", path)
    assert (placement.micro_batch_size, placement.mode.offloads) == (6, True)
    for part in ("optimizer", "param"):
        del config["zero_optimization"][f"offload_{part}"]
    path.write_text(json.dumps(config))
    assert not place(1, "--deepspeed", path).mode.offloads
    with pytest.raises(InputError, match=r"own\.json does not offload\. Leave out --offload\.$"):
        place(80, "--deepspeed", path, "--offload")


def test_a_config_may_offload_to_the_cpu_only(place, tmp_path):
    """A section that is null is as good as none. Offloading to a disk was dropped without a word."""
    config = json.loads((ROOT / "ds_config.json").read_text())
    path = tmp_path / "own.json"
    config["zero_optimization"] |= {"offload_param": None, "offload_optimizer": {"device": "none"}}
    path.write_text(json.dumps(config))
    assert not place(80, "--deepspeed", path).mode.offloads
    config["zero_optimization"]["offload_param"] = {"device": "nvme", "nvme_path": "/nvme"}
    path.write_text(json.dumps(config))
    with pytest.raises(
        InputError, match=r"own\.json offloads to nvme, which train\.py cannot do\. Write cpu or none\."
    ):
        place(80, "--deepspeed", path)


def test_the_plain_trainer_cannot_offload(place):
    with pytest.raises(
        InputError, match=r"^the plain Trainer cannot offload\. Leave out --offload or --no-deepspeed\.$"
    ):
        place(80, "--no-deepspeed", "--offload")
