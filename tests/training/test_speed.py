"""chatter.training.speed: how fast a run is, and how long it takes."""

import pytest
import torch
from shapes import MEDIUM

from chatter.training.speed import describe_seconds, find_peak, flops_per_token, flops_utilization


def test_gpus_on_pcie_have_peaks_of_their_own():
    """By NVIDIA's data sheets, and none for a GPU that is not in the table."""
    names = ["Tesla V100-PCIE-32GB", "Tesla V100-SXM2-32GB", "NVIDIA H100 PCIe", "NVIDIA H100 80GB HBM3", "Radeon"]
    assert [find_peak(name) for name in names] == [112e12, 125e12, 756e12, 989e12, None]


def test_the_utilization_is_a_share_of_all_gpus(monkeypatch):
    """By hand, for gpt2-medium: 6 x 354.3 M parameters and 12 x 24 layers x 1024 x 512. No GPU is at hand."""
    assert flops_per_token(MEDIUM, 512) == pytest.approx(2.277e9, rel=1e-3)
    assert flops_utilization(1e5, MEDIUM, 512, 1) is None
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H100 80GB HBM3")
    assert flops_utilization(1e5, MEDIUM, 512, 1) == pytest.approx(0.230, rel=0.01)
    assert flops_utilization(1e5, MEDIUM, 512, 2) == pytest.approx(0.115, rel=0.01)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Radeon")
    assert flops_utilization(1e5, MEDIUM, 512, 1) is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "0 seconds"),
        (1, "1 second"),
        (59.6, "60 seconds"),
        (119, "2 minutes"),
        (1500, "25 minutes"),
        (9e3, "2.5 hours"),
    ],
)
def test_durations(seconds, text):
    assert describe_seconds(seconds) == text
