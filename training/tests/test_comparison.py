"""`manage.py evaluate` on made-up rows: what it may look at, what it keeps, and what it says."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from django.core.management import CommandError, call_command
from scipy.special import expit

from training.core import configuration
from training.core.comparison import report
from training.core.comparison.baselines import BASELINES
from training.core.comparison.results import Case, Comparison, Contender, contenders
from training.core.comparison.standings import standings
from training.core.datasets.storage import Dataset
from training.core.schema import load_schema
from training.tests.support import (
    made_up_purchases,
    made_up_report,
    made_up_rows,
    store_made_up_dataset,
    with_purchases,
)

CONFIG = configuration.read(overrides={"evaluation.bootstrap_resamples": 20})
STRATIFIED, TIME = Case("stratified", 0), Case("time", 0)


def comparison(directory, features=None, labels=None, sha256="0" * 64):
    known, known_labels = made_up_rows()
    features, labels = (known if features is None else features), (known_labels if labels is None else labels)
    return Comparison(
        Dataset(load_schema("ulb"), features, labels, None, made_up_report(labels, sha256)), CONFIG, directory
    )


def quiet(what):
    pass


def of(name, **budget):
    return contenders("ulb", **{"trials": 3, "seeds": 1} | budget)[name]


def made(directory, contender, case=STRATIFIED, **dataset):
    run = comparison(directory, **dataset)
    run.make(case, contender, 0, on_step=quiet)
    (result,) = run.finished([(case, contender, 0)])
    return result


@pytest.mark.parametrize("case", [STRATIFIED, TIME], ids=str)
@pytest.mark.parametrize("name", ["logistic", "lightgbm"])
def test_test_rows_have_no_say_in_search_fit_calibration_and_threshold(tmp_path, name, case):
    features, _ = made_up_rows()
    ours = made(tmp_path / "ours", of(name), case)
    test_rows = comparison(tmp_path)._split(case).test
    disturbed = features.copy()
    disturbed[test_rows, 1:] = disturbed[test_rows, 1:] * 3 + 7
    other = made(tmp_path / "other", of(name), case, features=disturbed)
    assert ours.record.parameters == other.record.parameters
    np.testing.assert_array_equal(ours.scored["validation"].scores, other.scored["validation"].scores)
    assert (ours.scored["test"].scores != other.scored["test"].scores).any()


def test_no_copy_of_a_row_is_on_two_sides_of_a_stratified_split(tmp_path):
    features, labels = made_up_rows()
    doubled, doubled_labels = np.concatenate([features, features[:500]]), np.concatenate([labels, labels[:500]])
    split = comparison(tmp_path, doubled, doubled_labels)._split(Case("stratified", 3))
    parts = [{tuple(row) for row in doubled[part]} for part in vars(split).values()]
    assert sum(map(len, parts)) == len(set.union(*parts)) == len(features)


def test_a_search_tries_as_much_as_its_budget_and_takes_the_best(tmp_path):
    result = made(tmp_path, of("logistic", trials=4))
    (search,) = tmp_path.glob("search-*.json")
    trials = json.loads(search.read_text())
    assert len(trials) == result.record.trials == 4
    assert trials[0]["value"] == max(trial["value"] for trial in trials)
    assert result.record.parameters == trials[0]["parameters"]


def test_an_interrupted_search_goes_on_with_the_trials_that_are_left(tmp_path):
    reported = []

    def interrupt(what):
        reported.append(what)
        if "trial 3" in what:
            raise KeyboardInterrupt

    contender = of("logistic", trials=4)
    with pytest.raises(KeyboardInterrupt):
        comparison(tmp_path).make(STRATIFIED, contender, 0, on_step=interrupt)
    assert not comparison(tmp_path).is_finished(STRATIFIED, contender, 0)
    reported.clear()
    comparison(tmp_path).make(STRATIFIED, contender, 0, on_step=reported.append)
    assert [re.search(r"trial (\d)", what) is not None for what in reported].count(True) <= 2
    assert comparison(tmp_path).is_finished(STRATIFIED, contender, 0)


@pytest.mark.parametrize("name", [*BASELINES, "seed-mlp"])
def test_every_contender_takes_categories_and_missing_values(tmp_path, name):
    with with_purchases(tmp_path):
        run = Comparison(made_up_purchases(1500), CONFIG, tmp_path / "comparison")
        contender = contenders("purchases", trials=1, seeds=1)[name]
        run.make(STRATIFIED, contender, 0, on_step=quiet)
        (result,) = run.finished([(STRATIFIED, contender, 0)])
    test = result.scored["test"]
    assert test.scores[test.labels == 1].mean() > 2 * test.scores[test.labels == 0].mean()


def test_a_model_that_collapses_gives_way_to_the_next_best_parameters(tmp_path):
    def fit(parameters, train, validation, columns, seed):
        if parameters["fragile"] and seed == 1:
            return lambda rows: np.zeros(len(rows))
        columns = [3, 10, 12, 14, 17] if parameters["fragile"] else [3]  # better, and worse
        return lambda rows: expit(-rows[:, columns].sum(axis=1))

    contender = Contender(
        "made-up",
        "made up",
        fit,
        {},
        space=lambda trial: {"fragile": trial.suggest_categorical("fragile", [True, False])},
        trials=6,
    )
    run = comparison(tmp_path)
    for seed, collapsed in ((0, 0), (1, 1)):
        run.make(STRATIFIED, contender, seed, on_step=quiet)
        (result,) = run.finished([(STRATIFIED, contender, seed)])
        assert result.record.parameters["fragile"] is (collapsed == 0)


def test_other_data_or_another_budget_is_another_result(tmp_path):
    made(tmp_path, of("logistic"))
    assert comparison(tmp_path).is_finished(STRATIFIED, of("logistic"), 0)
    assert not comparison(tmp_path, sha256="1" * 64).is_finished(STRATIFIED, of("logistic"), 0)
    assert not comparison(tmp_path).is_finished(STRATIFIED, of("logistic", trials=5), 0)


def test_a_difference_of_two_models_is_paired_and_adds_up(tmp_path):
    run = comparison(tmp_path)
    chosen = [of("logistic"), of("lightgbm")]
    plan = run.plan([STRATIFIED, TIME], chosen)
    for step in plan:
        run.make(*step, on_step=quiet)
    found = standings(list(run.finished(plan)), CONFIG, on_step=quiet)
    assert found.keys() == {"stratified", "time"}
    for first, second in found.values():
        assert first.values["auprc"] >= second.values["auprc"]
        value, low, high = first.ahead_of(second, "auprc")
        assert value == pytest.approx(first.values["auprc"] - second.values["auprc"])
        assert low <= value <= high


@pytest.fixture
def house(settings, tmp_path):
    settings.VAR_DIR, settings.DATASETS_DIR = tmp_path, tmp_path / "datasets"
    store_made_up_dataset(settings.DATASETS_DIR)
    return tmp_path / "evaluation" / "ulb"


QUICK = ("--models", "logistic", "--trials", "2", "--splits", "2")


def test_it_writes_a_page_that_needs_nothing_from_elsewhere_and_markdown(house, capsys):
    call_command("evaluate", *QUICK)
    assert "4 of 4 results" in capsys.readouterr().out
    page, text = (house / "report.html").read_text(), (house / "report.md").read_text()
    assert not re.search(r'(src|href)="(?!#)', page)
    assert "@import" not in page
    for words in ("AUPRC", "ROC-AUC by Keras", "logistic regression", "best of 2 trials"):
        assert words in page
    assert page.count("<svg") == 9
    assert text.count("| logistic regression |") == 3


def test_what_a_page_tells_of_is_text_and_never_markup(tmp_path):
    result = made(tmp_path, replace(of("logistic"), title="<b>logistic</b>"))
    page = report.as_page(standings([result], CONFIG, on_step=quiet), CONFIG, {"schema": "<script>"})
    assert "&lt;b&gt;logistic&lt;/b&gt;" in page
    assert "&lt;script&gt;" in page
    assert not re.search("<script|<b>logistic", page)


def test_what_is_finished_is_not_made_again(house):
    call_command("evaluate", *QUICK, "--protocols", "time")
    (result,) = house.glob("time-0-logistic-0-*.json")
    before = result.stat().st_mtime_ns
    call_command("evaluate", *QUICK)
    assert result.stat().st_mtime_ns == before
    assert len(list(house.glob("stratified-*.json"))) == 2


def test_a_report_of_nothing_is_refused(house):
    with pytest.raises(CommandError, match="Nothing of this is finished"):
        call_command("evaluate", *QUICK, "--report-only")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--models", "oracle"], "There is no model oracle. Known: logistic,"),
        (["--trials", "0"], "--trials must be 1 or more"),
        (["--schema", "moon"], "There is no schema 'moon'"),
    ],
)
def test_what_cannot_be_is_refused_by_name(house, options, message):
    with pytest.raises(CommandError, match=re.escape(message)):
        call_command("evaluate", *options)


def test_without_a_dataset_it_says_how_to_get_one(settings, tmp_path):
    settings.DATASETS_DIR = tmp_path
    with pytest.raises(CommandError, match=r"manage\.py ingest"):
        call_command("evaluate")


def test_the_seed_systems_network_takes_part_whatever_is_shipped():
    everybody = contenders("ulb")
    assert {"logistic", "forest", "histogram", "xgboost", "lightgbm", "seed-mlp"} <= everybody.keys()
    assert everybody["seed-mlp"].parameters["units"] == [32, 16]
    assert everybody["ulb"].parameters["architecture"] == "bag"
    assert "ulb-seed" not in everybody
    assert len(everybody["seed-mlp"].seeds_of(Case("seed", 0))) == 10
