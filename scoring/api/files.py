"""Files of transactions: sent, watched, cancelled, and their results read."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID

import msgspec
from django.conf import settings
from django.core.files.uploadhandler import TemporaryFileUploadHandler
from django.http import Http404, HttpRequest, HttpResponse, QueryDict, StreamingHttpResponse
from django.http.multipartparser import MultiPartParserError
from django.http.response import HttpResponseBase
from django.urls import reverse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.views import APIView

from scoring.api.declaring import OF_FILES, problems
from scoring.api.file_serializers import FilePageSerializer, FileSerializer
from scoring.api.permissions import key_of, refuse_other_schemas
from scoring.api.reads.describing import described_listing
from scoring.api.reads.files import Files
from scoring.api.reads.views import ListView
from scoring.api.validation import USABLE_ID, is_transaction_id, refuse_card_data
from scoring.clients.models import Scope
from scoring.exceptions import (
    BodyCutOff,
    FieldError,
    FileTooLarge,
    InvalidFields,
    MalformedBody,
    ResultNotReady,
    UnsupportedFile,
)
from scoring.files import formats, intake, results
from scoring.files.intake import Upload, Wanted
from scoring.files.models import NAME_LIMIT, READABLE, BatchFile, Format, Mode
from scoring.files.progress import progress_of
from scoring.files.tasks import send_file

PIECE = 1 << 20
OPTIONS = ("mode", "schema", "ignore", "name")
IGNORED_LIMIT = 100
MULTIPART = "multipart/form-data"


UPLOAD_PARAMETERS = [
    OpenApiParameter(
        "mode", str, enum=Mode.values, required=True, description="`traffic`: store and score. `score`: score only."
    ),
    OpenApiParameter("schema", str, description="The schema of all rows; the default one if left out."),
    OpenApiParameter("ignore", str, description="Columns to pass over, separated by commas."),
    OpenApiParameter("name", str, description="A name for people, of at most 120 characters."),
    OpenApiParameter("Content-Encoding", str, OpenApiParameter.HEADER, enum=["gzip", "zstd", "identity"]),
    OpenApiParameter(
        "Idempotency-Key", str, OpenApiParameter.HEADER, description="With the same key, the same file is taken once."
    ),
]
OF_RESULTS = ("invalid-fields", "not-found", "result-not-ready")
FORMAT = OpenApiParameter("format", str, enum=Format.values, description="What `Accept` names, or `csv`, if left out.")
DOWNLOADS = {(200, media): OpenApiTypes.BINARY for media in results.MEDIA_TYPES_SENT}
# What `Accept` may name besides JSON. Nothing is rendered by them.
DOWNLOADED = [
    type(form.name, (BaseRenderer,), {"media_type": media, "format": form.value})
    for form, media in zip(results.MEDIA_TYPES, results.MEDIA_TYPES_SENT, strict=True)
]
FILE_ID = OpenApiParameter("file_id", UUID, OpenApiParameter.PATH)


@described_listing("files", FilePageSerializer, "List the files", "Your files, the latest first, and how far each is.")
class FilesView(ListView):
    listing = Files()
    scope = Scope.BATCH
    takes_files = True

    @extend_schema(
        operation_id="send_file",
        summary="Send a file of transactions",
        description="Takes CSV, JSON Lines or Parquet, as the body or as the part `file` of a form, packed with gzip "
        "or zstd where you like. 202: the file is stored, and workers check and score its rows.",
        parameters=UPLOAD_PARAMETERS,
        request=dict.fromkeys(results.MEDIA_TYPES_SENT, OpenApiTypes.BINARY),
        responses={202: FileSerializer} | problems(*OF_FILES),
    )
    def post(self, request: Request) -> HttpResponse:
        meta = request._request.META
        options = _options(request._request.GET, f"Send some of {', '.join(OPTIONS)}.")
        refuse_card_data(
            {**options},
            {name: meta.get(f"HTTP_{name.upper().replace('-', '_')}") for name in ("X-Request-ID", "Idempotency-Key")},
        )
        announced = meta.get("CONTENT_LENGTH") or ""
        if announced.isdecimal() and int(announced) > settings.BATCH_FILE_LIMIT_BYTES:
            raise FileTooLarge(intake.too_large())
        client: Any = request.user
        with intake.uploading():
            if meta.get("CONTENT_TYPE", "").lower().startswith(MULTIPART):
                wanted, pour = _of_form(request._request, options)
            else:
                form = formats.of_media_type(meta.get("CONTENT_TYPE", ""))
                packing = formats.packing_of(meta.get("HTTP_CONTENT_ENCODING", ""))
                wanted, pour = _wanted(request._request, options, form, packing), _of_body(request._request)
            key = key_of(request)
            wanted = intake.check(client, replace(wanted, key=key))
            refuse_other_schemas(key, wanted.schema)
            file, repeated = intake.receive(client, wanted, pour)
        if not repeated:
            send_file(file)
        headers = {"Location": reverse("file", args=[file.pk])} | ({"Idempotent-Replayed": "true"} if repeated else {})
        return _json(progress_of(file), status=202, headers=headers)


class FileView(APIView):
    scope = Scope.BATCH
    takes_files = True

    @extend_schema(
        operation_id="file",
        summary="Watch a file",
        parameters=[FILE_ID],
        responses={200: FileSerializer} | problems("not-found"),
    )
    def get(self, request: Request, file_id: UUID) -> HttpResponse:
        return _json(progress_of(_find(request, file_id)))

    @extend_schema(
        operation_id="delete_file",
        summary="Delete a file",
        description="Cancels it if it is under way, and deletes its results. Transactions that are stored stay stored.",
        parameters=[FILE_ID],
        responses={204: None} | problems("not-found"),
    )
    def delete(self, request: Request, file_id: UUID) -> HttpResponse:
        intake.expire(_find(request, file_id))
        return HttpResponse(status=204)


class FileCancelView(APIView):
    parser_classes = ()
    scope = Scope.BATCH
    takes_files = True

    @extend_schema(
        operation_id="cancel_file",
        summary="Cancel a file",
        description="What is scored by then stays, and can be read. A file that is done stays as it is.",
        parameters=[FILE_ID],
        request=None,
        responses={200: FileSerializer} | problems("not-found"),
    )
    def post(self, request: Request, file_id: UUID) -> HttpResponse:
        file = _find(request, file_id)
        intake.cancel(file)
        file.refresh_from_db()
        return _json(progress_of(file))


class FileResultView(APIView):
    renderer_classes = (JSONRenderer, *DOWNLOADED)
    scope = Scope.BATCH
    takes_files = True

    @extend_schema(
        operation_id="file_result",
        summary="Read the result of a file",
        description="One row per row of the file, in its order. While it is scored, 409; of a cancelled file, as far "
        "as it was scored.",
        parameters=[FILE_ID, FORMAT],
        responses=DOWNLOADS | problems(*OF_RESULTS),
    )
    def get(self, request: Request, file_id: UUID) -> HttpResponseBase:
        return _download(request, file_id, "result", results.result_of)


class FileRefusedView(APIView):
    renderer_classes = (JSONRenderer, *DOWNLOADED)
    scope = Scope.BATCH
    takes_files = True

    @extend_schema(
        operation_id="file_refused",
        summary="Read which rows of a file were refused",
        description="One row per fault: the line, the field and the reason.",
        parameters=[FILE_ID, FORMAT],
        responses=DOWNLOADS | problems(*OF_RESULTS),
    )
    def get(self, request: Request, file_id: UUID) -> HttpResponseBase:
        return _download(request, file_id, "refused", results.report_of)


def _find(request: Request, file_id: UUID) -> BatchFile:
    """The client's own file, of a schema that its key may see; others' are answered with 404."""
    schemas = key_of(request).schemas
    file = FilesView.listing.rows(key_of(request).client_id).filter(pk=file_id).first()
    if file is None or (schemas and file.schema not in schemas):
        raise Http404
    return file


def _download(
    request: Request, file_id: UUID, what: str, content_of: Callable[[BatchFile, Format], Iterator[bytes]]
) -> HttpResponseBase:
    file = _find(request, file_id)
    accepted = request.accepted_renderer.format
    form = request._request.GET.get("format", accepted if accepted in Format.values else Format.CSV)
    if form not in Format.values:
        one = f"Send one of {', '.join(Format.values)}."
        raise InvalidFields(errors=[FieldError("/format", "invalid_format", one)])
    if file.state not in READABLE or file.is_active:
        raise ResultNotReady
    headers = {"Content-Disposition": f'attachment; filename="{file.pk}-{what}.{form}"'}
    media = results.MEDIA_TYPES[Format(form)]
    return StreamingHttpResponse(content_of(file, Format(form)), content_type=media, headers=headers)


def _options(sent: QueryDict, known: str, others: Collection[str] = ()) -> dict[str, str]:
    """The options of a query or a form. `known` says which may be sent, `others` are those that were sent elsewhere."""
    errors = [FieldError(_pointer(name), "unknown_field", known) for name in sorted({*sent} - {*OPTIONS})[:10]]
    twice = [name for name in sent if len(sent.getlist(name)) > 1 or name in others]
    errors += [FieldError(_pointer(name), "sent_twice", "Send it once.") for name in sorted(twice)[:10]]
    if errors:
        raise InvalidFields(errors=errors)
    return {name: str(sent[name]) for name in sent}


def _pointer(name: str) -> str:
    return f"/{name[:64]}"


def _wanted(request: HttpRequest, options: dict[str, str], form: Format, packing: str) -> Wanted:
    errors = []
    key, name = request.META.get("HTTP_IDEMPOTENCY_KEY"), options.get("name", "")
    if key is not None and not is_transaction_id(key):
        errors.append(FieldError("", "invalid_idempotency_key", f"Idempotency-Key: {USABLE_ID}"))
    if len(name) > NAME_LIMIT or not name.isprintable():
        errors.append(FieldError("/name", "invalid_name", f"Send at most {NAME_LIMIT} printable characters."))
    ignored = [each.strip() for each in options.get("ignore", "").split(",") if each.strip()]
    if len(ignored) > IGNORED_LIMIT or "\0" in options.get("ignore", ""):
        errors.append(FieldError("/ignore", "invalid_list", f"Send at most {IGNORED_LIMIT} names of columns."))
    if errors:
        raise InvalidFields(errors=errors)
    return Wanted(
        mode=options.get("mode", ""),
        format=form,
        schema=options.get("schema", ""),
        packing=packing,
        name=name,
        ignored=ignored,
        idempotency_key=key,
        request_id=request.request_id,  # type: ignore[attr-defined]
    )


def _of_body(request: HttpRequest) -> Callable[[Upload], None]:
    announced = request.META.get("CONTENT_LENGTH") or ""
    # Django does not read a chunked body, as it has no Content-Length: see `scoring.api.decoding`.
    chunked = not announced and request.META.get("wsgi.input_terminated")
    stream = request.META["wsgi.input"] if chunked else request

    def read() -> bytes:
        try:
            return stream.read(PIECE)
        except OSError as error:
            raise BodyCutOff from error

    def pour(upload: Upload) -> None:
        while piece := read():
            upload.write(piece)
        if announced.isdecimal() and upload.size < int(announced):
            raise BodyCutOff

    return pour


class _LimitedUpload(TemporaryFileUploadHandler):
    """Keeps the file of a form on the disk, up to the limit.

    Raises:
        FileTooLarge: there is more.
    """

    received = 0

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        self.received += len(raw_data)
        if self.received > settings.BATCH_FILE_LIMIT_BYTES:
            raise FileTooLarge(intake.too_large())
        super().receive_data_chunk(raw_data, start)


def _of_form(request: HttpRequest, options: dict[str, str]) -> tuple[Wanted, Callable[[Upload], None]]:
    request.upload_handlers = [_LimitedUpload(request)]
    try:
        fields, files = request.POST, request.FILES
    except (MultiPartParserError, UnicodeError, ValueError, OSError) as error:
        raise MalformedBody("The form cannot be read.") from error
    only = "Send one part named file, with the content of the file."
    if list(files) != ["file"] or len(files.getlist("file")) != 1:
        raise InvalidFields(errors=[FieldError("/file", "missing", only)])
    sent = _options(fields, f"Send the part file, and some of {', '.join(OPTIONS)}.", others=options)
    [file] = files.getlist("file")
    name = file.name or ""
    form = formats.of_name(name)
    if form is None:
        try:
            form = formats.of_media_type(file.content_type or "")
        except UnsupportedFile:
            raise UnsupportedFile(
                "Name the file with .csv, .jsonl or .parquet, and .gz or .zst if it is packed."
            ) from None
    refuse_card_data(sent, {})
    options = {"name": name[:NAME_LIMIT]} | sent | options

    def pour(upload: Upload) -> None:
        for piece in file.chunks(PIECE):
            upload.write(piece)

    return _wanted(request, options, form, ""), pour


def _json(body: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> HttpResponse:
    return HttpResponse(
        msgspec.json.encode(body), status=status, content_type="application/json", headers=headers or {}
    )
