"""The scenarios of fraud, a module each.

`PLANNED` scenarios make their rows in advance: a function of the world, random draws and the number of rows. A
compromised merchant needs to know who was there, so it goes along with the days: see its module.
"""

from collections.abc import Callable

import numpy as np

from training.core.generator.scenarios import account_takeover, card_testing, friendly_fraud, stolen_card
from training.core.generator.world import World

PLANNED: dict[str, Callable[[World, np.random.Generator, int], np.ndarray]] = {
    "card_testing": card_testing.rows,
    "stolen_card": stolen_card.rows,
    "account_takeover": account_takeover.rows,
    "friendly_fraud": friendly_fraud.rows,
}
