"""Finds payment card numbers in text, however they are written.

A card number has the first digits and the length of an issuer's numbers, and a valid Luhn check digit. Other digits
meet all three by chance, so UUIDs, digests and times are recognised and skipped, and digits in groups count only if
the groups are those in which cards are written.
"""

import re
import unicodedata
from bisect import bisect_left, bisect_right
from itertools import accumulate, cycle, pairwise
from operator import getitem
from uuid import RFC_4122, UUID

SHORTEST = 12
VERIFICATION_CODES = {"cvv", "cvc", "cvv2", "cvc2", "cid", "csc", "card_verification_value", "security_code"}
# The first digits of an issuer's numbers, and their lengths. If two issuers match, the first one counts.
ISSUERS = {
    "visa": (r"4", (13, 16, 19)),
    "mastercard": (r"5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720", (16,)),
    "american_express": (r"3[47]", (15,)),
    "discover": (r"6011|64[4-9]|65", (16, 19)),
    "diners_club": (r"30[0-5]|309|3[689]", (14, 16, 19)),
    "jcb": (r"352[89]|35[3-8]", (16, 17, 18, 19)),
    "jcb_of_old": (r"2131|1800", (15,)),
    "unionpay": (r"62|81", (16, 17, 18, 19)),
    "maestro": (r"50(?:18|20|38)|5893|6304|6390|6759|676[1-3]", (12, 13, 14, 15, 16, 17, 18, 19)),
    "mir": (r"220[0-4]", (16, 17, 18, 19)),
    "further_maestro": (r"5[678]", (16, 18, 19)),
    "rupay_elo_and_verve": (r"60|82|353|356|50[6-9]|63", (16, 18, 19)),
    "humo_and_uzcard": (r"8600|9860", (16,)),
    "troy": (r"9792", (16,)),
}
_BEGINNING = re.compile("(?=" + "|".join(f"(?P<{name}>{first})" for name, (first, _) in ISSUERS.items()) + ")")
# Groups of digits in which cards are written; also even groups, the last of which may be shorter.
GROUPINGS = {(4, 4, 4, 4), (4, 4, 4, 4, 3), (4, 6, 5), (4, 6, 4), (4, 3, 3, 3), (4, 4, 5)}
# In other groups only these lengths count, and never two groups of 7, which are order numbers.
LENGTHS_IN_ANY_GROUPS = (14, 15, 16, 19)
DASHES_AMONG_LETTERS = "ーㅡ一"  # Japanese, Korean and Chinese
# Inside longer runs of digits, numbers of 12 or 13 digits would be found everywhere.
SHORTEST_AMONG_DIGITS = 14

# ISO/IEC 7812-1, annex B: every second digit from the right is doubled, and counts as the sum of its digits.
_ONCE, _DOUBLE = range(10), (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)
_LUHN = (_DOUBLE, _ONCE), (_ONCE, _DOUBLE)  # for numbers that end at an even place, and at an odd one
# Bytes that stand between the digits of a number, all but digits and letters; the others become 0 and x. So a number is
# found only where so many digits follow each other.
_BETWEEN = bytes(byte for byte in range(256) if not chr(byte).isascii() or not chr(byte).isalnum())
_SHAPE = bytes(ord("0") if chr(byte).isdigit() else ord("x") for byte in range(256))
_DIGITS = b"0" * SHORTEST
_BEYOND_ASCII = re.compile(r"[^\x00-\x7f]")
_JOINED = re.compile(r"[0-9](?:[\W_]*[0-9])*")
_RUN = re.compile(r"[0-9]+")
_UUID_AS_NUMBER = re.compile(r"(?<![0-9])[0-9]{37,39}(?![0-9])")
_MONTH, _DAY = "(?:0[1-9]|1[0-2])", "(?:0[1-9]|[12][0-9]|3[01])"
_NO_CARD = re.compile(
    # A UUID with at least one letter, as digits alone could be cards.
    r"(?=[0-9_-]{0,35}[a-f])[0-9a-f]{8}(?:[_-][0-9a-f]{4}){3}[_-][0-9a-f]{12}"
    # A digest, or a UUID without its dashes.
    r"|(?<![0-9a-f])(?=(?:[0-9]*[a-f]){4})[0-9a-f]{32,}"
    # A date, except at the end of digits that may be a card's groups.
    rf"|(?<![0-9])(?<![0-9][-/._ ])(?:19|20)[0-9]{{2}}(?P<between>[-/._ ]){_MONTH}(?P=between){_DAY}"
    # A date without dashes, followed by at most as many digits as a time or a counter has.
    rf"|(?<![0-9])(?:19|20)[0-9]{{2}}{_MONTH}{_DAY}[0-9]{{0,12}}(?![0-9])"
    # A time of day, with its offset.
    r"|(?<![0-9:])[012][0-9]:[0-5][0-9](?::[0-5][0-9](?:[.,][0-9]+)?)?(?: ?[+-][0-9]{2}:?[0-9]{2})?(?![0-9:])"
    # Micro- or nanoseconds since 1970, in the years 2017 to 2030.
    r"|(?<![0-9])1[5-8][0-9]{14}(?:[0-9]{3})?(?![0-9])",
    re.IGNORECASE,
)


