"""Friendly fraud: card holders buy online from their own device, and dispute it later. Few of them do, and repeatedly.
The purchase itself is as usual, only dearer, so a model can hardly find it.
"""

import numpy as np

from training.core.generator import draws
from training.core.generator.parameters import NUMBER_OF, SCENARIO_NUMBER
from training.core.generator.purchases import bought, seconds_of_day
from training.core.generator.scenarios.victims import starts
from training.core.generator.world import DAY_S, World

CATEGORIES = ("clothing", "electronics", "digital_goods", "entertainment", "travel")
DISPUTING_SHARE = 0.03  # of the cards
FACTOR = 1.8


def rows(world: World, random: np.random.Generator, count: int) -> np.ndarray:
    number = np.arange(len(world.cards))
    disputing = number[draws.uniform_of(number, 21) < DISPUTING_SHARE]
    card = random.choice(disputing if len(disputing) else number, count)
    category = draws.among(random, CATEGORIES, NUMBER_OF, count)
    day = starts(world, random, count, DAY_S) // DAY_S
    made = bought(
        world,
        random,
        time=day * DAY_S + seconds_of_day(random, category, np.zeros(count, np.int64)),
        card=card,
        category=category,
        town=world.cards.home[card],
        is_online=np.ones(count, bool),
        factor=FACTOR,
    )
    made["scenario"] = SCENARIO_NUMBER["friendly_fraud"]
    return made
