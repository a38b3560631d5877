"""Card numbers are found however they are written, and ordinary ids and times are not taken for them: both measured."""

import random
import unicodedata
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from training.core.card_numbers import holds_card_number

DIGITS = "0123456789"
# First digits and length of the numbers that are drawn: issuers with many cards more often than others.
ISSUED = [
    *[("4", 16)] * 8,
    *[(first, 16) for first in ("51", "52", "53", "54", "55", "2221", "2500", "2720")],
    *[("34", 15), ("37", 15)] * 2,
    *[("6011", 16), ("644", 16), ("65", 16), ("36", 14), ("38", 14), ("3528", 16), ("3589", 16)],
    *[("4", 19), ("62", 16), ("62", 19), ("5018", 16), ("6759", 16), ("2202", 16)],
]


def from_the_seed():
    return random.Random(14)  # noqa: S311


def with_check_digit(digits):
    """By the definition of ISO/IEC 7812-1, annex B, and not by the product's own way."""
    doubled = [2 * int(digit) for digit in digits[::-2]]
    single = [int(digit) for digit in digits[-2::-2]]
    return digits + str(-sum(single + [number // 10 + number % 10 for number in doubled]) % 10)


def drawn(draw, length):
    return "".join(draw.choices(DIGITS, k=length))


def card(draw):
    first, length = draw.choice(ISSUED)
    return with_check_digit(first + drawn(draw, length - 1 - len(first)))


def grouped(number, separator):
    sizes = {15: (4, 6, 5), 14: (4, 6, 4)}.get(len(number), (4, 4, 4, 4, 3))
    ends = [sum(sizes[: place + 1]) for place in range(len(sizes))]
    groups = [number[end - size : end] for size, end in zip(sizes, ends, strict=True)]
    return separator.join(filter(None, groups))


def in_script(number, zero):
    return number.translate({ord(digit): chr(ord(zero) + int(digit)) for digit in DIGITS})


# Each makes a text of a number, an expiry (month, year) and a security code; `d` draws further digits.
FORMS = {
    "bare": lambda n, m, y, c, d: n,
    "in words": lambda n, m, y, c, d: f"order{n}of today",
    "spaces": lambda n, m, y, c, d: grouped(n, " "),
    "dashes": lambda n, m, y, c, d: grouped(n, "-"),
    "dots": lambda n, m, y, c, d: grouped(n, "."),
    "slashes": lambda n, m, y, c, d: grouped(n, "/"),
    "underscores": lambda n, m, y, c, d: grouped(n, "_"),
    "two spaces": lambda n, m, y, c, d: grouped(n, "  "),
    "two dashes": lambda n, m, y, c, d: grouped(n, "--"),
    "mixed": lambda n, m, y, c, d: grouped(n, " - "),
    "no-break spaces": lambda n, m, y, c, d: grouped(n, "\N{NO-BREAK SPACE}"),
    "zero-width spaces": lambda n, m, y, c, d: grouped(n, "\N{ZERO WIDTH SPACE}"),
    "en dashes": lambda n, m, y, c, d: grouped(n, "\N{EN DASH}"),
    "minus signs": lambda n, m, y, c, d: grouped(n, "\N{MINUS SIGN}"),
    "full width": lambda n, m, y, c, d: in_script(n, "\N{FULLWIDTH DIGIT ZERO}"),
    "Arabic": lambda n, m, y, c, d: in_script(grouped(n, "\N{IDEOGRAPHIC SPACE}"), "\N{ARABIC-INDIC DIGIT ZERO}"),
    "Devanagari": lambda n, m, y, c, d: in_script(n, "\N{DEVANAGARI DIGIT ZERO}"),
    "single digits": lambda n, m, y, c, d: " ".join(n),
    "two halves": lambda n, m, y, c, d: f"{n[:8]}-{n[8:]}",
    "issuer and rest": lambda n, m, y, c, d: f"{n[:6]} {n[6:]}",
    "expiry after": lambda n, m, y, c, d: f"{n} {m}/{y}",
    "expiry before": lambda n, m, y, c, d: f"{m}/{y} {grouped(n, ' ')}",
    "expiry at once": lambda n, m, y, c, d: f"{n}{m}{y}",
    "code after": lambda n, m, y, c, d: f"{n} {c}",
    "code before": lambda n, m, y, c, d: f"{c}/{grouped(n, '-')}",
    "code at once": lambda n, m, y, c, d: f"{n}{c}",
    "both": lambda n, m, y, c, d: f"{grouped(n, '-')}-{m}-20{y}-{c}",
    "a track": lambda n, m, y, c, d: f";{n}={y}{m}101{d(8)}?",
    "zeros around": lambda n, m, y, c, d: f"000{n}00",
    "digits around": lambda n, m, y, c, d: f"{d(5)}{n}{d(4)}",
    "a day before": lambda n, m, y, c, d: f"20{y}{m}15{n}",
}


def test_it_finds_two_thousand_cards_in_thirty_forms():
    draw = from_the_seed()
    numbers = [card(draw) for _ in range(2_000)]
    found = {}
    for name, written in FORMS.items():
        texts = [
            written(n, f"{draw.randint(1, 12):02}", f"{draw.randint(25, 35)}", drawn(draw, 3), lambda k: drawn(draw, k))
            for n in numbers
        ]
        found[name] = sum(map(holds_card_number, texts)) / len(texts)
    assert len(found) > 30
    assert sum(found.values()) / len(found) >= 0.995, found
    assert min(found.values()) >= 0.985, found


def moment(draw):
    return datetime(2020, 1, 1, tzinfo=UTC) + timedelta(microseconds=draw.randrange(10 * 365 * 86_400 * 10**6))


def uuid(draw, version):
    if version == 7:
        milliseconds = int(moment(draw).timestamp() * 1000)
        return UUID(int=milliseconds << 80 | 7 << 76 | draw.getrandbits(12) << 64 | 2 << 62 | draw.getrandbits(62))
    return UUID(int=draw.getrandbits(128), version=version)


ORDER_NUMBERS = [
    lambda r: f"order-{r.randrange(10**6)}",
    lambda r: f"ORD-{moment(r):%Y}-{r.randrange(10**8):08}",
    lambda r: f"INV/{moment(r):%Y/%m}/{r.randrange(10**5):05}",
    lambda r: f"{moment(r):%Y%m%d}-{r.randrange(10**6):06}",
    lambda r: f"{moment(r):%Y%m%d}{r.randrange(10**8):08}",
    lambda r: f"{moment(r):%Y%m%d%H%M%S}{r.randrange(10**4):04}",
    lambda r: f"{moment(r):%Y-%m-%d}/{r.randrange(10**6):06}",
    lambda r: drawn(r, 8),
    lambda r: drawn(r, 10),
    lambda r: drawn(r, 12),
    lambda r: f"{r.choice('56')}{drawn(r, 12)}",  # of a large shop system
    lambda r: f"{drawn(r, 3)}-{drawn(r, 7)}-{drawn(r, 7)}",  # of a large market place
    lambda r: f"{drawn(r, 2)}-{drawn(r, 5)}-{drawn(r, 5)}",  # of another
    lambda r: f"45{r.randrange(10**8):08}-{r.randrange(1, 100) * 10:05}",  # of a large accounting system, with its line
    lambda r: f"{drawn(r, 4)}-{drawn(r, 4)}-{drawn(r, 4)}",
    lambda r: "".join(r.choices(DIGITS + "ABCDEFGHJKMNPQRSTVWXYZ", k=16)),
]
UUIDS = [
    *(lambda r, v=v: str(uuid(r, v)) for v in (1, 3, 4, 5, 7)),
    lambda r: uuid(r, 4).hex,
    lambda r: uuid(r, 7).hex,
    lambda r: str(uuid(r, 4)).upper(),
    lambda r: uuid(r, 4).urn,
    lambda r: f"order_{uuid(r, 7)}",
    lambda r: f"{{{uuid(r, 1)}}}",
    lambda r: str(uuid(r, 4)).replace("-", "_"),
    lambda r: str(uuid(r, 4).int),
]
TIMES = [
    lambda r: moment(r).isoformat(),
    lambda r: moment(r).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    lambda r: f"{moment(r).isoformat().removesuffix('+00:00')}{drawn(r, 3)}Z",
    lambda r: f"{moment(r)}",
    lambda r: f"{moment(r):%Y%m%dT%H%M%SZ}",
    lambda r: f"{moment(r):%Y%m%d%H%M%S}",
    lambda r: f"{moment(r):%Y%m%d%H%M%S%f}",
    lambda r: f"{moment(r):%Y-%m-%d-%H-%M-%S-%f}",
    lambda r: f"{moment(r):%d/%m/%Y %H:%M:%S.%f}",
    *(lambda r, unit=unit: str(int(moment(r).timestamp() * unit)) for unit in (1, 10**3, 10**6, 10**9)),
    lambda r: f"{moment(r).timestamp():.6f}",
]


@pytest.mark.parametrize("kinds", [ORDER_NUMBERS, UUIDS, TIMES], ids=["order numbers", "UUIDs", "times"])
def test_it_takes_at_most_one_in_a_thousand_of_other_ids_for_a_card(kinds):
    draw = from_the_seed()
    wrong = [text for number in range(34_000) if holds_card_number(text := kinds[number % len(kinds)](draw))]
    assert len(wrong) <= 34, wrong


def test_it_takes_bare_digits_for_a_card_as_often_as_the_documentation_says():
    draw = from_the_seed()
    share = {n: sum(holds_card_number(drawn(draw, n)) for _ in range(4_000)) / 4_000 for n in (13, 14, 16, 19)}
    assert share[13] < 0.02
    assert share[14] < 0.02
    assert 0.03 < share[16] < 0.07
    assert 0.15 < share[19] < 0.22


@pytest.mark.parametrize(
    "text",
    [
        "4222222222222",  # 13 digits, and none inside other digits
        "41111111-1111-1111-1111-111111111111",  # the form of a UUID, without a letter
        "4111x4111111111111111x4111",
        "6304000000000000",
        "\N{CIRCLED DIGIT FOUR}" + "\N{CIRCLED DIGIT ONE}" * 15,
        "4\ufe0f\u20e3" + "1\ufe0f\u20e3" * 15,
        "㊶" + "⑪" * 7,
        "1234567890" * 4 + "4111111111111111",
    ],
)
def test_it_finds_a_card_in_disguise(text):
    assert holds_card_number(text)


def test_it_finds_a_card_whatever_unicode_has_for_digits_dashes_and_spaces():
    characters = list(map(chr, range(0x20000)))
    zeros = [one for one in characters if unicodedata.decimal(one, None) == 0]
    assert len(zeros) > 50
    assert [zero for zero in zeros if not holds_card_number(in_script("4111111111111111", zero))] == []
    kinds = {"Pd", "Zs", "Zl", "Zp", "Cf", "Cc", "Pc", "Po", "Ps", "Pe", "Sm", "Sk", "So", "Mn"}
    between = [one for one in characters if unicodedata.category(one) in kinds and one != "\N{DIGIT ZERO}"]
    missed = [one for one in [*between, *"ーｰㅡ一"] if not holds_card_number(grouped("4111111111111111", one))]
    assert [hex(ord(one)) for one in missed if not any(map(str.isalnum, unicodedata.normalize("NFKC", one)))] == []


@pytest.mark.parametrize("text", ["", "4" * 11, "4111111111111112", "9" * 60, "4111 1111 a 1111 1111", "1" * 16])
def test_it_leaves_other_digits_alone(text):
    assert not holds_card_number(text)
