"""What groups of inputs are worth: `python -m benchmarks.inputs` after `manage.py ingest --schema sparkov`.

Trains with the shipped configuration of the schema, or with another `--architecture`, on more and more inputs: amount,
clock and what the card did; also categories; also places; also what the card did in this category before.
Everything but the inputs is as in `manage.py train`. Prints the AUPRC of validation and test rows as Markdown.
"""

import argparse
import os
from collections.abc import Sequence

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fraudsite.settings")
django.setup()

import numpy as np
from django.conf import settings
from msgspec.structs import replace
from sklearn.metrics import average_precision_score

from training.core import configuration, families
from training.core.configuration.sections import Columns
from training.core.datasets import splits, storage
from training.core.families import encoding
from training.core.features.declaration import Distance, Velocity
from training.core.schema import Field, Schema


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--schema", default="sparkov", help="default: sparkov")
    parser.add_argument("--architecture", help="of the models; default: that of the configuration")
    options = parser.parse_args()
    overrides = {"model.architecture": options.architecture} if options.architecture else {}
    config = configuration.chosen(options.schema, None, overrides)
    dataset = storage.read_chosen(settings.DATASETS_DIR, config)
    split = splits.split_rows(config.split, dataset)
    encode = encoding.learn(dataset, split.train)
    dataset = encode.applied_to(dataset)
    print(f"| {config.model.architecture} on | inputs | AUPRC on validation | AUPRC on test |", flush=True)
    print("| --- | --- | --- | --- |")
    for title, columns in groups(dataset.schema).items():
        chosen = replace(families.hyperparameters(config), columns=_of(encode.columns, columns))
        if isinstance(chosen, families.NetworkHyperparameters) and chosen.amount_feature is not None:
            chosen = replace(chosen, amount_feature=columns.index(chosen.amount_feature))
        rows = {name: (dataset.features[part][:, columns], dataset.labels[part]) for name, part in vars(split).items()}
        model = families.train(chosen, rows["train"], rows["validation"])
        found = [average_precision_score(rows[part][1], model.score(rows[part][0])) for part in ("validation", "test")]
        print(f"| {title} | {len(columns)} | {found[0]:.3f} | {found[1]:.3f} |", flush=True)


def groups(schema: Schema) -> dict[str, list[int]]:
    """The columns of each group and those before it, by its title."""
    place: dict[str, int] = {}
    for each in schema.inputs:
        if isinstance(each, Velocity):
            reads_category = each.same or each.of_value
            place[each.name] = 3 if reads_category else 0
        elif isinstance(each, Distance):
            place[each.name] = 2
        else:
            place[each.name] = 1 if isinstance(each, Field) and each.is_category else 0
    titles = ("amount, clock and card", "and categories", "and places", "and card × category")
    order = np.array([place[name] for name in schema.input_names])
    return {title: np.flatnonzero(order <= number).tolist() for number, title in enumerate(titles)}


def _of(columns: Columns | None, chosen: Sequence[int]) -> Columns | None:
    if columns is None:
        return None
    optional = [number for number, column in enumerate(chosen) if column in columns.optional]
    return Columns(values=[columns.values[column] for column in chosen], optional=optional)


if __name__ == "__main__":
    main()
