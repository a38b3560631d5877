"""Precision and recall of decisions whose labels are still to come, from their calibrated scores."""
