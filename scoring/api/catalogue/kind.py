"""A kind of problem, and the name and address that its title gives it."""

from typing import NamedTuple

PAGES = "/problems/"
SERVER, SENDER, ADMINISTRATOR = "send it again later", "correct it first", "ask an administrator first"


def name_of(title: str) -> str:
    """
    >>> name_of("Schema without a champion")
    'schema-without-a-champion'
    """
    return title.lower().replace(" ", "-")


class Kind(NamedTuple):
    """A kind of problem. `again` says whether sending the same again may help; `detail` is an example of one, and
    `errors` are codes, pointers and words of some that it has."""

    status: int
    title: str
    meaning: str
    remedy: str
    again: str
    detail: str
    errors: tuple[tuple[str, str, str], ...] = ()

    @property
    def name(self) -> str:
        return name_of(self.title)

    @property
    def address(self) -> str:
        """The `type` of such a problem: the same in every installation, and relative to the address of the call."""
        return PAGES + self.name

    @property
    def example(self) -> dict[str, object]:
        return {
            "type": self.address,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "instance": "/api/v1/predict",
            "request_id": "019a5f2b-7c3d-7e4f-8a9b-c0d1e2f3a4b5",
            "errors": [{"pointer": where, "code": code, "detail": words} for code, where, words in self.errors],
        }
