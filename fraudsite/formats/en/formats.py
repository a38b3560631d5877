"""How pages print what they print by themselves: times in one form, with their zone."""

DATETIME_FORMAT = "Y-m-d H:i:s T"
