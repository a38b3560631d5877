"""A running worker takes over another champion: no call waits for it, and no answer mixes two versions."""

import itertools
import json
import shutil
import sys
import time

import httpx
import numpy as np
import pytest
from django.conf import settings
from django.db import connection

from fraudsite.tests.deployment import deployment, run
from scoring.tests.callers import Callers, rows
from scoring.worker import predictor
from training import registry
from training.core import families
from training.core.bundle import load_bundle
from training.core.exceptions import BundleRefused, NoChampion
from training.core.schema import load_schema
from training.models import ModelVersion, Stage
from training.tests.support import made_up_rows, tiny_bundle
from training.tests.test_bundle import signed_anew

SWAPS = 4
PROMOTE_IN_TURN = """
import sys, time, django
django.setup()
from training import registry
from training.models import ModelVersion
for turn in range(int(sys.argv[1])):
    version = ModelVersion.objects.exclude(stage="champion").get()
    registry.promote(version, by="the test", force=True, reason="A test.")
    time.sleep(1.5)
"""
PREPARE_PROMOTION = """
import django
django.setup()
from django.contrib.auth.models import User
from training import registry
User.objects.create_superuser("root", password="root-password")
registry.compare_waiting()
registry.ModelVersion.objects.update(verdict_allows=True)  # whichever of the two is better
"""
NO_CHAMPION = "SELECT version FROM training_modelversion WHERE stage <> 'champion'"
# Where tests share two cores, a call may wait so long for its turn while a worker builds the model it takes over.
BUSY_MACHINE_S = 0.25


@pytest.fixture(autouse=True)
def nothing_loaded(monkeypatch):
    """As in a worker that has just started."""
    monkeypatch.setattr(predictor, "_loaded", {})
    monkeypatch.setattr(predictor, "_refused", {})


@pytest.fixture
def successor(champion, bundle, settings, tmp_path):
    """A champion after the champion; what is in its bundle is for the test to say."""
    settings.BUNDLES_DIR = tmp_path
    shutil.copytree(bundle.path, tmp_path / champion.pk)
    version = ModelVersion(version="successor", schema="ulb", review_threshold=0.5)
    write_successor(version, bundle)
    return version


def write_successor(version, bundle):
    shutil.copytree(bundle.path, version.bundle_dir, dirs_exist_ok=True)
    signed_anew(version.bundle_dir, settings.BUNDLE_SIGNING_KEY, version=version.pk)


def become_champion(version):
    ModelVersion.objects.filter(schema="ulb").update(stage=Stage.RETIRED)
    version.stage = Stage.CHAMPION
    version.save()


def scorer_of(var_dir, version):
    key = (var_dir / "bundle_signing_key").read_text().strip()
    return families.scorer_of(load_bundle(var_dir / "models" / version, signing_key=key))


def score_of(scorer, payload):
    values = [payload[name] for name in load_schema("ulb").feature_names]
    return float(scorer.score(np.array([values], np.float32)).astype(np.float64)[0])


@pytest.fixture(scope="module")
def system():
    """A champion and another version, a worker that looks for promotions five times a second."""
    with deployment(connection.vendor, workers=1, MODEL_REFRESH_S=0.2) as made:
        yield made


@pytest.mark.alone
def test_promotions_during_traffic_cost_no_answer_and_mix_no_versions(system):
    callers = Callers(system)

    def promote_in_turn():
        run([sys.executable, "-c", PROMOTE_IN_TURN, str(SWAPS)], system.environment)

    callers.post_all(400, per_s=40, meanwhile=promote_in_turn)
    assert {answer.status for answer in callers.first.values()} == {200}
    stored = predicted(system, callers)
    versions = [version for _, version, _ in stored]
    scorers = {version: scorer_of(system.directory / "var", version) for version in set(versions)}
    assert len(stored) == 400
    # A busy machine may pass over some.
    assert sum(before != after for before, after in itertools.pairwise(versions)) >= SWAPS / 2
    for key, version, score in stored[::10]:
        assert score == score_of(scorers[version], callers.payload(int(key.removeprefix("order-"))))


