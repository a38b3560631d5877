from pathlib import Path

import pytest
from django.conf import settings

from training.core import configuration, families
from training.core.configuration import reference
from training.core.configuration.sections import SETTINGS
from training.core.exceptions import ConfigurationError

FIXTURES = Path(__file__).parent / "fixtures"


@pytest.fixture
def config_file(tmp_path):
    def write(text):
        path = tmp_path / "mine.toml"
        path.write_text(text)
        return path

    return write


def test_what_is_shipped_is_the_seed_systems_network():
    model = configuration.as_json(configuration.read())["model"]
    assert model == {
        "architecture": "mlp",
        "units": [32, 16],
        "dropout": 0.2,
        "learning_rate": 0.001,
        "batch_size": 1024,
        "epochs": 100,
        "patience": 5,
        "members": 4,
        "binless_members": 0,
        "students": 0,
        "bins": 16,
        "log_amount": False,
        "time_of_day": False,
        "weight_decay": 0.01,
        "legitimate_per_fraud": 15,
        "draws": 1,
        "seed": 0,
    }


def test_a_schema_has_a_configuration_of_its_own_or_the_shipped_one():
    assert configuration.path_of("merchant") is None
    handbook = configuration.read(configuration.path_of("handbook"))
    assert (handbook.data.schema, handbook.split.protocol) == ("handbook", "time")
    assert handbook.policy == configuration.read().policy


def test_the_protocol_of_the_seed_system_has_its_network():
    config = configuration.read(configuration.path_of("ulb", "seed"))
    assert config.split.protocol == "seed"
    assert config.model == configuration.read().model
    assert configuration.path_of("ulb", "time") == configuration.path_of("ulb")
    assert configuration.path_of("handbook", "seed") == configuration.path_of("handbook")


def test_the_bag_for_ulb_finds_the_money_and_the_moment():
    found = families.hyperparameters(configuration.read(configuration.path_of("ulb")))
    assert (found.architecture, found.time_feature, found.amount_feature) == ("bag", 0, 29)


def test_a_schema_whose_time_is_no_feature_has_no_time_of_day():
    wanted = {"model.time_of_day": True}
    config = configuration.read(configuration.path_of("handbook"), wanted)
    with pytest.raises(ConfigurationError, match=r"model\.time_of_day must be false"):
        families.hyperparameters(config)


def test_students_learn_of_the_trees_that_are_configured_and_beside_those_who_learn_of_labels():
    of_trees = {"model.architecture": "bag", "model.members": 3, "xgboost.depth": 7}
    assert families.hyperparameters(configuration.read(overrides=of_trees)).teacher is None
    found = families.hyperparameters(configuration.read(overrides=of_trees | {"model.students": 2}))
    assert found.teacher.depth == 7
    with pytest.raises(ConfigurationError, match=r"model\.students must be less than model\.members"):
        families.hyperparameters(configuration.read(overrides=of_trees | {"model.students": 3}))


def test_a_file_replaces_what_it_names_and_an_override_replaces_the_file(config_file):
    path = config_file("[model]\ndropout = 0.3\npatience = 9\n")
    config = configuration.read(path, {"model.patience": 2})
    assert (config.model.dropout, config.model.patience) == (0.3, 2)
    assert config.model.learning_rate == configuration.read().model.learning_rate


def test_a_whole_number_serves_where_a_fraction_is_meant():
    assert configuration.read(overrides={"model.dropout": 0}).model.dropout == 0.0


@pytest.mark.parametrize("name", ["model.dropuot", "modle.dropout", "dropout", "model", ""])
def test_a_setting_that_does_not_exist_is_refused_with_those_that_do(name):
    with pytest.raises(ConfigurationError, match=r"There is no setting .*model\.dropout"):
        configuration.read(overrides={name: 0.3})


@pytest.mark.parametrize("text", ["[model]\ndropuot = 0.3", "[modle]\ndropout = 0.3", "dropout = 0.3"])
def test_a_file_with_a_setting_that_does_not_exist_is_refused(config_file, text):
    with pytest.raises(ConfigurationError, match="There is no setting"):
        configuration.read(config_file(text))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model.epochs", "many"),
        ("model.epochs", 1.5),
        ("model.epochs", True),
        ("model.units", 32),
        ("split.protocol", 1),
        ("model.dropout", [0.2]),
    ],
)
def test_a_value_of_another_type_is_refused(name, value):
    with pytest.raises(ConfigurationError, match=f"{name} must be of type"):
        configuration.read(overrides={name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("split.test", 1.0),
        ("split.validation", 0.0),
        ("model.units", [32, 0]),
        ("model.units", [32, "16"]),
        ("model.units", [1.5]),
        ("model.dropout", 1.0),
        ("model.dropout", float("nan")),
        ("model.learning_rate", -0.001),
        ("model.batch_size", 0),
        ("model.epochs", 0),
        ("model.seed", -1),
        ("policy.review_precision", 1.1),
        ("evaluation.bootstrap_resamples", -1),
    ],
)
def test_a_value_out_of_bounds_is_refused_by_name(name, value):
    with pytest.raises(ConfigurationError, match=f"{name} must lie between"):
        configuration.read(overrides={name: value})


@pytest.mark.parametrize("name", ["split.protocol", "policy.choose"])
def test_a_word_that_is_no_choice_is_refused_with_those_that_are(name):
    with pytest.raises(ConfigurationError, match=rf"{name} must be .* or .*, not dice"):
        configuration.read(overrides={name: "dice"})


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=lambda setting: setting.name)
def test_every_setting_says_what_it_means_and_every_number_has_bounds(setting):
    assert setting.meaning
    assert (setting.low is not None and setting.high is not None) == (setting.type in (int, float, list))


def test_the_page_of_the_docs_is_what_is_declared():
    written = (settings.BASE_DIR / "docs" / "hyperparameters.md").read_text()
    assert written == reference.page(), "python -m training.core.configuration.reference > docs/hyperparameters.md"


def test_a_file_from_before_settings_were_declared_in_code_says_what_the_defaults_say():
    """`training/config.toml` was once where every setting and its default stood, and what one copied."""
    assert configuration.read(FIXTURES / "config_of_2026.toml") == configuration.read()


@pytest.mark.parametrize("content", [b"[model", b"\xff\xfe", None])
def test_a_file_that_cannot_be_read_is_refused_by_name(tmp_path, content):
    path = tmp_path / "broken.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"broken\.toml"):
        configuration.read(path)


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("model.dropout=0.3", ("model.dropout", 0.3)),
        ("model.units=[64, 32]", ("model.units", [64, 32])),
        ("split.protocol=seed", ("split.protocol", "seed")),
        ("split.protocol='seed'", ("split.protocol", "seed")),
    ],
)
def test_an_override_is_written_as_in_the_file(text, parsed):
    assert configuration.parse_override(text) == parsed


def test_an_override_without_a_value_is_refused():
    with pytest.raises(ConfigurationError, match=r"Write section\.key=value"):
        configuration.parse_override("model.dropout")
