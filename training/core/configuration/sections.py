"""Every setting of the training configuration, declared once: type, default, bounds or choices, unit and meaning.

TOML files and overrides are checked against these declarations. The form in the admin, the ranges of the search and
docs/hyperparameters.md are made from them, and the code reads them. Bundles and files without a setting have its
default, so the default of a new setting has to be the behaviour before it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import FieldInfo, fields

SEEDS = 2**32 - 1


class Between(NamedTuple):
    """A number from `low` to `high`, drawn uniformly; with `log`, its logarithm is."""

    low: float
    high: float
    log: bool = False


# What the search tries: a range, or a list of choices. It may differ by architecture.
Tried = Between | Sequence[Any]


def _setting(
    meaning: str,
    low: float | None = None,
    high: float | None = None,
    *,
    unit: str = "",
    only: str = "",
    tried: Tried | Mapping[str, Tried] | None = None,
) -> Meta:
    """Declare a setting. Bounds are inclusive. `only` is the one architecture, protocol or choice that uses it."""
    return Meta(ge=low, le=high, description=meaning, extra={"unit": unit, "only": only, "tried": tried})


class Data(Struct, frozen=True, kw_only=True):
    """The rows."""

    schema: Annotated[str, _setting("The schema of the transactions.")] = "ulb"
    parquet: Annotated[
        str, _setting("The file of the rows, relative to DATASETS_DIR. Empty: the one that `ingest` writes.")
    ] = ""


class SplitSettings(Struct, frozen=True, kw_only=True):
    """How rows are split into training, validation and test."""

    protocol: Annotated[
        Literal["stratified", "seed", "time"],
        _setting(
            "How rows are split. stratified: without duplicates, with the share of fraud kept. seed: as in the seed "
            "system. time: training on the past, test on the future."
        ),
    ] = "stratified"
    test: Annotated[float, _setting("Share of the test rows.", 0.01, 0.9, only="stratified")] = 0.2
    validation: Annotated[
        float, _setting("Share of the validation rows among the others.", 0.01, 0.9, only="stratified")
    ] = 0.2
    seed: Annotated[int, _setting("Draws the split.", 0, SEEDS, only="stratified")] = 42
    test_start: Annotated[
        str,
        _setting("The first day of the test, as 2018-08-08. Empty: the last `test_days` are the test.", only="time"),
    ] = ""
    test_days: Annotated[
        int, _setting("Length of the test; 0: to the last day of the rows.", 0, 3650, unit="days", only="time")
    ] = 7
    validation_days: Annotated[
        int,
        _setting(
            "Length of the validation, which ends the label delay before the test.", 1, 3650, unit="days", only="time"
        ),
    ] = 7
    train_days: Annotated[
        int,
        _setting(
            "Length of the training, which ends the label delay before the validation.",
            1,
            3650,
            unit="days",
            only="time",
        ),
    ] = 77
    known_card_days: Annotated[
        int,
        _setting(
            "A card whose fraud became known in so many days before the first day is left out.",
            0,
            3650,
            unit="days",
            only="time",
        ),
    ] = 7
    keep_known_cards: Annotated[
        bool, _setting("Leave no cards out of validation and test, also not those with a known fraud.", only="time")
    ] = False


class Networks(Struct, frozen=True, kw_only=True):
    """Keras networks. Of this section, boosted trees use only the architecture and the seed."""

    architecture: Annotated[
        str,
        _setting(
            "mlp: the seed system's network, trained until `patience` epochs bring no lower validation loss. bag: "
            "`members` networks on `bins` per feature, trained for all `epochs`. xgboost: boosted trees, which use the "
            "section xgboost."
        ),
    ] = "mlp"
    units: Annotated[
        list[Annotated[int, Meta(ge=1, le=4096)]],
        _setting(
            "Width of each hidden layer.",
            tried={
                "mlp": [[32, 16], [64, 32], [128, 64], [256, 128], [512, 256]],
                "bag": [[64, 32], [128, 64], [256, 128], [256, 256], [512, 256]],
            },
        ),
    ] = msgspec.field(default_factory=lambda: [32, 16])
    dropout: Annotated[
        float, _setting("Share of a layer's units dropped in each step.", 0.0, 0.95, tried=Between(0.0, 0.6))
    ] = 0.2
    learning_rate: Annotated[
        float, _setting("Of Adam; in a bag, of AdamW.", 1e-7, 1.0, tried=Between(1e-4, 1e-2, log=True))
    ] = 0.001
    batch_size: Annotated[
        int,
        _setting(
            "Size of a step.",
            1,
            2**20,
            unit="rows",
            tried={"mlp": [256, 512, 1024, 2048, 4096], "bag": [256, 512, 1024, 2048]},
        ),
    ] = 1024
    epochs: Annotated[int, _setting("Number of epochs; of an mlp, the most.", 1, 100_000)] = 100
    patience: Annotated[
        int,
        _setting(
            "So many epochs without a lower validation loss end the training.", 0, 100_000, unit="epochs", only="mlp"
        ),
    ] = 5
    members: Annotated[int, _setting("Networks side by side.", 1, 64, only="bag")] = 4
    binless_members: Annotated[int, _setting("How many members, the first, get no bins.", 0, 64, only="bag")] = 0
    students: Annotated[
        int,
        _setting(
            "How many members, the last, learn the scores of boosted trees of the section xgboost.",
            0,
            63,
            only="bag",
        ),
    ] = 0
    bins: Annotated[int, _setting("Of each feature.", 1, 1024, only="bag", tried=[8, 16, 32, 64])] = 16
    log_amount: Annotated[bool, _setting("Use the logarithm of the amount.", only="bag")] = False
    time_of_day: Annotated[
        bool, _setting("Of the feature that is the time, in seconds, use only the time of day.", only="bag")
    ] = False
    weight_decay: Annotated[float, _setting("Of AdamW.", 0.0, 10.0, only="bag", tried=Between(1e-5, 0.3, log=True))] = (
        0.01
    )
    legitimate_per_fraud: Annotated[
        int,
        _setting(
            "Legitimate rows per fraud in each draw; 0: all of them.",
            0,
            100_000,
            unit="rows",
            only="bag",
            tried=[5, 15, 50, 100, 200],
        ),
    ] = 15
    draws: Annotated[int, _setting("Draws of rows in an epoch.", 1, 1000, only="bag")] = 1
    seed: Annotated[int, _setting("Draws the initial weights, the order of the rows and the bootstrap.", 0, SEEDS)] = 0


class Trees(Struct, frozen=True, kw_only=True):
    """Boosted trees."""

    epochs: Annotated[int, _setting("At most.", 1, 100_000, unit="trees")] = 2000
    patience: Annotated[
        int, _setting("So many trees without a lower validation loss end the training.", 0, 100_000, unit="trees")
    ] = 50
    learning_rate: Annotated[
        float, _setting("Factor of each tree's contribution.", 1e-4, 1.0, tried=Between(0.02, 0.3, log=True))
    ] = 0.05
    depth: Annotated[int, _setting("Of a tree, at most.", 1, 24, tried=[3, 4, 5, 6, 7, 8, 9])] = 4
    leaf_weight: Annotated[
        float,
        _setting(
            "Least sum of the second derivatives in a leaf. A row has at most 0.25, and nearly 0 if it is clearly "
            "legitimate.",
            0.0,
            1e6,
            tried=Between(1e-3, 10.0, log=True),
        ),
    ] = 1.0
    row_share: Annotated[
        float, _setting("Share of the rows drawn for each tree.", 0.01, 1.0, tried=Between(0.5, 1.0))
    ] = 0.7
    feature_share: Annotated[
        float, _setting("Share of the features drawn for each tree.", 0.01, 1.0, tried=Between(0.3, 1.0))
    ] = 0.5
    l2: Annotated[
        float, _setting("Penalty on the squares of leaves.", 0.0, 1e6, tried=Between(1e-2, 100.0, log=True))
    ] = 1.0


class PolicySettings(Struct, frozen=True, kw_only=True):
    """How thresholds are chosen on validation rows. `choose_threshold` changes the review threshold later."""

    choose: Annotated[
        Literal["precision", "f1", "cost", "alerts_per_day"],
        _setting(
            "How the review threshold is chosen. precision: the highest recall with at least `review_precision`. f1: "
            "the highest F1, which every model has. cost: the lowest cost, where an alert costs `review_cost` and a "
            "missed fraud its amount. alerts_per_day: the lowest threshold with at most so many alerts."
        ),
    ] = "precision"
    review_precision: Annotated[float, _setting("Least precision of alerts.", 0.0, 1.0, only="precision")] = 0.8889
    review_cost: Annotated[
        float,
        _setting("Cost of an alert, also in the metric cost.", 0.0, 1e9, unit="the schema's currency"),
    ] = 5.0
    alerts_per_day: Annotated[float, _setting("Alerts a day, at most.", 0.0, 1e9, only="alerts_per_day")] = 100.0
    block_precision: Annotated[float, _setting("Least precision of blocked transactions.", 0.0, 1.0)] = 0.97


class Evaluation(Struct, frozen=True, kw_only=True):
    """How a model is evaluated."""

    bootstrap_resamples: Annotated[
        int, _setting("Draws of rows behind each interval; 0 gives no intervals.", 0, 100_000)
    ] = 500


class Configuration(Struct, frozen=True, kw_only=True):
    """A whole configuration."""

    data: Data = Data()
    split: SplitSettings = SplitSettings()
    model: Networks = Networks()
    xgboost: Trees = Trees()
    policy: PolicySettings = PolicySettings()
    evaluation: Evaluation = Evaluation()


class Columns(Struct, frozen=True, kw_only=True):
    """What a family must know of its inputs: `values` are how many values of each are known, 0 for a number; `optional`
    are the indices of those that may be missing."""

    values: list[int]
    optional: list[int]


class NetworkHyperparameters(Networks, frozen=True, kw_only=True):
    """The hyperparameters of networks: their section; the indices of the amount and the time, if these are encoded
    differently; the hyperparameters of the students' teacher; and `columns`, if some inputs are categories or may be
    missing."""

    amount_feature: int | None = None
    time_feature: int | None = None
    teacher: "TreeHyperparameters | None" = None
    columns: Columns | None = None


class TreeHyperparameters(Trees, frozen=True, kw_only=True):
    """The hyperparameters of boosted trees: their section, the seed, and `columns` as for networks. A teacher has the
    seed and the columns of its students."""

    architecture: str = "xgboost"
    seed: int | None = None
    columns: Columns | None = None


Hyperparameters = NetworkHyperparameters | TreeHyperparameters


@dataclass(frozen=True)
class Setting:
    """The declaration of one setting.

    `name` is `section.key`; `type` is bool, int, float, str or list. `low` and `high` are inclusive bounds, for a list
    those of its items. `choices` are the allowed words, empty if any is allowed.
    """

    name: str
    type: type
    default: Any
    meaning: str
    low: float | None
    high: float | None
    choices: tuple[str, ...]
    unit: str
    only: str
    tried: Tried | Mapping[str, Tried] | None

    def tried_for(self, architecture: str) -> Tried | None:
        """What the search tries for this architecture; None if it does not change the setting."""
        if self.only not in ("", architecture):
            return None
        return self.tried.get(architecture) if isinstance(self.tried, Mapping) else self.tried


def _declared(section: str, field: FieldInfo, hint: Any) -> Setting:
    """`hint` is `Annotated[type, _setting(…)]`."""
    kind, meta = get_args(hint)
    of_number = get_args(get_args(kind)[0])[1] if get_origin(kind) is list else meta
    default = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
    return Setting(
        name=f"{section}.{field.name}",
        type=type(default),
        default=default,
        meaning=meta.description,
        low=of_number.ge,
        high=of_number.le,
        choices=get_args(kind) if get_origin(kind) is Literal else (),
        **meta.extra,
    )


# By name, in the order of the declarations.
SETTINGS = {
    setting.name: setting
    for section in fields(Configuration)
    for hints in [get_type_hints(section.type, include_extras=True)]
    for setting in (_declared(section.name, field, hints[field.name]) for field in fields(section.type))
}