def holds_card_number(text: str) -> bool:
    """Whether a card number stands anywhere in the text: bare, in groups, beside or among other digits.

    >>> list(map(holds_card_number, ["4111111111111111 12/27", "１２３-4111__1111·1111–1111", "99411111111111111100"]))
    [True, True, True]
    >>> list(map(holds_card_number, ["order-20261101-000123", "2026-11-01T22:30:00.123456+00:00"]))
    [False, False]
    """
    if not text.isascii():
        text = _BEYOND_ASCII.sub(_plain, unicodedata.normalize("NFKC", text))
    if len(text) < SHORTEST or _DIGITS not in text.encode("utf-8", "replace").translate(_SHAPE, _BETWEEN):
        return False
    text = _NO_CARD.sub("x", _UUID_AS_NUMBER.sub(lambda found: "x" if _is_uuid(found[0]) else found[0], text))
    return any(_holds_number(_RUN.findall(joined[0])) for joined in _JOINED.finditer(text))


def names_verification_code(name: str) -> bool:
    """Whether a value of this name is the verification code of a card."""
    return re.sub(r"[^a-z0-9_]", "_", name.lower()) in VERIFICATION_CODES


def _plain(found: re.Match[str]) -> str:
    """The ASCII digit for a digit of another script, a dash for a letter that is used as one, else the character."""
    character = found[0]
    digit = unicodedata.digit(character, None)
    if digit is not None:
        return str(digit)
    return "-" if character in DASHES_AMONG_LETTERS else character


def _is_uuid(digits: str) -> bool:
    number = int(digits)
    return number < 1 << 128 and UUID(int=number).variant == RFC_4122 and UUID(int=number).version in range(1, 9)


def _holds_number(groups: list[str]) -> bool:
    """Whether these groups of digits, with no letter between them, hold a card number."""
    digits = "".join(groups)
    bounds = list(accumulate(map(len, groups), initial=0))
    sums = [list(accumulate(map(getitem, cycle(values), map(int, digits)), initial=0)) for values in _LUHN]
    for found in _BEGINNING.finditer(digits):
        start = found.start()
        for length in ISSUERS[str(found.lastgroup)][1]:
            end = start + length
            if end <= len(digits):
                upto = sums[end % 2]
                if (upto[end] - upto[start]) % 10 == 0 and _stand_as_in_cards(bounds, start, end):
                    return True
    return False


def _stand_as_in_cards(bounds: list[int], start: int, end: int) -> bool:
    """Whether the digits from `start` to `end` are grouped like a card's. `bounds` are the groups' bounds."""
    first, last = bisect_right(bounds, start) - 1, bisect_left(bounds, end)
    sizes = tuple(after - before for before, after in pairwise([start, *bounds[first + 1 : last], end]))
    is_whole = bounds[first] == start and bounds[last] == end
    if len(sizes) == 1:
        return is_whole or end - start >= SHORTEST_AMONG_DIGITS
    if sizes in GROUPINGS:
        return True
    is_even = set(sizes[:-1]) == {sizes[0]} and sizes[-1] <= sizes[0] < 7
    return is_whole and (is_even or (end - start in LENGTHS_IN_ANY_GROUPS and sizes != (7, 7)))
