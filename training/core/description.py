"""What a bundle says of its model: the content of bundle.json.

The first bundles do not have the fields with a default.
"""

from typing import Any, TypedDict

from msgspec import Struct, field

from training.core.configuration.sections import PolicySettings
from training.core.features.typical import Typical


class SchemaOfModel(Struct, frozen=True, kw_only=True):
    """The schema at the time of training: `features` are the model's inputs, in order."""

    name: str
    hash: str
    features: list[str]


class Model(Struct, frozen=True, kw_only=True):
    """`hyperparameters` as `families.as_recorded` makes them; `files` are what the model learned, by name."""

    architecture: str
    hyperparameters: dict[str, Any]
    files: list[str] = field(default_factory=lambda: ["weights.safetensors"])


class ChosenPolicy(PolicySettings, frozen=True, kw_only=True):
    """The section of the configuration, and the thresholds that came of it. Without `block_threshold` nothing is
    blocked."""

    review_threshold: float
    block_threshold: float | None
    chosen_on: str = "validation"


class SplitMade(Struct, frozen=True, kw_only=True):
    """The section of the configuration, with numbers of rows in place of shares."""

    protocol: str
    train: int
    validation: int
    test: int
    seed: int = 42
    test_start: str = ""
    test_days: int = 7
    validation_days: int = 7
    train_days: int = 77
    known_card_days: int = 7
    keep_known_cards: bool = False


class Origin(Struct, frozen=True, kw_only=True):
    """The dataset: the SHA-256 of the file that was ingested, and its rows."""

    sha256: str
    rows: int
    frauds: int


class Measured(Struct, frozen=True, kw_only=True):
    """A metric, and its 95 % interval where there is one."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def interval(self) -> tuple[float, float] | None:
        return None if self.low is None or self.high is None else (self.low, self.high)


class Metrics(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What `evaluation.evaluate` measures of rows at a threshold.

    `confusion` is [[true negatives, false positives], [false negatives, true positives]]. Older bundles do not have all
    metrics; costs need amounts, and the card precision needs a day and a card of each row.
    """

    threshold: float
    rows: int
    confusion: list[list[int]]
    precision: Measured | None = None
    recall: Measured | None = None
    f1: Measured | None = None
    accuracy: Measured | None = None
    auprc: Measured | None = None
    roc_auc: Measured | None = None
    roc_auc_keras_binned: Measured | None = None
    precision_100: Measured | None = None
    brier: Measured | None = None
    calibration_error: Measured | None = None
    cost_per_1000: Measured | None = None
    card_precision_100: float | None = None

    def measured(self, name: str) -> Measured | None:
        """A metric by its name; None if it was not measured."""
        found: Measured | float | None = getattr(self, name)
        return Measured(value=found) if isinstance(found, float) else found


class StoredCalibration(TypedDict, total=False):
    """The fields of a `Calibration`."""

    method: str
    a: float
    b: float
    c: float


class Histogram(TypedDict):
    """Inner bin edges, and the share of values in each bin: x belongs to bin `np.searchsorted(edges, x, side="right")`,
    so there is one more proportion than edges."""

    edges: list[float]
    proportions: list[float]


class Reference(TypedDict):
    """The content of reference.json: histograms of so many training rows by feature, and of validation scores."""

    features: dict[str, Histogram]
    score: Histogram
    samples: int


class Loss(Struct, frozen=True, kw_only=True):
    """The loss of AUPRC when a feature's values are shuffled: mean, minimum and maximum of the repeats."""

    value: float
    low: float
    high: float


class Importance(Struct, frozen=True, kw_only=True):
    """What `permutation_importance` measured on so many rows; `auprc` is without shuffling."""

    rows: int
    repeats: int
    auprc: float
    features: dict[str, Loss]


class Description(Struct, frozen=True, kw_only=True):
    """See the module.

    `metrics` are those of "validation" and "test". `calibration` is for `Calibration.from_json`, and
    `calibration_losses` the log loss of each method. `days` is how many days of traffic the validation and the test
    rows are, None where nobody knows. `history` has a number per epoch, and `kept_epoch`, from 1, is the one that the
    model is of. `parent` is the champion at the time. `typical` is what is usual of each input among training rows.
    `vocabularies` are the values of each category input that the model knows, see `families.encoding`.
    """

    created_at: str
    schema: SchemaOfModel
    model: Model
    policy: ChosenPolicy
    metrics: dict[str, Metrics]
    history: dict[str, list[float]]
    data: Origin
    split: SplitMade
    device: str
    packages: dict[str, str]
    git_commit: str | None = None
    calibration: StoredCalibration | None = None
    calibration_losses: dict[str, float] = field(default_factory=dict)
    days: dict[str, float | None] = field(default_factory=dict)
    kept_epoch: int | None = None
    importance: Importance | None = None
    parent: str | None = None
    typical: dict[str, Typical] = field(default_factory=dict)
    vocabularies: dict[str, list[str]] = field(default_factory=dict)
