"""The client for code that waits, and what it has in common with the one for asyncio."""

import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, TypeVar

import httpx

from fraudsite_client import calls, file_calls, hook_calls
from fraudsite_client.errors import NotReached, Refused
from fraudsite_client.flow import Answer, Attempt, Patience, Pause, Plan
from fraudsite_client.models import (
    Explanation,
    File,
    LabelReceipt,
    LabelResult,
    Pending,
    Prediction,
    Result,
    SecretWebhook,
    Webhook,
)

T = TypeVar("T")

VERSION = "0.1.0"
URL, KEY = "FRAUDSITE_URL", "FRAUDSITE_API_KEY"
PIECE = 1 << 20


def settings_of(url: str | None, key: str | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of an httpx client.

    Raises:
        ValueError: there is no key, or none that a header can have, or the URL is no address.
    """
    key = os.environ.get(KEY) if key is None else key
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError(f"Give the API key, or set {KEY}. `manage.py create_api_key` makes one.")
    headers = {"Authorization": f"Bearer {key}", "User-Agent": f"fraudsite-client/{VERSION}"}
    url = url or os.environ.get(URL, "http://127.0.0.1:8000")
    if not url.startswith(("http://", "https://")):
        raise ValueError("Give the address of Fraudsite with http:// or https://.")
    return {"base_url": url, "headers": headers, **options}


class Fraudsite:
    """A connection to Fraudsite; threads may share it. Use it in a `with` block, or call `close`.

    `url` is where it listens, by default `$FRAUDSITE_URL`; `key` the API key, by default `$FRAUDSITE_API_KEY`.
    `patience` says how long and how often calls are tried. Other arguments are those of `httpx.Client`, such as
    `limits`, `verify` or `transport`.

    All methods raise `Refused` where the server refuses, and `NotReached` where it does not answer in time.
    """

    def __init__(
        self, url: str | None = None, key: str | None = None, *, patience: Patience | None = None, **options: Any
    ) -> None:
        self.patience = patience or Patience()
        self._http = httpx.Client(**settings_of(url, key, options))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def is_ready(self) -> bool:
        """Whether the server could score now: its database, broker and a worker with a model answer. False where a
        proxy does not pass `/readyz` on.

        Raises:
            NotReached: nothing answers.
        """
        try:
            return self._http.get("/readyz", timeout=self.patience.timeout_s).is_success
        except httpx.TransportError as error:
            raise NotReached(f"{self._http.base_url} does not answer: {error}") from error

    def predict(self, transaction: calls.Transaction, *, patience: Patience | None = None) -> Prediction:
        """Have a transaction scored. Its answer is stored.

        `transaction` are the schema's values by name, and optionally `schema`, `transaction_id`, `event_time` (a text
        or a datetime with its zone) and `deadline_ms`. Without a `transaction_id` it gets one, so that trying again
        stores it once.
        """
        return self._run(calls.predict(transaction, patience or self.patience))

    def predict_later(
        self, transaction: calls.Transaction, *, patience: Patience | None = None
    ) -> Pending | Prediction:
        """Have a transaction stored now and scored afterwards: `prediction` with the id of the answer has the score."""
        return self._run(calls.predict_later(transaction, patience or self.patience))

    def predict_many(
        self,
        transactions: Iterable[calls.Transaction],
        *,
        patience: Patience | None = None,
        rows: int = calls.ROWS,
    ) -> Iterator[Result]:
        """Have any number of transactions scored, `rows` in a call. Yields the result of each in order: `prediction`
        or `problem` by its `status`. Rows that the server had no time for are sent again."""
        for chunk in calls.chunks(transactions, rows):
            named = [calls.Named.of(each).body for each in chunk]
            yield from self._in_parts(calls.predict_rows, named, patience)

    def prediction(self, key: str, *, patience: Patience | None = None) -> Prediction | Pending:
        """Read a prediction again, by the `id` of its answer."""
        return self._run(calls.prediction(key, patience or self.patience))

    def explanation(self, key: str, *, patience: Patience | None = None) -> Explanation:
        """What each input added to a score, by the `id` of its answer."""
        return self._run(calls.explanation(key, patience or self.patience))

    def label(self, *, patience: Patience | None = None, **fields: Any) -> LabelReceipt:
        """Say what became of a transaction: `id` or `transaction_id`, `kind`, `event_time`, and optionally `source`,
        `amount` and `reference`."""
        return self._run(calls.label(fields, patience or self.patience))

    def label_many(
        self, labels: Iterable[Mapping[str, Any]], *, patience: Patience | None = None, rows: int = calls.LABELS
    ) -> Iterator[LabelResult]:
        """Send any number of labels, `rows` in a call. Yields the result of each in order."""
        for chunk in calls.chunks(labels, rows):
            yield from self._in_parts(calls.label_rows, [calls.label_of(each) for each in chunk], patience)

    def transactions(
        self, *, fields: Sequence[str] | None = None, limit: int | None = None, **filters: Any
    ) -> Iterator[dict[str, Any]]:
        """Your transactions, the latest first, page by page as you read. `fields` are the names that you want, `limit`
        is the size of a page, and other arguments are filters."""
        return self._listed("/api/v1/transactions", fields, limit, filters)

    def predictions(
        self, *, fields: Sequence[str] | None = None, limit: int | None = None, **filters: Any
    ) -> Iterator[dict[str, Any]]:
        """Your predictions; arguments as for `transactions`."""
        return self._listed("/api/v1/predictions", fields, limit, filters)

    def reviews(
        self, *, fields: Sequence[str] | None = None, limit: int | None = None, **filters: Any
    ) -> Iterator[dict[str, Any]]:
        """The reviews of your alerts, with what the analysts decided; arguments as for `transactions`."""
        return self._listed("/api/v1/reviews", fields, limit, filters)

    def labels(
        self, *, fields: Sequence[str] | None = None, limit: int | None = None, **filters: Any
    ) -> Iterator[dict[str, Any]]:
        """The labels that you sent; arguments as for `transactions`."""
        return self._listed("/api/v1/labels", fields, limit, filters)

    def send_file(
        self,
        path: Path | str,
        *,
        mode: str,
        schema: str | None = None,
        ignore: Iterable[str] = (),
        name: str | None = None,
        key: str | None = None,
        patience: Patience = file_calls.PATIENCE,
    ) -> File:
        """Send a file of transactions: CSV, JSON Lines or Parquet by its name, as in `night.csv.gz`. Workers score it.

        `mode` is "traffic" to store the transactions, or "score". `ignore` are columns to pass over. With a `key` of
        yours (Idempotency-Key) the same file is taken once, also by another process.

        Raises:
            ValueError: the name does not tell the format.
            OSError: the file cannot be read.
        """
        return self._run(file_calls.send_file(Path(path), mode, schema, ignore, name, key, patience))

    def file(self, key: str, *, patience: Patience | None = None) -> File:
        """How far a file is."""
        return self._run(file_calls.file(key, patience or self.patience))

    def await_file(
        self,
        key: str,
        *,
        every_s: float = 2.0,
        limit_s: float | None = None,
        on_progress: Callable[[File], None] | None = None,
        patience: Patience | None = None,
    ) -> File:
        """Watch a file until it is done, refused, failed or cancelled: `state` and `detail` tell. It is asked for each
        `every_s` seconds, and `on_progress` called with what is found.

        Raises:
            NotReached: it is still under way after `limit_s`.
        """
        return self._run(file_calls.await_file(key, every_s, limit_s, on_progress, patience or self.patience))

    def cancel_file(self, key: str, *, patience: Patience | None = None) -> File:
        """End a file. What is scored stays, and can be read."""
        return self._run(file_calls.cancel_file(key, patience or self.patience))

    def delete_file(self, key: str, *, patience: Patience | None = None) -> None:
        """Delete a file and its results. Transactions that are stored stay stored."""
        self._run(file_calls.delete_file(key, patience or self.patience))

    def save_result(
        self, key: str, path: Path | str, *, format: str | None = None, patience: Patience = file_calls.PATIENCE
    ) -> Path:
        """Save the result of a file, a row for each of its rows, as CSV, JSON Lines or Parquet by the name of `path`.
        It is there as a whole, or not at all."""
        return self._run(file_calls.save(key, "result", Path(path), format, patience))

    def save_refused(
        self, key: str, path: Path | str, *, format: str | None = None, patience: Patience = file_calls.PATIENCE
    ) -> Path:
        """Save which rows of a file were refused, and why; arguments as for `save_result`."""
        return self._run(file_calls.save(key, "refused", Path(path), format, patience))

    def add_webhook(
        self, url: str, event_types: Iterable[str], *, patience: Patience | None = None, **fields: Any
    ) -> SecretWebhook:
        """Make a webhook endpoint for events of these types, and optionally of `schemas`, with a `description`. Keep
        its `secret`: it is shown once. This call is not repeated, as it would make a second endpoint."""
        body = {"url": url, "event_types": list(event_types)} | fields
        return self._run(hook_calls.add_webhook(body, patience or self.patience))

    def webhook(self, key: str, *, patience: Patience | None = None) -> Webhook:
        """Read a webhook endpoint."""
        return self._run(hook_calls.webhook(key, patience or self.patience))

    def change_webhook(self, key: str, *, patience: Patience | None = None, **fields: Any) -> Webhook:
        """Change `url`, `event_types`, `schemas`, `description` or `state` (active, paused) of an endpoint."""
        return self._run(hook_calls.change_webhook(key, fields, patience or self.patience))

    def remove_webhook(self, key: str, *, patience: Patience | None = None) -> None:
        """Remove an endpoint. Nothing is sent to it any more."""
        self._run(hook_calls.remove_webhook(key, patience or self.patience))

    def rotate_webhook(self, key: str, *, keep_s: float | None = None, patience: Patience | None = None) -> str:
        """Add a secret, and return it. Earlier ones sign for `keep_s` seconds, or a day. This call is not repeated."""
        return self._run(hook_calls.rotate_webhook(key, keep_s, patience or self.patience))

    def test_webhook(self, key: str, *, patience: Patience | None = None) -> str:
        """Have a test event sent to an endpoint. Returns its `webhook-id`. This call is not repeated."""
        return self._run(hook_calls.test_webhook(key, patience or self.patience))

    def replay_webhook(self, key: str, *, patience: Patience | None = None, **which: Any) -> int:
        """Have deliveries sent again: the dead ones, those of events `since` a time, `all`, or those of `ids`. Returns
        how many."""
        return self._run(hook_calls.replay_webhook(key, which, patience or self.patience))

    def files(
        self, *, fields: Sequence[str] | None = None, limit: int | None = None, **filters: Any
    ) -> Iterator[dict[str, Any]]:
        """Your files, the latest first; arguments as for `transactions`."""
        return self._listed(file_calls.PATH, fields, limit, filters)

    def webhooks(self) -> Iterator[dict[str, Any]]:
        """Your webhook endpoints, the oldest first."""
        return self._listed(hook_calls.PATH, None, None, {})

    def deliveries(self, key: str, *, state: str | None = None) -> Iterator[dict[str, Any]]:
        """The deliveries to an endpoint, the latest first; `state` is pending, delivered or dead."""
        return self._listed(f"{hook_calls.PATH}/{calls.part(key)}/deliveries", None, None, {"state": state})

    def _listed(
        self, path: str, fields: Sequence[str] | None, limit: int | None, filters: Mapping[str, Any]
    ) -> Iterator[dict[str, Any]]:
        query = calls.pages(filters, fields, limit)
        following: str | None = path
        while following:
            rows, following = self._run(calls.page(following, query, self.patience))
            query = []
            yield from rows

    def _in_parts(
        self, plan_of: calls.PlanOfRows[T], rows: Sequence[dict[str, Any]], patience: Patience | None
    ) -> Iterator[T]:
        """Send rows in one call or, where that is too much at once, in several. What a call told is yielded before the
        next one is made, so that it is not lost with that."""
        parts = [rows]
        while parts:
            part = parts.pop()
            try:
                results = self._run(plan_of(part, patience or self.patience))
            except Refused as refusal:
                parts += reversed(calls.halves(part, refusal))
            else:
                yield from results

    def _run(self, plan: Plan[T]) -> T:
        answer: Answer = None
        try:
            while True:
                step = plan.send(answer)
                if isinstance(step, Pause):
                    time.sleep(step.seconds)
                    answer = None
                else:
                    answer = self._send(step)
        except StopIteration as end:
            return end.value

    def _send(self, attempt: Attempt) -> Answer:
        content = pieces_of(attempt.upload) if attempt.upload else None
        try:
            response = self._http.send(request_of(self._http, attempt, content), stream=True)
            try:
                if attempt.download and response.is_success:
                    with saving(attempt.download) as file:
                        for piece in response.iter_bytes():
                            file.write(piece)
                else:
                    response.read()
            finally:
                response.close()
            return response
        except httpx.TransportError as error:
            return error


def pieces_of(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            yield piece


@contextmanager
def saving(path: Path) -> Iterator[IO[bytes]]:
    """A file beside `path` that takes its place when it is whole."""
    unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        with unfinished.open("wb") as file:
            yield file
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def request_of(http: httpx.Client | httpx.AsyncClient, attempt: Attempt, content: Any = None) -> httpx.Request:
    return http.build_request(
        attempt.method,
        attempt.path,
        params=list[tuple[str, str | int | float | bool | None]](attempt.query) or None,
        json=attempt.json,
        content=content,
        headers=attempt.headers,
        timeout=attempt.timeout_s,
    )
