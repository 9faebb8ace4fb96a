# Everything a developer types. `make demo` and `make test` work on a fresh machine
# that has Python 3.11 or newer; both make the virtual environment first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN_STAMP := $(VENV)/.run-installed
DEV_STAMP := $(VENV)/.dev-installed
OUT ?= demo-out
BENCHMARKS := sampler bank_io many tau ncm train_overhead lws compare crt
BENCH ?=
# pytest and make fail where standard output or error is closed. Then what they would print there
# is thrown away, and nothing is printed by make itself.
OPEN := (true 3>&2) || exec 2> /dev/null; (true 3>&1) 2> /dev/null || exec > /dev/null;

.PHONY: help demo test test-all check lint types wheel docs bench coverage changelog clean
help:
	@echo "make demo      train, bank, fit every head and print the table, in $(OUT)/ (about a minute)"
	@echo "make test      the tests"
	@echo "make test-all  the tests, slow ones too"
	@echo "make check     format, lint, types, wheel contents, docs, tests: what CI runs"
	@echo "make docs      the documentation as a site, in build/site/"
	@echo "make bench     the benchmarks, beside their peers (about five minutes on two free cores)"
	@echo "make coverage  the tests, and the lines that none of them runs"
	@echo "make changelog the files in changes/ into CHANGELOG.md, under pyproject's version"

$(VENV)/pyvenv.cfg:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "featbank needs Python 3.11 or newer; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)

$(RUN_STAMP): $(VENV)/pyvenv.cfg pyproject.toml constraints.txt
	@echo "installing featbank and its dependencies into $(VENV) (a few GB, some minutes the first time)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	@touch $@

$(DEV_STAMP): $(RUN_STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(RUN_STAMP)
	$(BIN)/featbank demo --out $(OUT) --overwrite

test: $(DEV_STAMP)
	@$(OPEN) $(BIN)/python -m pytest -q -m "not slow" -n 2 --dist worksteal

test-all: $(DEV_STAMP)
	@$(OPEN) $(BIN)/python -m pytest -q

check: lint types wheel docs test

lint: $(DEV_STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(DEV_STAMP)
	$(BIN)/mypy

wheel: $(DEV_STAMP)
	$(BIN)/python -m build --wheel --outdir build/wheel . > /dev/null
	$(BIN)/python tests/check_wheel.py build/wheel/*.whl

# A broken link, anchor or reference fails. Nothing is loaded from elsewhere.
docs: $(DEV_STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "open build/site/index.html"

# In the order of how long they take. Each stops make where a result is wrong; its table is printed
# and kept. --full measures the sizes of published data sets, as docs/notes/benchmarks.md has them.
bench: $(DEV_STAMP)
	set -e; for name in $(BENCHMARKS); do $(BIN)/python -m benchmarks.$$name $(BENCH) --out build/bench/$$name.md; done

# Lines that no test runs. docs/notes/coverage.md says which are meant to be there.
coverage: $(DEV_STAMP)
	@$(OPEN) $(BIN)/python -m pytest -q -m "not slow" -n 2 --dist worksteal --cov

# To be run once for a version, after it was raised in pyproject.toml.
changelog: $(DEV_STAMP)
	$(BIN)/python -m towncrier build --yes

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache $(OUT)
