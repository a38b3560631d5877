"""The settings under test: the product's own, in a directory that is thrown away."""

import os
import tempfile

os.environ.setdefault("VAR_DIR", tempfile.mkdtemp(prefix="fraudsite-test-"))

from fraudsite.settings import *  # noqa: F403
