"""Confidence intervals of shares."""

from __future__ import annotations

import math

Z = 1.96  # of 95%


def wilson_interval(right: int, total: int) -> tuple[float, float]:
    """Return the 95% confidence interval of a share (Wilson, 1927).

    >>> [round(bound, 3) for bound in wilson_interval(15, 20)]
    [0.531, 0.888]
    """
    if not total:
        return 0.0, 1.0
    share, weight = right / total, Z**2 / total
    center = (share + weight / 2) / (1 + weight)
    half = Z * math.sqrt(share * (1 - share) / total + weight / (4 * total)) / (1 + weight)
    return max(center - half, 0.0), min(center + half, 1.0)
