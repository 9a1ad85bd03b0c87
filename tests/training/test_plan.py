"""chatter.training.plan: what a run takes, and what would be faster."""

import re
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from conftest import ROOT
from shapes import MEDIUM

from chatter.training.placement import choose_placement
from chatter.training.plan import plan_memory
from chatter.training.zero import read_config


@pytest.fixture
def plan_on(monkeypatch):
    """Return a function that plans a run of gpt2-medium in fp16 on a GPU of so many GB. No GPU is at hand."""

    def plan(gigabytes, **options):
        for module in ("placement", "plan"):
            monkeypatch.setattr(
                f"chatter.training.{module}.describe", lambda model, tokens, mode: replace(MEDIUM, tokens=tokens)
            )
            monkeypatch.setattr(f"chatter.training.{module}.memory_of_gpu", lambda: gigabytes * 1e9)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (8, 0) if gigabytes == 11 else (7, 0))
        given = {"device": "cuda", "offload": None, "micro_batch_size": None, "batch_size": 24, "compile": False}
        given |= {"gradient_checkpointing": False, "deepspeed": ROOT / "ds_config.json", "no_deepspeed": False}
        args = SimpleNamespace(**(given | options))
        config = None if args.no_deepspeed else read_config(args.deepspeed)
        placement = choose_placement(args, None, 512, True, config)
        settings = SimpleNamespace(device=torch.device("cuda"), fp16=True)
        return plan_memory(SimpleNamespace(placement=placement, settings=settings, model=None))

    return plan


def test_where_there_is_room_nothing_is_offloaded(plan_on):
    assert plan_on(80)["offloaded"] == "nothing; --offload would need about 18.7 GB"
    assert plan_on(32, offload=True)["offloaded"] == (
        "parameters and optimizer; --no-offload would need about 23.6 GB, which fits, and be faster"
    )
    assert plan_on(6, offload=True, micro_batch_size=8)["offloaded"] == (
        "parameters and optimizer; --no-offload would need about 11.6 GB, which is too much"
    )


def test_the_plain_trainer_and_bf16_are_said_to_be_faster(plan_on):
    faster = plan_on(80)["faster"]
    assert faster == "--no-deepspeed --compile, with about 21.6 GB, for runs of more than ten minutes"
    assert plan_on(80, no_deepspeed=True)["faster"].startswith("--compile, with about 21.6 GB")
    assert "faster" not in plan_on(80, no_deepspeed=True, compile=True) and "faster" not in plan_on(8)
    assert plan_on(11, offload=True)["faster"].startswith("--precision bf16")


def test_a_gpu_that_is_too_small_is_said_to_be(plan_on):
    enough, short = plan_on(32)["GPU memory"], plan_on(6, micro_batch_size=8)["GPU memory"]
    assert enough == (
        "about 23.6 of 32 GB, estimated (weights 0.7, gradients 0.7, optimizer 4.3, activations 10.5, loss 7.4)"
    )
    assert short.endswith(": too much. Pass a lower --micro-batch-size, or --gradient-checkpointing")


@pytest.mark.slow
def test_the_plan_says_what_a_run_takes(zero3):
    assert re.search(r"^host memory        about \d+\.\d of \d+ GB, estimated$", zero3[1], re.M)
    assert "GPU memory" not in zero3[1]
