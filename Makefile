# `make demo` and `make test` need nothing but Python 3.11 and make; everything lands in .venv/ and var/.
PYTHON ?= python3.11
BIN := .venv/bin
COMPILE := $(BIN)/uv pip compile --quiet --universal --no-annotate --no-header --python-version 3.11
# The three platforms are the whole world here, so a marker that names all of them says nothing.
SIMPLIFY := sed -E -i.bak \
	-e "s/ ; python_full_version < '3.12' and \(\(platform_machine == 'arm64' and sys_platform == 'darwin'\) or \(platform_machine == 'aarch64' and sys_platform == 'linux'\) or \(platform_machine == 'x86_64' and sys_platform == 'linux'\)\)//" \
	-e "s/python_full_version < '3.12' and //"

.PHONY: demo test mutants lint format benchmarks requirements clean

demo: .venv/runtime
	PYTHONUNBUFFERED=1 $(BIN)/python manage.py demo $(ARGS)

test: .venv/dev
	$(BIN)/python -m fraudsite.tests $(ARGS)

# Which small faults does no test notice? Hours, so not in CI; see fraudsite/tests/mutants.py.
mutants: .venv/dev
	$(BIN)/python -m fraudsite.tests.mutants $(MODULE) $(ARGS)

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy .

format: .venv/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

benchmarks: .venv/benchmarks
	$(BIN)/python -m benchmarks.realtime
	$(BIN)/python -m benchmarks.batch
	$(BIN)/python -m benchmarks.growth
	$(BIN)/python -m benchmarks.velocity_online

requirements: .venv/dev
	$(COMPILE) pyproject.toml -o requirements.txt
	$(COMPILE) --group dev -c requirements.txt -o requirements-dev.txt
	$(SIMPLIFY) requirements.txt requirements-dev.txt
	rm requirements.txt.bak requirements-dev.txt.bak

clean:
	rm -rf .venv var

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
		{ echo "Python 3.11 is needed; where it has another name: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }

.venv/runtime: requirements.txt clients/python/pyproject.toml | .venv/bin/python
	@echo "Installing the pinned packages into .venv, once: some minutes, the longest of them silent."
	$(BIN)/python -m pip install --disable-pip-version-check --requirement requirements.txt
	$(BIN)/python -m pip install --disable-pip-version-check --no-deps --editable clients/python
	touch $@

.venv/dev: requirements-dev.txt .venv/runtime
	$(BIN)/python -m pip install --disable-pip-version-check --requirement requirements-dev.txt
	touch $@

.venv/benchmarks: benchmarks/requirements.txt .venv/dev
	$(BIN)/python -m pip install --disable-pip-version-check --requirement benchmarks/requirements.txt
	touch $@
