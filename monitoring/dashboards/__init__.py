"""The dashboards in the admin: a module a page, in the frame that all share. They only read.

`choices` is what an address asks for, `frame` makes a page of its panels and what `read` says, `figures` draws.
"""
