# Two commands on a fresh machine do everything: `make quickstart` and `make test`.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
ROOMS := records search_spaces hardware_profiles supernet deployment latency_models predictors strategies experiments
OUT ?= runs/quickstart

.PHONY: quickstart test test-slow postgres lint bench bench-long clean

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV) || python3 -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade "pip>=24"
	$(BIN)/pip install --quiet -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/pip install --quiet -e ".[dev]"
	touch $@

quickstart: $(VENV)/.installed  ## the main job on the embedded dataset, into $(OUT); goes on if it was interrupted
	$(BIN)/python -m experiments.quickstart --out $(OUT) $(if $(wildcard $(OUT)/run.json),--resume)

lint: $(VENV)/.installed-dev  ## style, types and import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint  ## lint, types, import rules, tests, coverage
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --cov --cov-report=term:skip-covered --cov-fail-under=85

test-slow: $(VENV)/.installed-dev postgres  ## the tests that take minutes, with a real PostgreSQL
	$(BIN)/pytest -m slow

postgres:  ## installs the server for the tests where it is missing and can be (Debian, root)
	@command -v initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || \
	{ test "$$(id -u)" = 0 && command -v apt-get >/dev/null && apt-get update -qq && \
	DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends postgresql; } || \
	echo "PostgreSQL is not installed and cannot be by this user: its tests are skipped"

bench: $(VENV)/.installed-dev  ## the figures of docs/benchmarks.md but the long ones
	$(BIN)/python -m experiments.benchmarks

bench-long: $(VENV)/.installed-dev  ## those that train for hours; continues where it was interrupted
	$(BIN)/python -m experiments.benchmarks --long

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