@pytest.mark.alone
def test_a_promotion_in_the_admin_costs_no_answer_and_makes_none_slow(system):
    run([sys.executable, "-c", PREPARE_PROMOTION], system.environment)
    http = httpx.Client(base_url=system.url, follow_redirects=True, timeout=30)
    page = f"/admin/training/modelversion/{rows(system, NO_CHAMPION)[0][0]}/change/"

    def submit(path, **form):
        csrf = {"X-CSRFToken": http.cookies["csrftoken"], "Referer": system.url}
        return http.post(path, data=form, headers=csrf).raise_for_status()

    def promote():
        time.sleep(0.5)
        assert "is the champion. Workers" in submit(page, stage_action="promote").text

    with http:
        http.get("/admin/login/")
        submit("/admin/login/", username="root", password="root-password", next="/admin/")
        http.get(page)
        quiet, busy = Callers(system), Callers(system)
        quiet.post_all(200, per_s=50, meanwhile=lambda: None, after=1_000)
        busy.post_all(200, per_s=50, meanwhile=promote, after=2_000)
    assert {answer.status for answer in busy.first.values()} == {200}
    assert len({version for _, version, _ in predicted(system, busy)}) == 2
    before, during = (np.quantile([answer.took_s for answer in each.first.values()], 0.99) for each in (quiet, busy))
    assert during <= max(2 * before, BUSY_MACHINE_S), f"p99 was {before:.3f} s, and {during:.3f} s during the promotion"


def predicted(system, callers):
    """Transaction id, version and score of what these callers posted, in the order of scoring."""
    stored = rows(
        system,
        "SELECT t.transaction_id, p.model_version_id, p.fraud_score FROM scoring_transaction t "
        "JOIN scoring_prediction p ON p.transaction_id = t.id ORDER BY p.created_at",
    )
    return [row for row in stored if row[0] in callers.first]


@pytest.mark.django_db
def test_a_worker_takes_over_a_promoted_version_and_its_thresholds(successor):
    before = predictor.current("ulb")
    become_champion(successor)
    assert predictor.current("ulb") is before  # until the follower looks
    after = predictor.refresh("ulb")
    assert predictor.current("ulb") is after
    assert after.version == successor
    ModelVersion.objects.filter(pk="successor").update(review_threshold=0.25)
    moved = predictor.refresh("ulb")
    assert (after.policy.thresholds.review, moved.policy.thresholds.review) == (0.5, 0.25)
    assert moved.scorer is after.scorer


@pytest.mark.django_db
def test_a_champion_of_another_family_takes_over_by_the_same_call(champion, settings, tmp_path):
    before = predictor.current("ulb")
    trees = {"model.architecture": "xgboost", "xgboost.epochs": 40, "xgboost.learning_rate": 0.3}
    bundle = tiny_bundle(settings.BUNDLES_DIR, settings.BUNDLE_SIGNING_KEY, **trees)
    become_champion(registry.register(bundle, promote=False))
    after = predictor.refresh("ulb")
    assert (before.version, after.version.pk) == (champion, bundle.version)
    rows = made_up_rows(rows=10, frauds=2)[0].astype(np.float32)
    assert np.isfinite(after.score(rows)).all()
    assert (after.score(rows) != before.score(rows)).any()
    (after.version.bundle_dir / "trees.ubj").write_bytes(b"altered")
    settings.STORAGE_URL = str(tmp_path / "empty")
    become_champion(champion)
    predictor.refresh("ulb")
    become_champion(after.version)
    assert predictor.refresh("ulb").version == champion


def corrupt(path):
    with (path / "weights.safetensors").open("r+b") as file:
        file.write(b"!")


def unsigned(path):
    (path / "manifest.sig").unlink()


def missing(path):
    shutil.rmtree(path)


@pytest.mark.django_db
@pytest.mark.parametrize("spoil", [corrupt, unsigned, missing])
def test_a_champion_whose_bundle_is_refused_leaves_the_old_one_at_work_until_it_is_mended(
    successor, bundle, spoil, caplog
):
    before = predictor.current("ulb")
    spoil(successor.bundle_dir)
    become_champion(successor)
    for _ in range(3):
        assert predictor.refresh("ulb") is before
    [message] = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert f"successor is refused, and {before.version} goes on" in message
    assert predictor._refused["ulb"].version == "successor"
    write_successor(successor, bundle)
    assert predictor.refresh("ulb").version == successor
    assert not predictor._refused


@pytest.mark.django_db
def test_a_bundle_of_a_declaration_that_nobody_knows_is_refused(successor):
    before = predictor.current("ulb")
    path = successor.bundle_dir / "bundle.json"
    description = json.loads(path.read_text())
    description["schema"]["hash"] = "0" * 64
    path.write_text(json.dumps(description))
    signed_anew(successor.bundle_dir, settings.BUNDLE_SIGNING_KEY)
    become_champion(successor)
    assert predictor.refresh("ulb") is before


@pytest.mark.django_db
def test_without_an_older_one_a_refusal_reaches_the_caller(successor):
    corrupt(successor.bundle_dir)
    become_champion(successor)
    with pytest.raises(BundleRefused):
        predictor.current("ulb")
    ModelVersion.objects.update(stage=Stage.RETIRED)
    with pytest.raises(NoChampion):
        predictor.current("ulb")
