# Each target does all its own set-up on a fresh machine: Python 3.11 or newer is all it wants.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
RUNS ?= runs

# A container may set it; each process of the tests would then compile the package anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test check lint types contracts torture setup wheel clean help
.DEFAULT_GOAL := help

help: ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(VENV)/.ready ## train a small GPT under the chain for about a minute and ask its log
	@$(BIN)/ockham --runs $(RUNS) train --size demo --policy balanced --run demo-$$(date -u +%Y%m%d-%H%M%S)

# Three workers on two cores: each waits a sixth of its time for processes.
test: $(VENV)/.ready-dev ## the tests
	@$(BIN)/python -m pytest -n 3 --dist loadfile

check: lint types contracts test ## everything that must hold before a commit lands

lint: $(VENV)/.ready-dev
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: $(VENV)/.ready-dev
	@$(BIN)/mypy

contracts: $(VENV)/.ready-dev
	@$(BIN)/lint-imports --no-logo

torture: $(VENV)/.ready-dev ## long fault injection: every system call, every byte, power loss, kill -9
	@$(BIN)/python -m pytest -m torture --timeout 3600

wheel: $(VENV)/.ready ## dist/*.whl
	@$(BIN)/uv build --wheel --out-dir dist --no-build-logs

setup: $(VENV)/.ready-dev ## the environment alone

$(VENV)/.ready: pyproject.toml .ci/setup
	@PYTHON=$(PYTHON) .ci/setup $(VENV)
	@touch $@

# What only the tests need (Spark, an S3 server, a browser's driver) is most of the download, and no part of the demo's.
$(VENV)/.ready-dev: $(VENV)/.ready
	@PYTHON=$(PYTHON) .ci/setup $(VENV) --group dev
	@touch $@

clean: ## remove the environment and caches; runs stay
	@rm -rf $(VENV) dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
