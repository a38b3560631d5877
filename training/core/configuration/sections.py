"""Every setting of the training configuration, declared once: type, default, bounds or choices, unit and meaning.

TOML files and overrides are checked against these declarations. The form in the admin, the ranges of the search and
docs/hyperparameters.md are made of them, and they are what the code reads. Bundles and files that do not name a setting
have its default: a new setting's default has to be what was done before there was the setting.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import FieldInfo, fields

SEEDS = 2**32 - 1


class Between(NamedTuple):
    """A number from `low` to `high`; with `log`, as often between 1 and 10 as between 10 and 100."""

    low: float
    high: float
    log: bool = False


# What the search tries: a range, or a list to choose from; where architectures differ, by architecture.
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
    """Declare a setting. Both bounds are included. `only` is the one architecture, protocol or choice that reads it."""
    return Meta(ge=low, le=high, description=meaning, extra={"unit": unit, "only": only, "tried": tried})


class Data(Struct, frozen=True, kw_only=True):
    """Where the rows come from."""

    schema: Annotated[str, _setting("The schema of the transactions.")] = "ulb"
    parquet: Annotated[
        str, _setting("The file of the rows, relative to DATASETS_DIR. Empty: the one that `ingest` writes.")
    ] = ""


class SplitSettings(Struct, frozen=True, kw_only=True):
    """How rows are split into those that train, those that choose and those that judge."""

    protocol: Annotated[
        Literal["stratified", "seed", "time"],
        _setting(
            "How rows are split into training, validation and test. stratified: duplicates dropped, share of fraud "
            "kept. seed: the seed system's own. time: the past trains, the future judges."
        ),
    ] = "stratified"
    test: Annotated[float, _setting("Share of the rows that judge.", 0.01, 0.9, only="stratified")] = 0.2
    validation: Annotated[float, _setting("Share of the other rows that choose.", 0.01, 0.9, only="stratified")] = 0.2
    seed: Annotated[int, _setting("Draws the split.", 0, SEEDS, only="stratified")] = 42
    test_start: Annotated[str, _setting("The first day of the test, as 2018-08-08.", only="time")] = ""
    test_days: Annotated[int, _setting("Length of the test.", 1, 3650, unit="days", only="time")] = 7
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
            "A card whose fraud became known in so many days before the first day is not judged.",
            0,
            3650,
            unit="days",
            only="time",
        ),
    ] = 7


class Networks(Struct, frozen=True, kw_only=True):
    """The model: Keras networks. Boosted trees read the architecture and the seed of this section alone."""

    architecture: Annotated[
        str,
        _setting(
            "mlp: the seed system's network, trained until `patience` epochs bring nothing better on validation rows. "
            "bag: `members` networks on `bins` per feature, trained for all `epochs`. xgboost: boosted trees, which "
            "read the section xgboost."
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
        float, _setting("Share of a layer's units left out of each step.", 0.0, 0.95, tried=Between(0.0, 0.6))
    ] = 0.2
    learning_rate: Annotated[
        float, _setting("Of Adam or, in a bag, AdamW.", 1e-7, 1.0, tried=Between(1e-4, 1e-2, log=True))
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
    epochs: Annotated[int, _setting("Of an mlp, at most.", 1, 100_000)] = 100
    patience: Annotated[
        int,
        _setting(
            "So many epochs without a lower validation loss end the training.", 0, 100_000, unit="epochs", only="mlp"
        ),
    ] = 5
    members: Annotated[int, _setting("Networks side by side.", 1, 64, only="bag")] = 4
    binless_members: Annotated[int, _setting("So many of the members, the first, see no bins.", 0, 64, only="bag")] = 0
    students: Annotated[
        int,
        _setting(
            "So many of the members, the last, learn the scores of boosted trees of the section xgboost.",
            0,
            63,
            only="bag",
        ),
    ] = 0
    bins: Annotated[int, _setting("Of each feature.", 1, 1024, only="bag", tried=[8, 16, 32, 64])] = 16
    log_amount: Annotated[bool, _setting("See the logarithm of the feature that holds the money, too.", only="bag")] = (
        False
    )
    time_of_day: Annotated[
        bool,
        _setting("See only the time of day of the feature that holds the moment, which is in seconds.", only="bag"),
    ] = False
    weight_decay: Annotated[float, _setting("Of AdamW.", 0.0, 10.0, only="bag", tried=Between(1e-5, 0.3, log=True))] = (
        0.01
    )
    legitimate_per_fraud: Annotated[
        int,
        _setting(
            "So many legitimate rows for each fraud are drawn anew each time; 0 takes all.",
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
        float, _setting("Share of each tree that is taken.", 1e-4, 1.0, tried=Between(0.02, 0.3, log=True))
    ] = 0.05
    depth: Annotated[int, _setting("Of a tree, at most.", 1, 24, tried=[3, 4, 5, 6, 7, 8, 9])] = 4
    leaf_weight: Annotated[
        float,
        _setting(
            "Least sum of the second derivatives in a leaf. A row weighs at most 0.25, and a row that is surely "
            "legitimate nothing.",
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
        Literal["precision", "cost", "alerts_per_day"],
        _setting(
            "How the review threshold is chosen. precision: the highest recall with at least `review_precision`. "
            "cost: the lowest cost, where an alert costs `review_cost` and a missed fraud its amount. alerts_per_day: "
            "the lowest threshold with at most so many alerts."
        ),
    ] = "precision"
    review_precision: Annotated[float, _setting("Least precision of alerts.", 0.0, 1.0, only="precision")] = 0.8889
    review_cost: Annotated[
        float,
        _setting("Cost of an alert. The metric of cost reads it, too.", 0.0, 1e9, unit="the schema's currency"),
    ] = 5.0
    alerts_per_day: Annotated[float, _setting("Alerts a day, at most.", 0.0, 1e9, only="alerts_per_day")] = 100.0
    block_precision: Annotated[float, _setting("Least precision of what is blocked.", 0.0, 1.0)] = 0.97


class Evaluation(Struct, frozen=True, kw_only=True):
    """How a model is judged."""

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


@dataclass(frozen=True)
class Setting:
    """What is declared of one setting.

    `name` is `section.key`; `type` bool, int, float, str or list; `low` and `high` are included, and are of the items
    of a list; `choices` what a word may be, empty where anything may be written.
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
        """What the search tries where a model is of this architecture; None if it leaves the setting alone."""
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
