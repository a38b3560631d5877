"""Why a sign-in through the provider ended. Each is a page that says what to do; the docstring is its text."""

from training.core.exceptions import FraudsiteError


class Refused(FraudsiteError):
    """The sign-in was refused."""

    status = 403
    title = "No access"
    # Whether it may be different the next time.
    again = False

    def __init__(self, detail: str = "", *, person: str = "") -> None:
        super().__init__(detail or self.words)
        self.detail, self.person = detail, person

    @property
    def words(self) -> str:
        return " ".join((self.__doc__ or "").split())


class ProviderDown(Refused):
    """The provider does not answer. Try again in a minute. Emergency accounts sign in with their password."""

    status, title, again = 503, "The provider does not answer", True


class NotUnderstood(Refused):
    """The provider answered what Fraudsite does not accept. The log of the web server says what it was: tell the
    operators, with the request id below."""

    status, title, again = 502, "The provider's answer was not accepted", True


class NotBegunHere(Refused):
    """This sign-in was not begun in this browser, was used already, or took too long. Begin again."""

    status, title, again = 400, "Begin again", True


class OutOfTime(Refused):
    """The provider's answer is not valid at this time: it came too late, or the clocks of the provider and of this
    server differ. Begin again; if it stays like this, tell the operators."""

    status, title, again = 400, "The answer is not valid now", True


class RefusedThere(Refused):
    """The provider did not let you in, or you cancelled."""

    title, again = "The provider did not let you in", True


class NoRole(Refused):
    """You are signed in at the provider, but none of your groups there has a role in Fraudsite. Whoever looks after the
    groups can add you to one."""

    title = "No role"


class ClaimMissing(Refused):
    """The provider said nothing about your groups, on which your role depends. You may be in none; otherwise the
    operators have to set the provider up to say it."""

    title = "No role"


class NoName(Refused):
    """The provider gave no name that an account can have. The operators can choose another claim for it."""

    title = "No name"


class NameTaken(Refused):
    """Your name belongs to an account that is not linked to you. An administrator can link it under "Links to a
    provider", with the subject below."""

    title = "The name is taken"


class Deactivated(Refused):
    """Your account is deactivated. An administrator can activate it."""

    title = "Deactivated"


class EmergencyOnly(Refused):
    """This is an account for emergencies, which signs in with its password alone."""

    title = "Sign in with the password"
