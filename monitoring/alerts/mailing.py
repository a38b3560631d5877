"""Django's e-mail by SMTP, which also tells what a server refused, and for whom.

Django takes a message for sent if the server takes it for one of its addresses, so that a misspelt one would never be
noticed.
"""

import smtplib
from typing import Any

from django.core.mail.backends import smtp


class PartlyRefused(smtplib.SMTPRecipientsRefused):
    """The server took a message, but not for all of its addresses."""


class _Telling(smtplib.SMTP):
    def sendmail(self, *args: Any, **options: Any) -> dict[str, tuple[int, bytes]]:
        refused = super().sendmail(*args, **options)
        if refused:
            raise PartlyRefused(refused)
        return refused


class _TellingByTls(_Telling, smtplib.SMTP_SSL):
    pass


class EmailBackend(smtp.EmailBackend):
    @property
    def connection_class(self) -> type[smtplib.SMTP]:
        return _TellingByTls if self.use_ssl else _Telling


def words(error: Exception) -> str:
    """What a mail server answered, or why it was not reached."""
    match error:
        case smtplib.SMTPRecipientsRefused():
            return "; ".join(f"{address}: {_answer(*answer)}" for address, answer in error.recipients.items())
        case smtplib.SMTPResponseException():
            return _answer(error.smtp_code, error.smtp_error)
    return str(error)


def _answer(code: int, text: bytes | str) -> str:
    return f"{code} {text.decode(errors='replace') if isinstance(text, bytes) else text}".strip()
