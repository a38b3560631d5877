"""How much a key may be used: rates of calls and rows, and a quota of transactions a day.

Web processes share the limits of a key by Redis, and no call waits for it. See `meter.py` for what that means.
"""
