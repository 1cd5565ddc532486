VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
RUNS ?= runs

# Containers may set it. Every test process would then compile the package again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test check lint types contracts docs fault-injection torture setup wheel clean help
.DEFAULT_GOAL := help

help: ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

demo: $(VENV)/.ready ## Train a small GPT for about a minute and print the next commands
	@$(BIN)/ockham --runs $(RUNS) train --size demo --policy balanced --run demo-$$(date -u +%Y%m%d-%H%M%S)

# Three workers on two cores: each waits for subprocesses part of its time.
test: $(VENV)/.ready-dev ## Run the tests
	@$(BIN)/python -m pytest -n 3 --dist loadfile

check: lint types contracts test ## Run everything that CI runs

lint: $(VENV)/.ready-dev ## Check code style and formatting
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: $(VENV)/.ready-dev ## Check types
	@$(BIN)/mypy

contracts: $(VENV)/.ready-dev ## Check the layers of imports
	@$(BIN)/lint-imports --no-logo

docs: $(VENV)/.ready-docs ## Build the documentation site in build/site
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

fault-injection: $(VENV)/.ready-dev ## Run long fault injection: system calls, bytes, power loss, kill -9
	@$(BIN)/python -m pytest -m fault_injection --timeout 3600
	@OCKHAM_TEST_EXAMPLES=10 $(BIN)/python -m pytest tests/oracle tests/attacks tests/catalog/test_refresh.py \
		tests/record/parquet/test_sidecars.py tests/cli/test_damaged_files.py --timeout 3600

# Earlier name of the target above.
torture: fault-injection

wheel: ## Build dist/*.whl without installing PyTorch
	@$(PYTHON) -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .

setup: $(VENV)/.ready-dev ## Create the environment only

$(VENV)/.ready: pyproject.toml .ci/setup
	@PYTHON=$(PYTHON) .ci/setup $(VENV)
	@touch $@

# The test dependencies (Spark, an S3 server, a browser driver) are most of the download. The demo does not need them.
$(VENV)/.ready-dev: $(VENV)/.ready
	@PYTHON=$(PYTHON) .ci/setup $(VENV) --group dev
	@touch $@

$(VENV)/.ready-docs: $(VENV)/.ready
	@PYTHON=$(PYTHON) .ci/setup $(VENV) --group docs
	@touch $@

clean: ## Remove the environment and caches; runs remain
	@rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis
