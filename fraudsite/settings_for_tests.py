"""The product's settings for tests: with a temporary directory and a Redis of the tests' own."""

import atexit
import os
import shutil
import socket
import tempfile

os.environ["ENV_FILE"] = os.devnull  # the machine's own settings are not the tests'
# Each process of pytest has its own directory and Redis; processes that its tests start inherit them.
mine = os.environ.get("PYTEST_XDIST_WORKER", "alone")
if os.environ.get("TESTS_OF") != mine:
    os.environ["TESTS_OF"] = mine
    os.environ["VAR_DIR"] = tempfile.mkdtemp(prefix="fraudsite-test-")
    atexit.register(shutil.rmtree, os.environ["VAR_DIR"], ignore_errors=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        os.environ["REDIS_URL"] = f"redis://127.0.0.1:{free.getsockname()[1]}/0"

# No thread of the tests' own process writes into their databases.
os.environ.setdefault("REFUSALS_INTERVAL_S", "3600")
os.environ.setdefault("KEY_USES_INTERVAL_S", "3600")
# A test sees at once what it did.
os.environ.setdefault("QUEUE_COUNTS_S", "0")

from fraudsite.settings import *  # noqa: E402, F403
from fraudsite.settings import DATABASES, VAR_DIR  # noqa: E402

# In a file, because the worker under test is another process.
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    DATABASES["default"]["TEST"] = {"NAME": VAR_DIR / "test.sqlite3"}
# Generous, as several tests share two cores; tests of deadlines set their own.
PREDICT_DEADLINE_MS = 5_000
# A slow hash protects real passwords; here it would only slow the tests.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

# WhiteNoise would list every static file again for each test with a client of its own.
WHITENOISE_AUTOREFRESH = True
