"""Django's formats for English: times have one form, with their zone."""

DATETIME_FORMAT = "Y-m-d H:i:s T"
