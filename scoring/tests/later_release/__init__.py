"""A later release, for tests of upgrades: today's code, and a migration of the biggest table."""
