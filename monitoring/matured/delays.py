"""Delays of labels in bins, so that those of many days can be added up."""

from bisect import bisect_right
from collections.abc import Mapping
from datetime import timedelta

HOUR, DAY = 3_600.0, 86_400.0
# Upper edges of the bins, in seconds: eight to a tenfold, from six minutes to more than ten years. One more bin holds
# what is longer.
EDGES = tuple(0.1 * HOUR * 10 ** (i / 8) for i in range(49))


def bin_of(delay: timedelta) -> int:
    """The bin of a delay; of a negative one, which two clocks can cause, the first."""
    return bisect_right(EDGES, delay.total_seconds())


def quantile(counts: Mapping[int, int], q: float) -> float | None:
    """The delay in seconds that a share `q` in (0, 1] of the labels does not exceed, linear within its bin. None if
    there are none."""
    rank, before = q * sum(counts.values()), 0
    for number in sorted(counts):
        if counts[number] and before + counts[number] >= rank:
            low = EDGES[number - 1] if number else 0.0
            high = EDGES[min(number, len(EDGES) - 1)]
            return low + (high - low) * (rank - before) / counts[number]
        before += counts[number]
    return None


def curve(counts: Mapping[int, int]) -> list[tuple[float, float]]:
    """The share of the labels that had come after so many seconds, at each edge up to the first where all had."""
    total, before, points = sum(counts.values()), 0, []
    for number, edge in enumerate(EDGES):
        before += counts.get(number, 0)
        points.append((edge, before / total if total else 0.0))
        if before == total:
            break
    return points


def told(seconds: float | None) -> str:
    """A delay for people.

    >>> told(90.0), told(7200.0), told(4.2 * 86400), told(None)
    ('2 min', '2.0 h', '4.2 d', '–')
    """
    if seconds is None:
        return "–"
    if seconds < HOUR:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / HOUR:.1f} h" if seconds < 2 * DAY else f"{seconds / DAY:.1f} d"
