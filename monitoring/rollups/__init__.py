"""Roll-ups: what was answered, added up by the minute, the hour and the day, so that no page reads rows one by one.

`updating` keeps them up to date, `reading` is what pages, metrics and alerts ask.
"""
