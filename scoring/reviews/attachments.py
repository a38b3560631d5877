"""Files of reviews, such as a letter of the card holder or a picture of a receipt.

They lie in the store `attachments` of Django (`ATTACHMENTS_DIR`), under names of ours. The content tells what a file
is, and its name must agree. No content is interpreted: nothing is unpacked, and no picture or document is read.
"""

import hashlib
import unicodedata
from pathlib import PurePosixPath
from uuid import uuid4

from django.conf import settings
from django.contrib.auth.models import User
from django.core.files.storage import Storage, storages
from django.core.files.uploadedfile import UploadedFile
from django.db import models, transaction
from django.utils import timezone

from scoring.reviews.models import Review
from training.core.card_numbers import holds_card_number
from training.core.exceptions import FraudsiteError

NAME_LIMIT = 120
REASON_LIMIT = 200
# What is taken: the endings of names, and how the content begins. Texts begin as they like, and are read to the end.
BEGINNINGS = {
    "pdf": b"%PDF-",
    "png": b"\x89PNG\r\n\x1a\n",
    "jpg": b"\xff\xd8\xff",
    "webp": b"RIFF",
}
ENDINGS = {"pdf": "pdf", "png": "png", "jpg": "jpg", "jpeg": "jpg", "webp": "webp", "txt": "text", "csv": "text"}
TAKEN = "PDF, PNG, JPEG, WebP, or text in UTF-8 (.txt, .csv)"
# What texts consist of, besides characters that can be seen.
WHITE = "\t\n\r\f"


class AttachmentRefused(FraudsiteError):
    """The file was not attached."""


def store() -> Storage:
    return storages["attachments"]


class Attachment(models.Model):
    """A file of a review, which is in the store as `stored`, a name of which nothing was sent. If it is removed, its
    content is deleted, and the row is kept for the record."""

    review = models.ForeignKey("scoring.Review", on_delete=models.PROTECT, related_name="attachments")
    name = models.CharField(max_length=NAME_LIMIT)
    stored = models.CharField(max_length=80)
    size = models.PositiveIntegerField()
    sha256 = models.CharField(max_length=64)
    author = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    added_at = models.DateTimeField(default=timezone.now)
    removed_at = models.DateTimeField(null=True, blank=True)
    removed_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+")
    removed_because = models.CharField(max_length=REASON_LIMIT, blank=True)

    class Meta:
        ordering = ["pk"]

    def __str__(self) -> str:
        return self.name


def before_the_decision(review: Review) -> models.QuerySet[Attachment]:
    """The files of a review that waits for a second opinion which were there before it was decided: later ones may tell
    what was decided."""
    asked_at = review.second.asked_at
    return Attachment.objects.filter(review=review, removed_at=None, added_at__lt=asked_at)


def add(*, review: Review, file: UploadedFile, author: User) -> Attachment:
    """Attach a file to a review.

    Raises:
        AttachmentRefused: its name, type or size is not one that is taken, or the review has as many as it may have.
    """
    name = clean_name(file.name or "")
    _check(name, file)
    row = Attachment(review=review, name=name, size=file.size or 0, sha256=_digest(file), author=author)
    with transaction.atomic():
        Review.objects.select_for_update().get(pk=review.pk)  # of two at once, the second counts the first
        if Attachment.objects.filter(review=review, removed_at=None).count() >= settings.ATTACHMENTS_LIMIT:
            raise AttachmentRefused(
                f"A review has at most {settings.ATTACHMENTS_LIMIT} attachments (ATTACHMENTS_LIMIT)."
            )
        row.stored = store().save(f"{review.pk}/{uuid4().hex}", file)
        try:
            row.save()
        except BaseException:
            store().delete(row.stored)
            raise
    return row


def remove(attachment: Attachment, *, by: User, because: str) -> None:
    """Remove an attachment, for a reason. Its content is deleted.

    Raises:
        AttachmentRefused: it is removed already, or the reason is missing or too long.
    """
    because = because.strip()
    if not because or len(because) > REASON_LIMIT or "\0" in because:
        raise AttachmentRefused(f"Give a reason of at most {REASON_LIMIT} characters. Nothing was removed.")
    gone = {"removed_at": timezone.now(), "removed_by": by, "removed_because": because}
    with transaction.atomic():
        if not Attachment.objects.filter(pk=attachment.pk, removed_at=None).update(**gone):
            raise AttachmentRefused("It was removed already.")
        transaction.on_commit(lambda: store().delete(attachment.stored))


def clean_name(sent: str) -> str:
    """A file's name as it is shown and given back: without a path and without characters that cannot be seen, and cut
    in front of its ending if it is long."""
    name = unicodedata.normalize("NFC", sent).replace("\\", "/").rpartition("/")[2]
    name = "".join(sign for sign in name if sign.isprintable() and sign not in '<>:"|?*').strip(" .")
    ending = PurePosixPath(name).suffix
    return name[: NAME_LIMIT - len(ending)] + ending if len(name) > NAME_LIMIT >= len(ending) else name[:NAME_LIMIT]


def _check(name: str, file: UploadedFile) -> None:
    if not name:
        raise AttachmentRefused("The file has no name.")
    if holds_card_number(name):
        raise AttachmentRefused("The name holds a card number. Rename the file.")
    if not file.size:
        raise AttachmentRefused(f"{name} is empty.")
    if file.size > settings.ATTACHMENT_LIMIT_BYTES:
        limit = f"{settings.ATTACHMENT_LIMIT_BYTES:,} bytes (ATTACHMENT_LIMIT_BYTES)"
        raise AttachmentRefused(f"{name} is larger than {limit}.")
    wanted = ENDINGS.get(PurePosixPath(name).suffix.lower().removeprefix("."))
    if wanted is None:
        raise AttachmentRefused(f"{name} is no file that can be attached. Attach {TAKEN}.")
    file.seek(0)
    if wanted == "text":
        _check_text(name, file.read())
    else:
        begin = file.read(12)
        if not begin.startswith(BEGINNINGS[wanted]) or (wanted == "webp" and begin[8:] != b"WEBP"):
            raise AttachmentRefused(f"The content of {name} is not what its name says. Attach {TAKEN}.")
    file.seek(0)


def _check_text(name: str, content: bytes) -> None:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise AttachmentRefused(f"{name} is no text in UTF-8.") from None
    if any(sign < " " and sign not in WHITE for sign in text):
        raise AttachmentRefused(f"{name} is no text: it has control characters.")
    if holds_card_number(text):
        raise AttachmentRefused(f"{name} holds a card number. Leave that out.")


def _digest(file: UploadedFile) -> str:
    digest = hashlib.sha256()
    for part in file.chunks():
        digest.update(part)
    return digest.hexdigest()
