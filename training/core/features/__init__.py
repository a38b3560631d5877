"""Features that are computed from a transaction's time and from its entities' histories.

`declaration` has what a schema may declare, `replay` computes it for a batch or for years, `kernel` is the compiled
loop, and `distributed` runs it on a cluster. docs/features.md defines the features exactly.
"""
