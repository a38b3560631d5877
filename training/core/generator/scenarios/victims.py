"""What the scenarios share: whom they hit, when they begin, and when the card is replaced."""

import numpy as np

from training.core.generator.world import DAY_S, World


def some_cards(world: World, random: np.random.Generator, count: int) -> np.ndarray:
    """`count` cards, each once as far as there are so many."""
    return np.resize(random.permutation(len(world.cards)), count)


def starts(world: World, random: np.random.Generator, count: int, span_s: int) -> np.ndarray:
    """`count` times in seconds since the start, from which `span_s` are left to the end."""
    return random.integers(0, world.days * DAY_S - span_s, count)


def replaced(
    world: World, random: np.random.Generator, card: np.ndarray, time: np.ndarray, days: tuple[float, float]
) -> None:
    """Give abused cards a new number, so many days after their last fraud. `card` and `time` [n] are of frauds."""
    hit, place = np.unique(card, return_inverse=True)
    last = np.zeros(len(hit), np.int64)
    np.maximum.at(last, place, time)
    world.cards.reissue(hit, last + (random.uniform(*days, len(hit)) * DAY_S).astype(np.int64))
