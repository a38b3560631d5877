"""Gives a model what it takes of submissions, also of those checked against another declaration of its schema.

That happens while a schema's file and its model change, and where a model scores under an earlier declaration.
"""

from collections.abc import Sequence

from scoring.messages.submission import Submission
from training import declarations
from training.core.schema import Schema, load_schema
from training.core.schema.values import Value


def declaration_of(submission: Submission) -> Schema:
    """The declaration that a submission was checked against.

    Raises:
        SchemaNotFound: no process has stored it.
    """
    if not submission.declaration:
        return load_schema(submission.schema)
    return declarations.find(submission.schema, submission.declaration)


def values_for(schema: Schema, submission: Submission) -> Sequence[Value]:
    """The values of a submission in the order of `schema.features`; None for those that it does not have."""
    if submission.declaration == schema.hash:
        return submission.features
    named = dict(zip(declaration_of(submission).feature_names, submission.features, strict=True))
    return [named.get(name) for name in schema.feature_names]


def tokens_for(schema: Schema, submission: Submission) -> Sequence[str]:
    """The tokens of a submission in the order of `schema.entities`; empty for entities that it does not have."""
    if submission.declaration == schema.hash:
        return submission.tokens
    named = dict(zip(declaration_of(submission).entity_names, submission.tokens, strict=True))
    return [named.get(name, "") for name in schema.entity_names]
