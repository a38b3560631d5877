"""Features that are computed from a transaction's time and from its entities' histories.

`declaration` has what a schema may declare, and `replay` computes it for a batch or for years: `present` what needs no
history, the compiled loop of `kernel` and the `aggregates` what does, `earth` distances, `zones` local times. `tokens`
are the entities'. `distributed` runs it on a cluster. docs/features.md defines the features exactly.
"""
