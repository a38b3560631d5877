"""The register of models, as the ML engineer works with it and the analyst looks at it."""

import shutil

import pytest
from django.conf import settings as django_settings
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.urls import reverse
from django.utils.html import escape
from msgspec.structs import replace

from training import registry
from training.core.bundle import write_bundle
from training.models import ModelVersion
from training.tasks import compare_waiting
from training.tests.support import tiny_bundle

pytestmark = pytest.mark.django_db

LIST = reverse("admin:training_modelversion_changelist")
PLOTS = ["precision_recall", "roc", "scores", "training"]


@pytest.fixture(scope="module")
def challenger_bundle(bundle):
    """Another model of the same rows."""
    return tiny_bundle(django_settings.BUNDLES_DIR, django_settings.BUNDLE_SIGNING_KEY, **{"model.seed": 1})


@pytest.fixture(scope="module")
def tested_elsewhere_bundle(bundle):
    return tiny_bundle(django_settings.BUNDLES_DIR, django_settings.BUNDLE_SIGNING_KEY, **{"split.protocol": "seed"})


@pytest.fixture
def challenger(champion, challenger_bundle):
    return compared(registry.register(challenger_bundle, promote=False))


def compared(version):
    """The version, after a worker has compared it with the champion."""
    compare_waiting()
    version.refresh_from_db()
    return version


@pytest.fixture
def altered(challenger, challenger_bundle, settings, tmp_path):
    """The challenger, one byte of whose weights was altered. The store has no other copy."""
    settings.BUNDLES_DIR, settings.STORAGE_URL = tmp_path, str(tmp_path / "empty")
    directory = shutil.copytree(challenger_bundle.path, challenger.bundle_dir)
    weights = directory / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    return challenger


def page_of(version):
    return reverse("admin:training_modelversion_change", args=[version.pk])


def plot_of(version, name):
    return reverse("admin:training_modelversion_plot", args=[version.pk, name])


def card_of(version):
    return reverse("admin:training_modelversion_card", args=[version.pk])


def text_of(response):
    return response.content.decode()


def promote(client, *versions):
    chosen = {"action": "promote", "_selected_action": [version.pk for version in versions]}
    return client.post(LIST, chosen, follow=True)


def history_of(version):
    return [entry.get_change_message() for entry in LogEntry.objects.filter(object_id=version.pk)]


def test_the_list_shows_what_distinguishes_the_versions(client, alice, champion, challenger):
    client.force_login(alice)
    page = text_of(client.get(LIST))
    for version in (champion, challenger):
        assert version.version in page
        assert version.get_stage_display() in page
        assert f"review {version.review_threshold:.4f}" in page
        assert f"block {version.block_threshold:.4f}" in page
        for name in ("auprc", "precision", "recall"):
            metric = version.metrics_of("test").measured(name)
            assert f"{metric.value:.4f}" in page
            assert f"{metric.low:.3f}–{metric.high:.3f}" in page


@pytest.mark.parametrize("column", ["auprc", "precision", "recall"])
def test_the_list_can_be_sorted_by_a_metric(client, mel, champion, challenger, column):
    client.force_login(mel)
    number = 1 + ["version", "stage", "protocol", "auprc", "precision", "recall"].index(column)
    values = {}
    for registered, value in ((champion, 0.25), (challenger, 0.75)):
        version = ModelVersion.objects.get(pk=registered.pk)  # with metrics of its own, not the bundle's
        version.metrics["test"][column]["value"] = value
        version.save()
        values[value] = version
    rising = [version.pk for version in client.get(LIST, {"o": number}).context["cl"].queryset]
    assert rising == [values[0.25].pk, values[0.75].pk]


def test_the_list_can_be_filtered_by_stage_and_searched(client, mel, champion, challenger):
    client.force_login(mel)
    assert champion.version not in text_of(client.get(LIST, {"stage__exact": "candidate"}))
    assert challenger.version not in text_of(client.get(LIST, {"q": champion.version}))


