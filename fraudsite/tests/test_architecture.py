"""Which packages may import which others. Tests are left out: they may import anything."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings
from django.urls import get_resolver, resolve

APPS = ("training", "scoring", "monitoring")
# Each app, and those whose code it must not know.
ABOVE = {"training": {"scoring", "monitoring"}, "scoring": {"monitoring"}, "monitoring": set()}
TENSORFLOW = {"tensorflow", "keras"}
# Libraries that train, score and read tables: each would cost every start of a process time and memory.
HEAVY = TENSORFLOW | {"numba", "xgboost", "lightgbm", "sklearn", "scipy", "pandas", "pyarrow", "matplotlib", "optuna"}
# As they stand in code: an import, or a call.
RUNS_WHEN_READ = {
    *(f"import {name}" for name in ("pickle", "joblib", "dill", "cloudpickle", "marshal", "shelve")),
    *("allow_pickle", "read_pickle", "load_model(", "model_from_json(", "eval(", "exec("),
}


def modules(*parts):
    """Name to path of the modules of an app, or of a package or module in it."""
    start = settings.BASE_DIR.joinpath(*parts)
    paths = start.rglob("*.py") if start.is_dir() else [start.with_suffix(".py")]
    found = {".".join(path.relative_to(settings.BASE_DIR).with_suffix("").parts): path for path in paths}
    found = {name.removesuffix(".__init__"): path for name, path in found.items() if ".tests" not in name}
    assert found
    return found


def imports(path: Path, *, at_import_only=False):
    """Dotted names that a module imports, `from a import b` as both a and a.b."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found = {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None, f"{path}: imports are absolute here"
            assert node.level == 0, f"{path}: imports are absolute here"
            found = {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        else:
            continue
        if not (at_import_only and node.col_offset):
            names |= found
    return names


def packages(names):
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("app", APPS)
def test_imports_point_one_way(app):
    wrong = {
        name: found
        for name, path in modules(app).items()
        if (found := packages(imports(path)) & (ABOVE[app] | {"fraudsite"}))
    }
    assert not wrong


def test_the_core_of_training_knows_neither_django_nor_the_app_around_it():
    outside = modules("training").keys() - modules("training", "core").keys() - {"training"}
    assert {"training.models", "training.registry", "training.admin"} <= outside
    wrong = {
        name: found
        for name, path in modules("training", "core").items()
        if (found := (imports(path) & outside) | (packages(imports(path)) & {"django", "celery", "rest_framework"}))
    }
    assert not wrong


def test_the_core_of_training_runs_where_django_is_not_installed():
    names = ", ".join(sorted(modules("training", "core")))
    script = f"import sys; sys.modules['django'] = None\nimport {names}"
    subprocess.run([sys.executable, "-c", script], cwd=settings.BASE_DIR, check=True)


# The rooms of scoring, from the ground up: a room imports those above it in this list, never those below.
ROOMS = ("messages", "worker", "tasks", "metrics", "gateway", "api")
PAGES = ("pages", "reviews", "clients", "admin")


@pytest.mark.parametrize("order", [ROOMS, PAGES], ids=["the way of a predict call", "the admin"])
def test_the_rooms_of_scoring_lean_one_way(order):
    wrong = {
        name: found
        for number, room in enumerate(order)
        for name, path in modules("scoring", room).items()
        if (found := {imported for imported in imports(path) if _room(imported) in order[number + 1 :]})
    }
    assert not wrong


def test_what_scores_and_what_travels_know_nothing_of_http_and_of_pages():
    outer = {"api", "gateway", "reviews", "clients", "pages", "admin"}
    wrong = {
        name: found
        for room in ("messages", "worker", "tasks")
        for name, path in modules("scoring", room).items()
        if (found := {imported for imported in imports(path) if _room(imported) in outer | {"rest_framework"}})
    }
    assert not wrong


# What scoring leans on: schemas, their files and features, the looks of card numbers, restored models, the register of
# versions, how numbers and the stages of long commands are shown, and the time that machines agree on; nothing that
# trains.
LEANS_ON = (
    "clock",
    "concurrently",
    "declarations",
    "core.card_numbers",
    "core.schema",
    "core.features",
    "core.families",
    "core.tokens",
    "core.figures",
    "core.exceptions",
    "core.drafts",
    "core.places",
    "core.exchange",
    "rates",
    "store",
    "core.datasets.snapshots",
    "core.datasets.storage",
    "core.stages",
    "registry",
    "retraining",
    "models",
)


def test_scoring_leans_on_schemas_features_and_the_register_and_not_on_training():
    allowed = tuple(f"training.{name}" for name in LEANS_ON)
    wrong = {
        name: found
        for name, path in modules("scoring").items()
        if (found := {imported for imported in imports(path) if _is_foreign(imported, allowed)})
    }
    assert not wrong


def _is_foreign(name, allowed):
    parents = {"training", "training.core", "training.core.datasets"}
    return packages([name]) == {"training"} and name not in parents and not name.startswith(allowed)


def _room(name):
    """Of `scoring.api.views` that is `api`; of a name outside of scoring its package."""
    package, _, rest = name.partition(".")
    return rest.partition(".")[0] if package == "scoring" else package


NETWORKS = "training.core.families.networks"


def _importing(wanted, **how):
    """The modules outside of `NETWORKS` that import something for which `wanted` is true."""
    return {
        name
        for app in (*APPS, "fraudsite")
        for name, path in modules(app).items()
        if not name.startswith(NETWORKS) and any(wanted(imported) for imported in imports(path, **how))
    }


def test_tensorflow_is_imported_in_one_package():
    assert not _importing(lambda imported: packages([imported]) & TENSORFLOW)
    assert any(packages(imports(path)) & TENSORFLOW for path in modules(*NETWORKS.split(".")).values())


def test_that_package_is_imported_late_by_everybody():
    assert not _importing(lambda imported: imported.startswith(NETWORKS), at_import_only=True)


def test_nothing_is_ever_read_that_could_run():
    """Pickles and their kin run code when they are read, and so may a serialised model."""
    wrong = {
        name: found
        for app in (*APPS, "fraudsite")
        for name, path in modules(app).items()
        for code in [ast.unparse(ast.parse(path.read_text()))]
        if (found := {word for word in RUNS_WHEN_READ if word in code})
    }
    assert not wrong


@pytest.mark.parametrize(
    "start",
    [
        "import fraudsite.wsgi, fraudsite.urls, fraudsite.celery",
        "from django.core.management import execute_from_command_line\n"
        "execute_from_command_line(['manage.py', 'migrate', '--verbosity', '0'])",
        "from django.core.management import execute_from_command_line\n"
        "execute_from_command_line(['manage.py', 'check'])",
    ],
    ids=["the web process", "migrate", "check"],
)
def test_it_starts_without_the_libraries_of_models_and_tables(tmp_path, start):
    environment = os.environ | {
        "DJANGO_SETTINGS_MODULE": "fraudsite.settings",
        "VAR_DIR": str(tmp_path),
        "DATABASE_URL": f"sqlite:///{tmp_path / 'fresh.sqlite3'}",
    }
    script = f"import sys\n{start}\nprint(sorted({HEAVY!r} & sys.modules.keys()))"
    run = subprocess.run(
        [sys.executable, "-c", script],
        cwd=settings.BASE_DIR,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    assert run.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("app", APPS)
def test_the_pages_of_an_app_link_to_no_app_above_it(app):
    def target(name):
        """The app that serves the address of this name."""
        if name.startswith("admin:"):
            return name.removeprefix("admin:").partition("_")[0]
        if ":" in name:  # another package's
            return name.partition(":")[0]
        [(bits, *_)] = get_resolver().reverse_dict.getlist(name)
        [(address, parameters)] = bits
        view = resolve("/" + address % dict.fromkeys(parameters, "1")).func
        return view.__module__.partition(".")[0]

    templates = list((settings.BASE_DIR / app / "templates").rglob("*.html"))
    assert templates
    linked = {name for path in templates for name in re.findall(r"{% url '([\w:-]+)'", path.read_text())}
    wrong = {name for name in linked if target(name) in ABOVE[app]}
    assert not wrong
