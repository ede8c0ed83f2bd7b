# Bare `make` prints the targets. Everything is kept below this folder: .venv, .venv-tools, .demo.
.DEFAULT_GOAL := help
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
TOOLS := .venv-tools
PIP := -m pip --disable-pip-version-check --quiet

.PHONY: help setup demo test check bench serve lock clean

help: ## print the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.ready $(TOOLS)/.ready ## make the environments (.venv and .venv-tools)

demo: setup ## run a mission on a small repository: no account, no model
	$(VENV)/bin/python -m deployments.demo

test: setup ## run all tests; what they need and lack is said
	$(VENV)/bin/python -m pytest $(PYTEST_ARGS)

check: setup ## formatting, lint, types, and the tests that need nothing else
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/python -m pytest tests/unit

bench: setup ## run the benchmarks; tables on the terminal, JSON in bench-results/
	$(VENV)/bin/python -m tests.benchmarks

serve: setup ## server, worker and deployments, so that missions start from the Prefect UI
	$(VENV)/bin/mission serve

lock: ## write requirements.lock anew (needs uv)
	uv pip compile --quiet --upgrade --generate-hashes --universal --python-version 3.11 \
	    --all-extras --no-header pyproject.toml -o requirements.lock
	printf 'mypy\npytest\nruff\n' | uv pip compile --quiet --generate-hashes --universal \
	    --python-version 3.11 --no-header -c requirements.lock - -o deployments/demo/tools.lock

clean: ## remove the environments and what the demo left
	rm -rf $(VENV) $(TOOLS) .demo build *.egg-info

# The scheduler's own environment. Its pip is the one that comes with Python: all hashes are checked.
$(VENV)/.ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "Python 3.11 or newer is needed; name one with: make PYTHON=python3.11"; exit 2; }
	@echo "making $(VENV) (about a minute) …"
	@$(PYTHON) -m venv $(VENV) || \
	    { echo "python3 cannot make virtual environments; on Debian: apt-get install python3-venv"; exit 2; }
	@$(VENV)/bin/python $(PIP) install --require-hashes -r requirements.lock
	@$(VENV)/bin/python $(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

# What the demo's target needs, and nothing of ours.
$(TOOLS)/.ready: deployments/demo/tools.lock
	@echo "making $(TOOLS) …"
	@$(PYTHON) -m venv $(TOOLS)
	@$(TOOLS)/bin/python $(PIP) install --require-hashes -r deployments/demo/tools.lock
	@touch $@
