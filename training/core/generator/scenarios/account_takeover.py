"""Account takeover: somebody logs in at online shops as the card holder, from a device and an address never seen
before, and buys what sells well. Older card holders fall for it more often; organised groups reuse a device for several
victims. Some go through the holder's own, infected device.
"""

import numpy as np

from training.core.generator import draws, origins
from training.core.generator.merchants import NOWHERE
from training.core.generator.parameters import NUMBER_OF, ONLINE, PERSONAS, SCENARIO_NUMBER
from training.core.generator.purchases import MEDIAN_CENTS
from training.core.generator.scenarios.victims import replaced, starts
from training.core.generator.world import DAY_S, World, rows_of

CATEGORIES = ("electronics", "gift_cards", "travel", "clothing", "jewellery", "home_garden", "digital_goods")
PURCHASES, MINUTES = (1, 5), (5, 400)
FACTOR, SPREAD, CENTS = 2.0, 0.7, (3_000, 600_000)
INFECTED_SHARE, REUSED_DEVICE_SHARE, VICTIMS_OF_A_GROUP = 0.2, 0.3, 5
HOSTING_SHARE, OWN_MAILBOX_SHARE = 0.25, 0.6
OLDER = {"pensioner": 2.5}  # times as likely as others
REPLACED_AFTER_DAYS = (0.5, 6)


def rows(world: World, random: np.random.Generator, count: int) -> np.ndarray:
    takeover, _ = draws.groups(random, PURCHASES, count)
    takeovers = int(takeover.max(initial=0)) + 1
    risk = np.array([OLDER.get(who.name, 1.0) for who in PERSONAS])[world.cards.persona]
    victim = random.choice(len(risk), takeovers, p=risk / risk.sum(), replace=2 * takeovers > len(risk))
    began = starts(world, random, takeovers, 2 * DAY_S)
    time = began[takeover] + draws.elapsed(random, takeover, MINUTES)
    card = victim[takeover]
    category = draws.among(random, CATEGORIES, NUMBER_OF, count)
    cents = np.rint(MEDIAN_CENTS[category] * FACTOR * np.exp(SPREAD * random.normal(size=count))).astype(np.int64)
    reused = random.random(takeovers) < REUSED_DEVICE_SHARE
    group = random.integers(0, takeovers // VICTIMS_OF_A_GROUP + 1, takeovers)
    fresh = origins.new_devices(random, takeovers)
    own = random.random(takeovers) < OWN_MAILBOX_SHARE
    origin = {
        "device": np.where(reused, fresh[group], fresh),
        "network": origins.hidden_networks(random, takeovers, HOSTING_SHARE),
        "host": random.integers(1, origins.HOSTS, takeovers),
        "mailbox": np.where(own, victim, origins.new_mailboxes(random, takeovers)),
    }
    infected = random.random(takeovers) < INFECTED_SHARE
    at_home = origins.own(random, world.cards, victim, began // DAY_S, np.zeros(takeovers, bool))
    origin = {name: np.where(infected, at_home[name], column)[takeover] for name, column in origin.items()}
    replaced(world, random, card, time, REPLACED_AFTER_DAYS)
    return rows_of(
        time=time,
        card=card,
        merchant=world.merchants.found(random, category, np.full(count, NOWHERE)),
        cents=cents.clip(*CENTS),
        entry=ONLINE,
        scenario=SCENARIO_NUMBER["account_takeover"],
        **origin,
    )