@pytest.mark.parametrize("person", ["alice", "mel", "ada"])
def test_the_page_shows_metrics_with_intervals_confusion_plots_and_origin(client, request, champion, bundle, person):
    client.force_login(request.getfixturevalue(person))
    page = text_of(client.get(page_of(champion)))
    for part in ("validation", "test"):
        for name in ("precision", "recall", "accuracy", "auprc", "roc_auc"):
            metric = champion.metrics_of(part).measured(name)
            assert f"<b>{metric.value:.4f}</b>" in page
            assert f"{metric.low:.4f}–{metric.high:.4f}" in page
        assert f"{part}, {champion.metrics_of(part).rows:,} rows" in page
        for counts in champion.metrics_of(part).confusion:
            assert all(f">{count:,}</td>" in page for count in counts)
    for name in PLOTS:
        assert f'<img src="{plot_of(champion, name)}"' in page
    assert bundle.description.data.sha256 in page
    assert bundle.description.packages["keras"] in page


def test_the_page_shows_what_the_model_leans_on_and_where_it_comes_from(client, mel, champion, challenger, bundle):
    client.force_login(mel)
    page = text_of(client.get(page_of(champion)))
    for name, lost in bundle.description.importance.features.items():
        assert f'<th scope="row">{name}</th>' in page
        assert f"{round(lost.value, 4) + 0.0:+.4f}" in page
    assert bundle.description.schema.hash in page
    assert "dropout 0.2" in page
    assert "members" not in page  # which this architecture does not read
    assert "none, or not recorded" in page


def test_a_version_names_the_champion_that_it_would_follow(client, mel, champion):
    client.force_login(mel)
    key = django_settings.BUNDLE_SIGNING_KEY
    follower = registry.register(tiny_bundle(django_settings.BUNDLES_DIR, key, champion.pk), promote=False)
    assert f'<a href="{page_of(champion)}">{champion}</a>' in text_of(client.get(page_of(follower)))


def test_an_older_bundle_says_what_it_does_not_have(client, mel, champion, bundle, settings, tmp_path):
    client.force_login(mel)
    settings.BUNDLES_DIR = tmp_path
    older = replace(bundle.description, importance=None, parent=None)
    write_bundle(
        champion.bundle_dir,
        description=older,
        model_files=bundle.files,
        reference=bundle.reference,
        test_rows=bundle.test_rows,
        scored={},
        plots=bundle.plots,
        signing_key=settings.BUNDLE_SIGNING_KEY,
    )
    page = text_of(client.get(page_of(champion)))
    assert "this bundle is older than the measurement" in page
    assert 'id="threshold"' not in page
    assert "older than the measurement" in text_of(client.get(card_of(champion)))


def test_the_model_card_is_a_file_that_tells_metrics_thresholds_limits_and_lineage(client, alice, champion, bundle):
    client.force_login(alice)
    champion.review_threshold = 0.125
    champion.save()
    response = client.get(card_of(champion))
    assert response["Content-Type"] == "text/markdown; charset=utf-8"
    assert response["Content-Disposition"] == f'attachment; filename="model-card-{champion}.md"'
    card = text_of(response)
    assert card.startswith(f"# Model card: {champion}\n")
    for heading in ("What it is", "Intended use", "Metrics", "Thresholds", "Feature importance", "Limits", "Lineage"):
        assert f"\n## {heading}\n" in card
    auprc = bundle.metrics["test"].auprc
    assert f"{auprc.value:.4f} ({auprc.low:.4f} to {auprc.high:.4f})" in card
    assert f"| review | {bundle.review_threshold:.4f} | 0.1250 |" in card
    assert bundle.description.data.sha256 in card


def test_an_altered_bundle_has_no_model_card(client, mel, altered):
    client.force_login(mel)
    assert client.get(card_of(altered)).status_code == 404


def test_the_page_needs_no_exception_from_the_content_security_policy(client, mel, champion):
    client.force_login(mel)
    response = client.get(page_of(champion))
    assert "img-src 'self' data:" in response["Content-Security-Policy"]
    assert "unsafe" not in response["Content-Security-Policy"]
    assert "style=" not in text_of(response)


def test_a_candidate_is_shown_beside_the_champion_that_was_tested_on_the_same_rows(
    client, mel, champion, challenger, tested_elsewhere_bundle
):
    client.force_login(mel)
    title = f"champion {champion}, test"
    assert title in text_of(client.get(page_of(challenger)))
    assert title not in text_of(client.get(page_of(champion)))
    tested_elsewhere = registry.register(tested_elsewhere_bundle, promote=False)
    assert title not in text_of(client.get(page_of(tested_elsewhere)))


def test_without_a_champion_the_page_is_shown_all_the_same(client, mel, challenger_bundle):
    client.force_login(mel)
    alone = registry.register(challenger_bundle, promote=False)
    assert client.get(page_of(alone)).status_code == 200


