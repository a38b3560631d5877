from typing import Protocol

import numpy as np


class DriftMeasure(Protocol):
    """Says how far recent values of one number are from a reference."""

    def measure(self, values: np.ndarray) -> float:
        """Distance of `values` [n] from the reference; 0 is no drift, and more is further."""
