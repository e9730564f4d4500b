# Everything happens in .venv, which the first target that needs it makes. PYTHON=... chooses another interpreter.
.DEFAULT_GOAL := help
.PHONY: help run test test-oldest lint format bench bench-quick bench-peers deb clean
SHELL := /bin/sh
BIN := .venv/bin
DEMO := etc/demo/soniq.toml
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore

help: ## show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

run: .venv/.installed ## run the daemon in the foreground, on SQLite, with the demo jobs
	@cat etc/demo/welcome.txt
	@mkdir -p etc/demo/var && $(BIN)/soniqctl -c $(DEMO) setup
	@exec $(BIN)/soniqd -c $(DEMO)

test: lint ## install what the tests need, then check everything
	@.ci/install-postgres $(BIN)/python
	$(BIN)/pytest -n 4 --dist worksteal $(PYTEST_ARGS)

test-oldest: .venv/.oldest ## check the backends with the oldest releases of the libraries that pyproject.toml admits
	@.ci/install-postgres .venv/oldest/bin/python
	.venv/oldest/bin/pytest -n 4 --dist worksteal tests/backends $(PYTEST_ARGS)

lint: .venv/.developer ## check style, types, layers and spelling
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

format: .venv/.developer ## format the code, and fix what can be fixed safely
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: .venv/.installed ## measure for 15 minutes, beside peers if they are installed; report in build/bench
	@.ci/install-postgres $(BIN)/python
	$(BIN)/python -m tests.bench $(BENCH_ARGS)

bench-quick: .venv/.installed ## measure for two minutes
	@.ci/install-postgres $(BIN)/python
	$(BIN)/python -m tests.bench --quick $(BENCH_ARGS)

bench-peers: .venv/.installed ## install the peers to measure, in the user's cache folder
	$(BIN)/python -m tests.bench.peers

deb: .venv/.packager ## build the Debian package into dist/
	$(BIN)/python packaging/build.py

clean: ## remove what the other targets made
	rm -rf .venv build dist etc/demo/var .*_cache .coverage* soniqd.egg-info
	find soniqd tests etc -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps: a second call costs nothing until pyproject.toml changes.
.venv/.installed: pyproject.toml soniqd/version.py | .venv/.pip
	@echo 'installing soniqd into .venv ...'
	@$(BIN)/python -m pip install --quiet --editable .
	@touch $@

.venv/.developer: .venv/.installed
	@echo 'installing the tools of the developers into .venv ...'
	@$(BIN)/python -m pip install --quiet --group dev
	@touch $@

.venv/.packager: .venv/.installed
	@echo 'installing the tools that build packages into .venv ...'
	@$(BIN)/python -m pip install --quiet --group packaging
	@touch $@

# Of what is compiled, the oldest that is built for this Python. (Soniq, which the tests enqueue with, may want newer.)
BUILT := $(foreach package,psycopg-binary pydantic-core setproctitle uvloop,--only-binary $(package))
.venv/.oldest: .venv/.packager
	@echo 'installing soniqd and the oldest releases of what it needs into .venv/oldest ...'
	@$(BIN)/python -m venv --clear .venv/oldest
	@$(BIN)/uv pip install --quiet --python .venv/oldest/bin/python --resolution lowest-direct $(BUILT) --editable .
	@$(BIN)/uv pip install --quiet --python .venv/oldest/bin/python --group test
	@touch $@

# Dependency groups (PEP 735) need pip 25.1. An environment whose interpreter is gone is made anew.
$(shell $(BIN)/python -c '' 2>/dev/null || rm -f .venv/.pip .venv/.installed)
.venv/.pip:
	@python=$$(.ci/find-python) && echo "making .venv with $$python ..." && "$$python" -m venv --clear .venv
	@$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	@touch $@