def test_a_version_without_metrics_or_bundle_is_shown_with_what_is_missing(client, mel):
    client.force_login(mel)
    bare = ModelVersion.objects.create(version="bare", schema="ulb", review_threshold=0.5)
    assert client.get(LIST).status_code == 200
    assert "The bundle is refused" in text_of(client.get(page_of(bare)))


@pytest.mark.parametrize("name", PLOTS)
def test_staff_look_at_the_plots_of_the_bundle(client, alice, champion, bundle, name):
    client.force_login(alice)
    response = client.get(plot_of(champion, name))
    assert response.status_code == 200
    assert response["Content-Type"] == "image/png"
    assert response["X-Content-Type-Options"] == "nosniff"
    assert response.content == bundle.plots[name]


def test_nobody_else_sees_plots_or_the_register(client, champion):
    plot = plot_of(champion, "roc")
    assert client.get(plot)["Location"].startswith(reverse("admin:login"))
    client.force_login(User.objects.create_user("eve"))
    assert client.get(plot)["Location"].startswith(reverse("admin:login"))
    client.force_login(User.objects.create_user("olga", is_staff=True))  # in no group
    for address in (plot, LIST, page_of(champion), card_of(champion)):
        assert client.get(address).status_code == 403


@pytest.mark.parametrize(
    "address",
    [
        "{version}/plots/absent.png",
        "{version}/plots/roc.txt",
        "{version}/plots/..%2Fmanifest.png",
        "{version}/plots/..%2F..%2F{version}%2Fplots%2Froc.png",
        "absent/plots/roc.png",
        "..%2Fmodels%2F{version}/plots/roc.png",
    ],
)
def test_a_plot_that_does_not_exist_is_not_found_however_it_is_asked_for(client, mel, champion, address):
    client.force_login(mel)
    # The admin leads whoever asks for a page that it does not have to its index.
    response = client.get(LIST + address.format(version=champion.version), follow=True)
    assert response.status_code == 404 or response.request["PATH_INFO"] == reverse("admin:index")
    assert not response.content.startswith(b"\x89PNG")


def test_an_altered_bundle_shows_no_plots_and_says_why(client, mel, altered):
    client.force_login(mel)
    assert client.get(plot_of(altered, "roc")).status_code == 404
    page = text_of(client.get(page_of(altered)))
    assert "weights.safetensors has been altered" in page
    assert "<img" not in page


@pytest.mark.parametrize("person", ["mel", "ada"])
def test_an_ml_engineer_promotes_a_candidate_and_the_history_says_who(client, request, champion, challenger, person):
    user = request.getfixturevalue(person)
    client.force_login(user)
    assert f"{challenger} is the champion" in text_of(promote(client, challenger))
    champion.refresh_from_db()
    assert registry.champion("ulb") == challenger
    assert champion.stage == "retired"
    assert history_of(challenger) == ["Promoted."]
    assert history_of(champion) == [f"Retired. {challenger} is the champion."]
    assert set(LogEntry.objects.values_list("user", flat=True)) == {user.pk}


def test_the_page_of_a_candidate_promotes_it_too(client, mel, challenger):
    client.force_login(mel)
    assert "Promote to champion" in text_of(client.get(page_of(challenger)))
    page = text_of(client.post(page_of(challenger), {"stage_action": "promote"}, follow=True))
    assert registry.champion("ulb") == challenger
    assert 'value="promote"' not in page
    assert history_of(challenger) == ["Promoted."]


def test_an_analyst_looks_but_promotes_nothing(client, alice, champion, challenger):
    client.force_login(alice)
    assert 'value="promote"' not in text_of(client.get(LIST))
    assert 'name="stage_action"' not in text_of(client.get(page_of(challenger)))
    promote(client, challenger)
    assert client.post(page_of(challenger), {"stage_action": "promote"}).status_code == 403
    assert registry.champion("ulb") == champion
    assert not LogEntry.objects.exists()


def test_one_version_is_promoted_at_a_time(client, mel, champion, challenger):
    client.force_login(mel)
    assert "Choose one version." in text_of(promote(client, champion, challenger))
    assert registry.champion("ulb") == champion


def test_promoting_the_champion_changes_nothing(client, mel, champion):
    client.force_login(mel)
    assert "is the champion already" in text_of(promote(client, champion))
    assert not LogEntry.objects.exists()


