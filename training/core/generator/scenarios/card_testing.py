"""Card testing: stolen card numbers are tried with tiny amounts at one online merchant, to find those that work.

Most campaigns take an hour; the careful ones try few cards in two days. Programs forge a new device for most tries.
"""

import numpy as np

from training.core.generator import draws, origins
from training.core.generator.merchants import NOWHERE
from training.core.generator.parameters import NUMBER_OF, ONLINE, SCENARIO_NUMBER
from training.core.generator.scenarios.victims import replaced, some_cards, starts
from training.core.generator.world import DAY_S, World, rows_of

CATEGORIES = ("charity", "digital_goods", "subscriptions", "transport", "fast_food")
TRIES = (12, 45)  # of a campaign
TRIES_PER_CARD = (1, 3)
MINUTES, CAREFUL_SHARE, CAREFUL_MINUTES = (10, 90), 0.35, 2 * 24 * 60
MEDIAN_CENTS, SPREAD, MOST_CENTS = 220, 0.6, 999
FORGED_DEVICE_SHARE, HOSTING_SHARE, OWN_MAILBOX_SHARE = 0.6, 0.2, 0.4
REPLACED_AFTER_DAYS = (3, 12)


def rows(world: World, random: np.random.Generator, count: int) -> np.ndarray:
    campaign, _ = draws.groups(random, TRIES, count)
    campaigns = int(campaign.max(initial=0)) + 1
    careful = random.random(campaigns) < CAREFUL_SHARE
    minutes = np.where(careful, CAREFUL_MINUTES, random.uniform(*MINUTES, campaigns))
    began = starts(world, random, campaigns, 2 * DAY_S)
    time = began[campaign] + (random.random(count) * 60 * minutes[campaign]).astype(np.int64)
    category = draws.among(random, CATEGORIES, NUMBER_OF, campaigns)
    merchant = world.merchants.found(random, category, np.full(campaigns, NOWHERE))
    tried, _ = draws.groups(random, TRIES_PER_CARD, count)
    card = some_cards(world, random, count)[tried]
    cents = np.exp(np.log(MEDIAN_CENTS) + SPREAD * random.normal(size=count)).astype(np.int64)
    forged = random.random(count) < FORGED_DEVICE_SHARE
    device = np.where(forged, origins.new_devices(random, count), origins.new_devices(random, campaigns)[campaign])
    networks = origins.hidden_networks(random, 6 * campaigns, HOSTING_SHARE)
    network = networks[6 * campaign + random.integers(0, 6, count)]
    own = random.random(count) < OWN_MAILBOX_SHARE
    replaced(world, random, card, time, REPLACED_AFTER_DAYS)
    return rows_of(
        time=time,
        card=card,
        merchant=merchant[campaign],
        cents=cents.clip(50, MOST_CENTS),
        entry=ONLINE,
        device=device,
        network=network,
        host=random.integers(1, origins.HOSTS, count),
        mailbox=np.where(own, card, origins.new_mailboxes(random, count)),
        scenario=SCENARIO_NUMBER["card_testing"],
    )
