"""What tests of roll-ups have in common."""

import pytest

from monitoring.tests.support import predict


@pytest.fixture
def score(champion, acme):
    def at(*times, client=acme, **outcome):
        return predict(champion, client, times, **outcome)

    return at