def test_what_cannot_be_compared_is_promoted_by_force_and_with_a_reason_only(
    client, mel, champion, tested_elsewhere_bundle
):
    client.force_login(mel)
    other = compared(registry.register(tested_elsewhere_bundle, promote=False))
    assert "tested on other rows" in text_of(promote(client, other))
    answer = {"stage_action": "promote", "force": "on"}
    assert "Give the reason" in text_of(client.post(page_of(other), answer, follow=True))
    page = text_of(client.post(page_of(other), answer | {"reason": "A new split."}, follow=True))
    assert registry.champion("ulb") == other
    assert "Promoted. A new split." in page
    assert "It cannot be compared with the champion" in page


def test_the_page_of_a_champion_rolls_back_with_a_reason_and_shows_who_did_what(client, mel, champion, challenger):
    client.force_login(mel)
    promote(client, challenger)
    page = text_of(client.get(page_of(challenger)))
    assert f"Roll back to {champion}" in page
    answer = {"stage_action": "roll_back", "reason": "Too many false alerts."}
    page = text_of(client.post(page_of(challenger), answer, follow=True))
    assert f"{champion} is the champion" in page
    assert f"Retired. {champion} is the champion." in page
    assert registry.champion("ulb") == champion
    assert "Rolled back. Too many false alerts." in text_of(client.get(page_of(champion)))
    assert history_of(champion)[0] == "Rolled back. Too many false alerts."


def test_the_verdict_stands_beside_the_button(client, mel, challenger, tested_elsewhere_bundle):
    client.force_login(mel)
    page = text_of(client.get(page_of(challenger)))
    assert "Not worse than the champion." in page
    assert "95 % interval" in page
    assert 'name="force"' not in page
    other = compared(registry.register(tested_elsewhere_bundle, promote=False))
    page = text_of(client.get(page_of(other)))
    assert "Promoted by force only." in page
    assert "tested on other rows" in page
    assert 'name="force"' in page


@pytest.mark.parametrize("where", ["list", "page"])
def test_what_was_not_compared_yet_waits_and_is_never_compared_by_the_web_process(
    client, mel, champion, challenger_bundle, monkeypatch, where
):
    monkeypatch.setattr(registry, "compare", lambda *_: pytest.fail("The web process compares."))
    client.force_login(mel)
    waiting = registry.register(challenger_bundle, promote=False)
    assert "has not been compared with the champion" in text_of(client.get(page_of(waiting)))
    if where == "list":
        page = text_of(promote(client, waiting))
    else:
        page = text_of(client.post(page_of(waiting), {"stage_action": "promote"}, follow=True))
    assert f"{waiting} is not promoted. It has not been compared" in page
    assert registry.champion("ulb") == champion
    forced = {"stage_action": "promote", "force": "on", "reason": "The other one blocks everybody."}
    client.post(page_of(waiting), forced)
    assert registry.champion("ulb") == waiting


def test_a_verdict_holds_against_the_champion_that_it_names_and_no_other(
    client, mel, champion, challenger, tested_elsewhere_bundle
):
    client.force_login(mel)
    registry.register(tested_elsewhere_bundle, promote=True)
    assert "has not been compared with the champion" in text_of(promote(client, challenger))
    assert compared(challenger).compared_with_id == tested_elsewhere_bundle.version
    assert "tested on other rows" in text_of(promote(client, challenger))


def test_a_worker_compares_one_version_at_a_time_the_newest_first_and_passes_over_what_it_cannot_load(
    champion, challenger_bundle, tested_elsewhere_bundle
):
    older, newer = (registry.register(bundle, promote=False) for bundle in (challenger_bundle, tested_elsewhere_bundle))
    gone = ModelVersion.objects.create(version="gone", schema="ulb", review_threshold=0.5)
    assert [registry.compare_waiting() for _ in range(3)] == [newer, older, None]
    gone.refresh_from_db()
    assert gone.compared_with is None


def test_a_version_is_made_a_shadow_and_retired(client, mel, champion, challenger):
    client.force_login(mel)
    assert "decides nothing" in text_of(client.post(page_of(challenger), {"stage_action": "shadow"}, follow=True))
    assert ModelVersion.objects.get(pk=challenger.pk).stage == "shadow"
    client.post(LIST, {"action": "retire", "_selected_action": [challenger.pk]})
    assert ModelVersion.objects.get(pk=challenger.pk).stage == "retired"
    assert history_of(challenger) == ["Retired.", "Made shadow."]
    client.post(LIST, {"action": "retire", "_selected_action": [champion.pk]})
    assert registry.champion("ulb") == champion


