"""The page of a case: what happened, why it was decided so, what the card did, and what it has to do with others.

Each panel is a module. `panels` puts them on the page, and `entity_page` is the page of a card or another entity.
"""
