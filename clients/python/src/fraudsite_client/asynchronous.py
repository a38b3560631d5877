"""The client for asyncio. Its methods are those of `Fraudsite`, to be awaited."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from fraudsite_client import calls, file_calls, hook_calls
from fraudsite_client.client import PIECE, request_of, saving, settings_of
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


class AsyncFraudsite:
    """As `Fraudsite`, for asyncio. Other arguments are those of `httpx.AsyncClient`."""

    def __init__(
        self, url: str | None = None, key: str | None = None, *, patience: Patience | None = None, **options: Any
    ) -> None:
        self.patience = patience or Patience()
        self._http = httpx.AsyncClient(**settings_of(url, key, options))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def is_ready(self) -> bool:
        """See `Fraudsite.is_ready`."""
        try:
            return (await self._http.get("/readyz", timeout=self.patience.timeout_s)).is_success
        except httpx.TransportError as error:
            raise NotReached(f"{self._http.base_url} does not answer: {error}") from error

    async def predict(self, transaction: calls.Transaction, *, patience: Patience | None = None) -> Prediction:
        """See `Fraudsite.predict`."""
        return await self._run(calls.predict(transaction, patience or self.patience))

    async def predict_later(
        self, transaction: calls.Transaction, *, patience: Patience | None = None
    ) -> Pending | Prediction:
        """See `Fraudsite.predict_later`."""
        return await self._run(calls.predict_later(transaction, patience or self.patience))

    async def predict_many(
        self,
        transactions: Iterable[calls.Transaction],
        *,
        patience: Patience | None = None,
        rows: int = calls.ROWS,
    ) -> AsyncIterator[Result]:
        """See `Fraudsite.predict_many`."""
        for chunk in calls.chunks(transactions, rows):
            named = [calls.Named.of(each).body for each in chunk]
            async for result in self._in_parts(calls.predict_rows, named, patience):
                yield result

    async def prediction(self, key: str, *, patience: Patience | None = None) -> Prediction | Pending:
        """See `Fraudsite.prediction`."""
        return await self._run(calls.prediction(key, patience or self.patience))

    async def explanation(self, key: str, *, patience: Patience | None = None) -> Explanation:
        """See `Fraudsite.explanation`."""
        return await self._run(calls.explanation(key, patience or self.patience))

    async def label(self, *, patience: Patience | None = None, **fields: Any) -> LabelReceipt:
        """See `Fraudsite.label`."""
        return await self._run(calls.label(fields, patience or self.patience))

    async def label_many(
        self, labels: Iterable[Mapping[str, Any]], *, patience: Patience | None = None, rows: int = calls.LABELS
    ) -> AsyncIterator[LabelResult]:
        """See `Fraudsite.label_many`."""
        for chunk in calls.chunks(labels, rows):
            bodies = [calls.label_of(each) for each in chunk]
            async for result in self._in_parts(calls.label_rows, bodies, patience):
                yield result

    def transactions(
        self, *, fields: Sequence[str] | None = None, limit: int | None = None, **filters: Any
    ) -> AsyncIterator[dict[str, Any]]:
        """See `Fraudsite.transactions`."""
        return self._listed("/api/v1/transactions", fields, limit, filters)

    def predictions(
        self, *, fields: Sequence[str] | None = None, limit: int | None = None, **filters: Any
    ) -> AsyncIterator[dict[str, Any]]:
        """See `Fraudsite.predictions`."""
        return self._listed("/api/v1/predictions", fields, limit, filters)

    def reviews(
        self, *, fields: Sequence[str] | None = None, limit: int | None = None, **filters: Any
    ) -> AsyncIterator[dict[str, Any]]:
        """See `Fraudsite.reviews`."""
        return self._listed("/api/v1/reviews", fields, limit, filters)

    def labels(
        self, *, fields: Sequence[str] | None = None, limit: int | None = None, **filters: Any
    ) -> AsyncIterator[dict[str, Any]]:
        """See `Fraudsite.labels`."""
        return self._listed("/api/v1/labels", fields, limit, filters)

    async def send_file(
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
        """See `Fraudsite.send_file`."""
        return await self._run(file_calls.send_file(Path(path), mode, schema, ignore, name, key, patience))

    async def file(self, key: str, *, patience: Patience | None = None) -> File:
        """See `Fraudsite.file`."""
        return await self._run(file_calls.file(key, patience or self.patience))

    async def await_file(
        self,
        key: str,
        *,
        every_s: float = 2.0,
        limit_s: float | None = None,
        on_progress: Callable[[File], None] | None = None,
        patience: Patience | None = None,
    ) -> File:
        """See `Fraudsite.await_file`."""
        return await self._run(file_calls.await_file(key, every_s, limit_s, on_progress, patience or self.patience))

    async def cancel_file(self, key: str, *, patience: Patience | None = None) -> File:
        """See `Fraudsite.cancel_file`."""
        return await self._run(file_calls.cancel_file(key, patience or self.patience))

    async def delete_file(self, key: str, *, patience: Patience | None = None) -> None:
        """See `Fraudsite.delete_file`."""
        await self._run(file_calls.delete_file(key, patience or self.patience))

    async def save_result(
        self, key: str, path: Path | str, *, format: str | None = None, patience: Patience = file_calls.PATIENCE
    ) -> Path:
        """See `Fraudsite.save_result`."""
        return await self._run(file_calls.save(key, "result", Path(path), format, patience))

    async def save_refused(
        self, key: str, path: Path | str, *, format: str | None = None, patience: Patience = file_calls.PATIENCE
    ) -> Path:
        """See `Fraudsite.save_refused`."""
        return await self._run(file_calls.save(key, "refused", Path(path), format, patience))

    async def add_webhook(
        self, url: str, event_types: Iterable[str], *, patience: Patience | None = None, **fields: Any
    ) -> SecretWebhook:
        """See `Fraudsite.add_webhook`."""
        body = {"url": url, "event_types": list(event_types)} | fields
        return await self._run(hook_calls.add_webhook(body, patience or self.patience))

    async def webhook(self, key: str, *, patience: Patience | None = None) -> Webhook:
        """See `Fraudsite.webhook`."""
        return await self._run(hook_calls.webhook(key, patience or self.patience))

    async def change_webhook(self, key: str, *, patience: Patience | None = None, **fields: Any) -> Webhook:
        """See `Fraudsite.change_webhook`."""
        return await self._run(hook_calls.change_webhook(key, fields, patience or self.patience))

    async def remove_webhook(self, key: str, *, patience: Patience | None = None) -> None:
        """See `Fraudsite.remove_webhook`."""
        await self._run(hook_calls.remove_webhook(key, patience or self.patience))

    async def rotate_webhook(self, key: str, *, keep_s: float | None = None, patience: Patience | None = None) -> str:
        """See `Fraudsite.rotate_webhook`."""
        return await self._run(hook_calls.rotate_webhook(key, keep_s, patience or self.patience))

    async def test_webhook(self, key: str, *, patience: Patience | None = None) -> str:
        """See `Fraudsite.test_webhook`."""
        return await self._run(hook_calls.test_webhook(key, patience or self.patience))

    async def replay_webhook(self, key: str, *, patience: Patience | None = None, **which: Any) -> int:
        """See `Fraudsite.replay_webhook`."""
        return await self._run(hook_calls.replay_webhook(key, which, patience or self.patience))

    def files(
        self, *, fields: Sequence[str] | None = None, limit: int | None = None, **filters: Any
    ) -> AsyncIterator[dict[str, Any]]:
        """See `Fraudsite.files`."""
        return self._listed(file_calls.PATH, fields, limit, filters)

    def webhooks(self) -> AsyncIterator[dict[str, Any]]:
        """See `Fraudsite.webhooks`."""
        return self._listed(hook_calls.PATH, None, None, {})

    def deliveries(self, key: str, *, state: str | None = None) -> AsyncIterator[dict[str, Any]]:
        """See `Fraudsite.deliveries`."""
        return self._listed(f"{hook_calls.PATH}/{calls.part(key)}/deliveries", None, None, {"state": state})

    async def _listed(
        self, path: str, fields: Sequence[str] | None, limit: int | None, filters: Mapping[str, Any]
    ) -> AsyncIterator[dict[str, Any]]:
        query = calls.pages(filters, fields, limit)
        following: str | None = path
        while following:
            rows, following = await self._run(calls.page(following, query, self.patience))
            query = []
            for row in rows:
                yield row

    async def _in_parts(
        self, plan_of: calls.PlanOfRows[T], rows: Sequence[dict[str, Any]], patience: Patience | None
    ) -> AsyncIterator[T]:
        """See `Fraudsite._in_parts`."""
        parts = [rows]
        while parts:
            part = parts.pop()
            try:
                results = await self._run(plan_of(part, patience or self.patience))
            except Refused as refusal:
                parts += reversed(calls.halves(part, refusal))
            else:
                for result in results:
                    yield result

    async def _run(self, plan: Plan[T]) -> T:
        answer: Answer = None
        try:
            while True:
                step = plan.send(answer)
                if isinstance(step, Pause):
                    await asyncio.sleep(step.seconds)
                    answer = None
                else:
                    answer = await self._send(step)
        except StopIteration as end:
            return end.value

    async def _send(self, attempt: Attempt) -> Answer:
        content = _pieces_of(attempt.upload) if attempt.upload else None
        try:
            response = await self._http.send(request_of(self._http, attempt, content), stream=True)
            try:
                if attempt.download and response.is_success:
                    with saving(attempt.download) as file:
                        async for piece in response.aiter_bytes():
                            await asyncio.to_thread(file.write, piece)
                else:
                    await response.aread()
            finally:
                await response.aclose()
            return response
        except httpx.TransportError as error:
            return error


async def _pieces_of(path: Path) -> AsyncIterator[bytes]:
    with await asyncio.to_thread(path.open, "rb") as file:
        while piece := await asyncio.to_thread(file.read, PIECE):
            yield piece
