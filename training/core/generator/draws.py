"""Random draws for many rows at once."""

import numpy as np


def hashed(*parts: np.ndarray | int) -> np.ndarray:
    """A hash of equally long whole numbers [n], as [n] uint64: what a card always does in the same place. The mixing is
    that of SplitMix64."""
    state = np.zeros(1, np.uint64)
    for part in parts:
        state = (state ^ np.asarray(part).astype(np.uint64)) + np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state ^= state >> np.uint64(31)
    return state


def uniform_of(*parts: np.ndarray | int) -> np.ndarray:
    """The hash as numbers in [0, 1), [n] float64."""
    return (hashed(*parts) >> np.uint64(11)) * 2.0**-53


def chosen(random: np.random.Generator, weights: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """One column for each of `rows` [n], which number the rows of `weights` [r, c]: [n] int64."""
    cumulated = np.cumsum(weights, axis=1)
    cumulated /= cumulated[:, -1:]
    return np.minimum((random.random(len(rows))[:, None] >= cumulated[rows]).sum(axis=1), weights.shape[1] - 1)


def among(random: np.random.Generator, names: tuple[str, ...], numbers: dict[str, int], count: int) -> np.ndarray:
    """`count` of the names, as their numbers, each equally often."""
    return np.array([numbers[name] for name in names])[random.integers(0, len(names), count)]


def groups(random: np.random.Generator, sizes: tuple[int, int], count: int) -> tuple[np.ndarray, np.ndarray]:
    """`count` rows in groups of a size drawn from `sizes`, both included; the last one may be smaller. Returns each
    row's group and its place in it, [count] int64 each."""
    drawn = random.integers(sizes[0], sizes[1] + 1, count // sizes[0] + 1)
    group = np.repeat(np.arange(len(drawn)), drawn)[:count]
    return group, np.arange(count) - np.searchsorted(group, group)


def elapsed(random: np.random.Generator, group: np.ndarray, minutes: tuple[float, float]) -> np.ndarray:
    """Seconds from the first row of each group to each row, if the rows of a group follow each other after so many
    minutes: [n] int64."""
    gaps = random.uniform(*minutes, len(group)) * 60
    total = np.cumsum(gaps)
    first = np.searchsorted(group, group)
    return (total - total[first]).astype(np.int64)
