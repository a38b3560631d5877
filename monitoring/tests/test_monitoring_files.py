"""The dashboard and the alert rules that come with the product: Grafana and Prometheus take them, and what they ask for
exists."""

import json
import os
import re
import shutil
import subprocess

import pytest
import yaml
from django.conf import settings
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

RULES = settings.BASE_DIR / "monitoring" / "prometheus" / "alerts.yml"
TESTS = RULES.with_name("alerts_test.yml")
DASHBOARD = settings.BASE_DIR / "monitoring" / "grafana" / "fraudsite.json"
GRID_WIDTH = 24


def alerts():
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def panels():
    return json.loads(DASHBOARD.read_text())["panels"]


def queries():
    """What panels, variables and annotations ask Prometheus for."""
    return re.findall(r'"(?:expr|query)": "((?:[^"\\]|\\.)+)"', DASHBOARD.read_text())


def documented():
    """The series of each documented metric: a histogram has three."""
    page = (settings.BASE_DIR / "docs" / "observability.md").read_text()
    for name, kind in re.findall(r"^\| `(fraudsite_\w+)` \| (\w+) \|", page, re.MULTILINE):
        yield from (f"{name}_{part}" for part in ("bucket", "sum", "count")) if kind == "histogram" else [name]


def promtool(*arguments):
    program = shutil.which("promtool")
    if program is None and os.environ.get("CI") == "true":
        pytest.fail("CI has to try the rules with promtool, and there is none.")
    if program is None:
        pytest.skip("There is no promtool; Debian's package prometheus has it.")
    done = subprocess.run([program, *arguments], cwd=RULES.parent, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_takes_the_rules():
    promtool("check", "rules", RULES.name)


def test_the_rules_report_what_they_promise_and_nothing_else():
    promtool("test", "rules", TESTS.name)


def test_each_rule_is_seen_to_fire():
    fired = {
        case["alertname"]
        for test in yaml.safe_load(TESTS.read_text())["tests"]
        for case in test["alert_rule_test"]
        if case.get("exp_alerts")
    }
    assert fired == {rule["alert"] for rule in alerts()}


def test_each_alert_says_how_bad_it_is_and_what_happened():
    for rule in alerts():
        assert rule["labels"]["severity"] in ("critical", "warning"), rule["alert"]
        assert rule["annotations"]["summary"].endswith("."), rule["alert"]


def test_every_metric_that_the_files_name_is_one_of_ours():
    named = {
        name
        for text in (*(rule["expr"] for rule in alerts()), *queries())
        for name in re.findall(r"\bfraudsite_\w+", text)
    }
    assert len(named) > 30
    assert named <= set(documented())


def test_grafana_takes_the_dashboard_and_knows_every_field():
    """Grafana's own types read it and write the same again: a field that they do not know would be lost."""
    written = json.loads(DASHBOARD.read_text())
    assert differences(written, json.loads(json.dumps(Dashboard.from_json(written), cls=JSONEncoder))) == []


def differences(ours, theirs, path=""):
    """Where `theirs` lacks or changes something of `ours`. They may add what they take if nothing is said."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        lost = [f"{path}/{key}" for key in ours.keys() - theirs.keys()]
        return lost + [
            found
            for key in ours.keys() & theirs.keys()
            for found in differences(ours[key], theirs[key], f"{path}/{key}")
        ]
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        return [
            found
            for place, (a, b) in enumerate(zip(ours, theirs, strict=True))
            for found in differences(a, b, f"{path}/{place}")
        ]
    return [] if ours == theirs else [path]


def test_each_panel_has_a_number_of_its_own_and_a_place_of_its_own():
    assert len({panel["id"] for panel in panels()}) == len(panels())
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert place["x"] + place["w"] <= GRID_WIDTH
        assert not taken & cells, panel["title"]
        taken |= cells


def test_prometheus_can_read_each_query_of_the_dashboard(tmp_path):
    rules = []
    for number, query in enumerate(sorted(set(queries()) - {"prometheus"})):
        expression = json.loads(f'"{query}"').replace("$__rate_interval", "5m")
        if found := re.fullmatch(r"label_values\((.+), \w+\)", expression):
            expression = found[1]
        rules.append({"record": f"query{number}", "expr": expression})
    path = tmp_path / "queries.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    promtool("check", "rules", str(path))
