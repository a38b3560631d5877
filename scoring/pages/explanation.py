"""Shows why a transaction has its score: bars to the right for what raised it, to the left for what lowered it."""

from collections.abc import Mapping, Sequence
from math import floor
from types import MappingProxyType

from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from scoring import explanations
from scoring.messages.answers import Reason
from scoring.messages.explanation import Explanation
from scoring.models import Prediction
from scoring.pages.display import Hiding, hiding, told
from training.core.figures import score

# So many contributions are shown at once, the others behind a click.
SHOWN = 10
# Half of a bar's width.
HALF = 40


def reason_table(prediction: Prediction, *, personal: bool) -> SafeString:
    """The contributions that are stored with an alert. Older alerts have a few reasons, and other transactions none:
    they have a link to the page that asks a worker for all. Personal values are told if `personal`."""
    if explanation := explanations.stored(prediction):
        return explanation_table(prediction, explanation, personal=personal)
    hides = hiding(prediction.transaction.schema, personal=personal)
    reasons = _table(prediction.reasons, prediction.reasons, hides)
    address = reverse("admin:scoring_transaction_explanation", args=[prediction.pk])
    words = "What else raised or lowered the score" if prediction.reasons else "What raised or lowered the score"
    return format_html('{}<p><a href="{}">{}</a></p>', reasons, address, words)


def explanation_table(prediction: Prediction, explanation: Explanation, *, personal: bool) -> SafeString:
    """All contributions, the strongest first, and how they add up to the score. Personal values are told if
    `personal`."""
    hides = hiding(prediction.transaction.schema, personal=personal)
    reasons, ranks = explanations.told(prediction, explanation), explanations.percentiles(prediction)
    shown, others = reasons[:SHOWN], reasons[SHOWN:]
    rest = format_html(
        "<details><summary>{} more, which add {} together</summary>{}</details>",
        len(others),
        f"{sum(reason['contribution'] for reason in others):+.2f}",
        _table(others, reasons, hides, ranks),
    )
    return format_html(
        "{}{}{}", _table(shown, reasons, hides, ranks), rest if others else "", _sum(prediction, explanation)
    )


def _sum(prediction: Prediction, explanation: Explanation) -> SafeString:
    added = explanation.contributions.values()
    return format_html(
        '<p class="sum">In logits, an ordinary transaction has {}. What raises adds {}, what lowers {}: together {}, '
        "a score of {}.</p>",
        f"{explanation.base:+.2f}",
        f"{sum(value for value in added if value > 0):+.2f}",
        f"{sum(value for value in added if value < 0):+.2f}",
        f"{explanation.logit:+.2f}",
        score(prediction.fraud_score),
    )


def _table(
    shown: Sequence[Reason], reasons: Sequence[Reason], hides: Hiding, ranks: Mapping[str, float] = MappingProxyType({})
) -> SafeString:
    """A row for each that is shown; the longest bar is that of the strongest of all `reasons`. `ranks` are the
    percentiles of their values."""
    strongest = max((abs(reason["contribution"]) for reason in reasons), default=0.0) or 1.0
    rows = format_html_join(
        "",
        '<tr><td>{} {}</td><th scope="row">{}{}</th><td>{}</td></tr>',
        (
            (
                _bar(reason["contribution"] / strongest),
                f"{reason['contribution']:+.2f}",
                reason["feature"],
                "" if hides(reason["feature"]) else _rank(ranks.get(reason["feature"])),
                told(reason, hides),
            )
            for reason in shown
        ),
    )
    return format_html('<table class="reasons"><tbody>{}</tbody></table>', rows) if rows else rows


def _rank(percentile: float | None) -> SafeString | str:
    """Where a value is among those of training rows, whose middle half is darker."""
    if percentile is None:
        return ""
    words = "below 99 % of transactions" if percentile < 1 else f"above {min(floor(percentile), 99)} % of transactions"
    return format_html(
        ' <svg class="rank" viewBox="0 0 64 10" role="img" aria-label="{0}"><title>{0}</title>'
        '<rect class="all" x="2" y="4" width="60" height="2"/><rect class="half" x="17" y="3" width="30" height="4"/>'
        '<circle cx="{1}" cy="5" r="4"/></svg>',
        words,
        f"{2 + 0.6 * percentile:.1f}",
    )


def _bar(share: float) -> SafeString:
    """A bar from the middle, to the right for a `share` up to 1 and to the left for one down to -1."""
    return format_html(
        '<svg class="bar" viewBox="0 0 {0} 12" width="{0}" height="12" aria-hidden="true">'
        '<rect class="{1}" x="{2}" width="{3}" height="12"/><path d="M{4} 0V12"/></svg>',
        2 * HALF,
        "raised" if share > 0 else "lowered",
        f"{HALF + min(share, 0.0) * HALF:.1f}",
        f"{abs(share) * HALF:.1f}",
        HALF,
    )
