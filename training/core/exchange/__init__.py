"""Rates of exchange, and amounts converted by them: `rates` converts, `files` reads files of rates."""
