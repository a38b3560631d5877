"""Starts, performs and cancels backtests."""

import logging
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

import msgspec
import redis
from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from kombu.exceptions import OperationalError as BrokerError

from scoring.decisions import Thresholds
from scoring.lists import past
from scoring.lists.models import PolicyList
from scoring.policies import checking, document, versions
from scoring.policies.backtesting import Backtester, Grouping, Result
from scoring.policies.document import Document
from scoring.policies.engine import Policy
from scoring.policies.expressions import Expression
from scoring.policies.models import Backtest, PolicyVersion
from scoring.policies.names import HAS, names_of
from scoring.policies.stored import Reader, rows_of
from training import clock, registry
from training.core.exceptions import FraudsiteError
from training.core.schema import Schema

logger = logging.getLogger(__name__)

State = Backtest.State


class BacktestRefused(FraudsiteError):
    """The backtest cannot be started."""


class _Cancelled(Exception):
    """Somebody has cancelled the backtest."""


def start(
    *,
    schema: str,
    content: Document,
    since: datetime,
    until: datetime,
    by: str,
    version: PolicyVersion | None = None,
    lists: str = Backtest.Lists.THEN,
    drafts: Sequence[PolicyList] = (),
    by_expression: str = "",
) -> Backtest:
    """Have a bulk worker try a policy on the transactions from `since`, before `until`, with the lists of the schema
    and these drafts of lists. With `by_expression`, results are also told by the values of it.

    Raises:
        PolicyFaults: the policy could not decide.
        BacktestRefused: the period is empty, too many backtests wait, or the expression makes no groups.
    """
    if since >= until:
        raise BacktestRefused("The period is empty: its beginning has to lie before its end.")
    declaration = registry.declaration_in_force(schema)
    names = sorted({*versions.list_names(schema), *(draft.name for draft in drafts)})
    if found := checking.faults(content, declaration, names):
        raise versions.PolicyFaults(found)
    if by_expression:
        _check_grouping(by_expression, declaration, content, names)
    give_up_the_lost()
    if Backtest.objects.filter(state__in=Backtest.ACTIVE).count() >= settings.BACKTESTS_LIMIT:
        raise BacktestRefused(f"{settings.BACKTESTS_LIMIT} backtests are under way (BACKTESTS_LIMIT): wait for one.")
    backtest = Backtest.objects.create(
        schema=schema,
        version=version,
        document=document.written(content),
        since=since,
        until=until,
        lists=lists,
        draft_lists=[draft.pk for draft in drafts],
        by_expression=by_expression,
        by=by,
    )
    transaction.on_commit(lambda: _send(backtest))
    return backtest


def _check_grouping(source: str, schema: Schema, content: Document, lists: Collection[str]) -> None:
    faults = checking.expression_faults(source, names_of(schema, content, lists), is_condition=False)
    if faults:
        raise BacktestRefused(f"The expression for groups: {faults[0].message}")
    if any(name.removeprefix(HAS) in schema.personal_names for name in Expression(source).names):
        raise BacktestRefused("The expression for groups reads personal values, which results show to everybody.")


def _send(backtest: Backtest) -> None:
    from scoring.tasks import run_backtest

    try:
        run_backtest.apply_async((backtest.pk,), retry=False)
    except (BrokerError, redis.RedisError, OSError) as error:
        logger.warning("Backtest %s was not sent: %s", backtest.pk, error)
        _end(backtest, State.FAILED, failure="The message broker does not answer. Start it again.")


def cancel(backtest: Backtest) -> bool:
    """Stop a backtest at the end of its page. Returns False if it has ended already."""
    return _end(backtest, State.CANCELLED)


def give_up_the_lost() -> None:
    """Mark backtests whose worker was lost as failed. Called before backtests are shown or started."""
    silent_since = clock.now() - timedelta(seconds=settings.TRAINING_SILENCE_S)
    Backtest.objects.filter(state=State.RUNNING, heard_at__lt=silent_since).update(
        state=State.FAILED,
        finished_at=clock.now(),
        failure=f"Its worker has not been heard for {settings.TRAINING_SILENCE_S} s. Start it again.",
    )


def perform(backtest_id: int) -> None:
    """Perform a queued backtest, and write its result. Does nothing if another worker has taken it."""
    now = clock.now()
    waiting = Backtest.objects.filter(pk=backtest_id, state=State.QUEUED)
    if not waiting.update(state=State.RUNNING, started_at=now, heard_at=now):
        return
    backtest = Backtest.objects.get(pk=backtest_id)
    try:
        result = run(backtest)
    except _Cancelled:
        return
    except (FraudsiteError, ValueError) as error:
        _end(backtest, State.FAILED, failure=str(error))
    except Exception as error:  # it must not stay "under way"
        logger.exception("Backtest %s failed.", backtest_id)
        _end(backtest, State.FAILED, failure=f"{type(error).__name__}: {error}")
    else:
        _end(backtest, State.DONE, result=msgspec.to_builtins(result))


def run(backtest: Backtest) -> Result:
    """Decide on the transactions of a backtest's period. Progress is written after each page.

    Raises:
        NoChampion: the schema has none, whose thresholds hold where the policy leaves them out.
        PolicyInvalid: the policy is not one of this release.
    """
    schema = registry.declaration_in_force(backtest.schema)
    champion = registry.champion(schema.name)
    of_model = Thresholds(champion.review_threshold, champion.block_threshold)
    content = document.read(backtest.document)
    if backtest.lists == Backtest.Lists.NOW:
        lists = past.as_now(schema, backtest.draft_lists)
    else:
        lists = past.as_then(schema, backtest.since, backtest.until, backtest.draft_lists)
    by = backtest.by_expression
    tester = Backtester(
        Policy(schema, of_model, content, lists=lists), Grouping(schema, by, content, lists) if by else None
    )
    total = rows_of(schema, backtest.since, backtest.until).count()
    for page in Reader(schema, backtest.since, backtest.until, tester.used).pages():
        tester.add(page)
        if not _running(backtest).update(done=tester.rows, total=max(total, tester.rows), heard_at=clock.now()):
            raise _Cancelled
    return tester.result()


def _running(backtest: Backtest) -> QuerySet[Backtest]:
    return Backtest.objects.filter(pk=backtest.pk, state=State.RUNNING)


def _end(backtest: Backtest, state: str, **fields: object) -> bool:
    active = Backtest.objects.filter(pk=backtest.pk, state__in=Backtest.ACTIVE)
    return bool(active.update(state=state, finished_at=clock.now(), **fields))
