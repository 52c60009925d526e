# make notebook             the quick profile, really trained, into figures/quick/
# make notebook PROFILE=full  the full run, in place
# make figures              every committed figure anew, from the logs, without torch
# make test                 style and tests
PYTHON ?= python3
PROFILE ?= quick
BIN := .venv/bin

.PHONY: notebook figures test schema readme benchmark

notebook: .venv/ready
	$(BIN)/python -m helpers.analysis.notebook --profile $(PROFILE)

figures: .venv/ready
	$(BIN)/python -m helpers.analysis.notebook --figures

test: .venv/ready-for-tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest

# The schema and the tables of documents are generated; a test tells when they are stale.
schema: .venv/ready
	$(BIN)/python -m helpers.config

readme: .venv/ready
	$(BIN)/python -m helpers.analysis.notebook --readme

benchmark: .venv/ready
	$(BIN)/python -m benchmarks.training_step
	$(BIN)/python -m benchmarks.distill_step
	$(BIN)/python -m benchmarks.engine
	$(BIN)/python -m benchmarks.small_work
	$(BIN)/python -m benchmarks.reconstruct

.venv/ready: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "expected Python 3.11 or newer, found $$($(PYTHON) --version); name another: make PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv .venv
	@echo "Installing requirements (torch is large; a few minutes the first time) …"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

.venv/ready-for-tests: .venv/ready tests/requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r tests/requirements.txt
	@touch $@
