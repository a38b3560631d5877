from collections.abc import Iterable
from typing import Any

from django_plotly_dash.finders import DashComponentFinder


class DashFinder(DashComponentFinder):
    """Finds Dash's scripts for WhiteNoise, which passes None instead of a list of patterns to ignore."""

    def list(self, ignore_patterns: Iterable[str] | None) -> Any:
        return super().list([*(ignore_patterns or ())])
