from fraudsite.settings import *  # noqa: F403

MIGRATION_MODULES = {"scoring": "scoring.tests.later_release.migrations"}
