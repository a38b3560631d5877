from collections.abc import Iterable
from typing import Any

from django_plotly_dash.finders import DashComponentFinder


class DashFinder(DashComponentFinder):
    """Finds Dash's scripts for WhiteNoise, which has no patterns to ignore and says so with None, not with a list."""

    def list(self, ignore_patterns: Iterable[str] | None) -> Any:
        return super().list([*(ignore_patterns or ())])
