"""Features that are computed from a transaction's time and from its entities' histories.

`declaration` is what a schema may say, `replay` computes it for a batch or for years, `kernel` is the loop under it,
`distributed` runs it on a cluster. docs/features.md says exactly what is computed.
"""
