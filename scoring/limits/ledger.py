"""The buckets of all web processes, in Redis."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from redis.backoff import NoBackoff
from redis.retry import Retry

from scoring.limits.allowances import Allowance
from scoring.messages import connections

PREFIX = "fraudsite:limits:"
# A Redis that takes longer counts as away. Nothing but the thread that settles waits for it.
TIMEOUT_S = 0.5

# For each bucket: fill it up by the time that has passed on Redis's own clock, take out what was spent, tell what is
# left. What is left may be negative, by what processes spent before they knew of each other. `number` is what is left
# in a token bucket, or what was used of a quota on the day `at`. What is wanted as a whole is taken only if it is
# there; otherwise nothing is, and what is told as left is what would have been. What is given back after midnight is of
# a day that is over.
SCRIPT = """
local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1000000
local today = math.floor(now / 86400)
local told = {string.format('%.6f', now)}
local as_whole = ARGV[#ARGV] == 'whole'
for place, key in ipairs(KEYS) do
    local most = tonumber(ARGV[3 * place - 2])
    local per_s = tonumber(ARGV[3 * place - 1])
    local spent = tonumber(ARGV[3 * place])
    local kept = redis.call('HMGET', key, 'number', 'at')
    local number, at = tonumber(kept[1]), tonumber(kept[2])
    local left, expiry_s
    if per_s > 0 then
        left = (number and math.min(most, number + math.max(0, now - at) * per_s) or most) - spent
        number, at, expiry_s = left, now, math.ceil((most - left) / per_s) + 1
    else
        number = math.max(0, (at == today and number or 0) + spent)
        left, at, expiry_s = most - number, today, 172800
    end
    if left >= 0 or not as_whole then
        redis.call('HSET', key, 'number', string.format('%.6f', number), 'at', string.format('%.6f', at))
        redis.call('EXPIRE', key, expiry_s)
    end
    told[place + 1] = string.format('%.6f', left)
end
return told
"""


class Told(NamedTuple):
    """What Redis says: its time, in seconds since the epoch, and what is left in each bucket."""

    now: float
    left: list[float]


class Ledger:
    """A connection to Redis, for one thread."""

    def __init__(self) -> None:
        timeouts: dict[str, Any] = {"socket_timeout": TIMEOUT_S, "socket_connect_timeout": TIMEOUT_S}
        self._redis = connections.connect(retry=Retry(NoBackoff(), 0), **timeouts)
        self._script = self._redis.register_script(SCRIPT)

    def settle(self, spent: Sequence[tuple[Allowance, float]]) -> Told:
        """Take what was spent out of the buckets.

        Raises:
            redis.RedisError: Redis does not answer.
        """
        return self._run(spent, "")

    def take(self, allowance: Allowance, units: float) -> float:
        """Take units out of a bucket if it has them. Returns what is left; below zero is what it lacks, and then
        nothing was taken.

        Raises:
            redis.RedisError: Redis does not answer.
        """
        return self._run([(allowance, units)], "whole").left[0]

    def _run(self, spent: Sequence[tuple[Allowance, float]], how: str) -> Told:
        keys = [PREFIX + allowance.bucket for allowance, _ in spent]
        numbers = [number for allowance, units in spent for number in (allowance.most, allowance.per_s, units)]
        now, *left = map(float, self._script(keys=keys, args=[*numbers, how]))
        return Told(now, left)
