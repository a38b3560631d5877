"""An OpenID Connect provider of the tests' own: Django OAuth Toolkit, as a process on a free port.

It demands PKCE, the client's secret and a registered address to return to, and takes each code once. `/told` sets what
it says of a person, and how it breaks.
"""

import json
import sys
import tempfile
import time
from base64 import urlsafe_b64encode
from contextlib import suppress
from pathlib import Path
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import django
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt

CLIENT_ID, SECRET = "fraudsite-tests", "a-secret-of-the-client"
# What `/told` changes: claims of the person, claims of the token whatever they should be, and faults of its answers.
told: dict = {}
urlpatterns: list = []


def new_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


@csrf_exempt
def tell(request: HttpRequest) -> HttpResponse:
    from oauth2_provider.settings import oauth2_settings

    told.clear()
    told.update(json.loads(request.body))
    if told.get("rotate"):
        oauth2_settings.OIDC_RSA_PRIVATE_KEY = new_key()
    oauth2_settings.ID_TOKEN_EXPIRE_SECONDS = told.get("expires_s", 300)
    return HttpResponse()


@csrf_exempt
def log_in(request: HttpRequest) -> HttpResponse:
    from django.contrib.auth import login
    from django.contrib.auth.models import User

    if request.method == "POST":
        login(request, User.objects.get_or_create(username=request.POST["name"])[0])
        return HttpResponseRedirect(request.GET["next"])
    form = '<form method="post"><input name="name"><button>Log in at the provider</button></form>'
    return HttpResponse(f'<link rel="icon" href="data:,">{form}')


def faulty(get_response):
    """Breaks the answer with the token as told, or the description of the provider."""

    def answer(request):
        broken = told.get("broken") if request.path == "/o/token/" else told.get("broken_at", {}).get(request.path)
        if request.path == "/o/token/":
            time.sleep(told.get("late_s", 0))
        response = get_response(request)
        if broken == "error":
            return HttpResponse("Out of order", status=500)
        if broken == "no JSON":
            return HttpResponse("<html>", content_type="application/json")
        if broken is not None:
            content = json.loads(response.content)
            response.content = json.dumps(broken_token(content, broken) if "id_token" in content else broken)
        return response

    return answer


def broken_token(content: dict, how: str) -> dict:
    head, body, signature = content.get("id_token", "..").split(".")
    unsigned = urlsafe_b64encode(b'{"alg": "none"}').decode().rstrip("=")
    forged = {
        "signature": f"{head}.{body}.{signature[:-8]}AAAAAAAA",
        "unsigned": f"{unsigned}.{body}.",
        "garbage": "never.a.token",
    }
    return content | {"id_token": forged[how]} if how in forged else {k: v for k, v in content.items() if k != how}


def configure(home: Path) -> None:
    database = {"ENGINE": "django.db.backends.sqlite3", "NAME": home / "provider.sqlite3", "OPTIONS": {"timeout": 20}}
    settings.configure(
        SECRET_KEY="provider" * 8,
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF=__name__,
        USE_TZ=True,
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],  # the secret's, at each sign-in
        DATABASES={"default": database},
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
            "oauth2_provider",
        ],
        MIDDLEWARE=[
            f"{__name__}.faulty",
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
        ],
        TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}],
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        SESSION_COOKIE_NAME="provider",  # beside that of the site, in one browser, for which the port does not count
        OAUTH2_PROVIDER={
            "OIDC_ENABLED": True,
            "OIDC_RSA_PRIVATE_KEY": new_key(),
            "OIDC_RP_INITIATED_LOGOUT_ENABLED": True,
            "OIDC_RP_INITIATED_LOGOUT_ALWAYS_PROMPT": False,
            "PKCE_REQUIRED": True,
            "SCOPES": {"openid": "", "profile": "", "email": ""},
        },
    )
    django.setup()
    urlpatterns.extend(
        [
            path("told", tell),
            path("accounts/login/", log_in),
            path("o/", include("oauth2_provider.urls", namespace="oauth2_provider")),
        ]
    )


def telling():
    """The toolkit's validator, saying what it was told."""
    from oauth2_provider.oauth2_validators import OAuth2Validator

    class Telling(OAuth2Validator):
        oidc_claim_scope = None

        def get_additional_claims(self, request):
            person = request.user.username
            at_user_info = getattr(request, "uri", "").split("?")[0].endswith("/userinfo/")
            said = told.get("user_info" if at_user_info and "user_info" in told else "claims", {})
            return {"sub": f"sub-of-{person}", "preferred_username": person} | said

        def get_id_token_dictionary(self, token, token_handler, request):
            claims, expires = super().get_id_token_dictionary(token, token_handler, request)
            claims |= told.get("token", {})
            return {name: value for name, value in claims.items() if name not in told.get("without", [])}, expires

    return Telling


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class Quiet(WSGIRequestHandler):
    def log_message(self, *args):
        pass


def main(home: Path) -> None:
    configure(home)
    from django.core.management import call_command
    from django.core.wsgi import get_wsgi_application
    from oauth2_provider.models import Application
    from oauth2_provider.settings import oauth2_settings

    oauth2_settings.OAUTH2_VALIDATOR_CLASS = telling()
    call_command("migrate", verbosity=0)
    Application.objects.create(
        client_id=CLIENT_ID,
        client_secret=SECRET,
        client_type=Application.CLIENT_CONFIDENTIAL,
        authorization_grant_type=Application.GRANT_AUTHORIZATION_CODE,
        algorithm=Application.RS256_ALGORITHM,
        # The second is the site of a browser test, whose port does not count on the loopback address.
        redirect_uris="http://testserver/admin/sign-on/callback/ http://127.0.0.1/admin/sign-on/callback/",
        post_logout_redirect_uris="http://testserver/admin/login/ http://127.0.0.1/admin/login/",
        skip_authorization=True,
    )
    with make_server("127.0.0.1", 0, get_wsgi_application(), Server, Quiet) as server:
        print(f"http://127.0.0.1:{server.server_port}/o", flush=True)
        with suppress(KeyboardInterrupt):
            server.serve_forever()


if __name__ == "__main__":
    sys.modules["provider"] = sys.modules[__name__]
    __name__ = "provider"  # the settings name functions of this module
    with tempfile.TemporaryDirectory(prefix="fraudsite-provider-") as directory:
        main(Path(directory))