@pytest.mark.parametrize("action", ["roll_back", "register", "delete", ""])
def test_what_a_version_cannot_do_now_is_no_action(client, mel, champion, challenger, action):
    client.force_login(mel)
    client.post(page_of(challenger), {"stage_action": action})
    assert (registry.champion("ulb"), ModelVersion.objects.get(pk=challenger.pk).stage) == (champion, "candidate")


def test_an_altered_bundle_is_never_promoted(client, mel, champion, altered):
    client.force_login(mel)
    assert "weights.safetensors has been altered" in text_of(promote(client, altered))
    client.post(page_of(altered), {"stage_action": "promote"})
    assert registry.champion("ulb") == champion
    assert not LogEntry.objects.exists()


def test_an_ml_engineer_moves_thresholds_and_the_history_says_from_where_to_where(client, mel, champion):
    client.force_login(mel)
    review, block = champion.review_threshold, champion.block_threshold
    response = client.post(page_of(champion), {"review_threshold": "0.25", "block_threshold": "0.75"})
    assert response.status_code == 302
    champion.refresh_from_db()
    assert (champion.review_threshold, champion.block_threshold, champion.stage) == (0.25, 0.75, "champion")
    [change] = history_of(champion)
    assert f"Review threshold from {review} to 0.25" in change
    assert f"Block threshold from {block} to 0.75" in change
    assert "The review threshold has been moved since" in text_of(client.get(page_of(champion)))


def test_without_a_block_threshold_nothing_is_blocked(client, mel, champion):
    client.force_login(mel)
    client.post(page_of(champion), {"review_threshold": "0.25", "block_threshold": ""})
    champion.refresh_from_db()
    assert champion.block_threshold is None


@pytest.mark.parametrize("bounds", [("0", "0"), ("1", "1"), ("0", "1"), ("0.5", "0.5")])
def test_the_ends_of_the_scale_are_thresholds_too(client, mel, champion, bounds):
    client.force_login(mel)
    client.post(page_of(champion), dict(zip(("review_threshold", "block_threshold"), bounds, strict=True)))
    champion.refresh_from_db()
    assert (champion.review_threshold, champion.block_threshold) == tuple(map(float, bounds))


@pytest.mark.parametrize(
    ("review", "block", "message"),
    [
        ("1.01", "", "between 0 and 1"),
        ("-0.01", "0.5", "between 0 and 1"),
        ("0.5", "1.01", "between 0 and 1"),
        ("0.5", "0.49", "not below the review threshold"),
        ("nan", "0.5", "Enter a number"),
        ("0.5", "inf", "Enter a number"),
        ("high", "0.5", "Enter a number"),
        ("", "0.5", "This field is required"),
    ],
)
def test_thresholds_that_make_no_sense_are_refused(client, mel, champion, review, block, message):
    client.force_login(mel)
    before = ModelVersion.objects.values().get(pk=champion.pk)
    page = text_of(client.post(page_of(champion), {"review_threshold": review, "block_threshold": block}))
    assert page.count('<ul class="errorlist"') == 1
    assert escape(message) in page
    assert ModelVersion.objects.values().get(pk=champion.pk) == before


def test_an_analyst_moves_no_threshold(client, alice, champion):
    client.force_login(alice)
    before = champion.review_threshold
    assert 'name="review_threshold"' not in text_of(client.get(page_of(champion)))
    response = client.post(page_of(champion), {"review_threshold": "0.25", "block_threshold": ""})
    assert response.status_code == 403
    champion.refresh_from_db()
    assert champion.review_threshold == before


def test_a_form_changes_thresholds_only(client, mel, challenger):
    client.force_login(mel)
    forged = {"review_threshold": "0.25", "block_threshold": "", "stage": "champion", "protocol": "x", "metrics": "{}"}
    client.post(page_of(challenger), forged)
    now = ModelVersion.objects.get(pk=challenger.pk)
    assert now.review_threshold == 0.25
    assert (now.stage, now.protocol, now.metrics) == ("candidate", challenger.protocol, challenger.metrics)


def test_versions_come_from_training_and_are_never_deleted(client, ada, champion):
    client.force_login(ada)
    assert client.get(reverse("admin:training_modelversion_add")).status_code == 403
    delete = reverse("admin:training_modelversion_delete", args=[champion.pk])
    assert client.post(delete, {"post": "yes"}).status_code == 403
    assert ModelVersion.objects.filter(pk=champion.pk).exists()
