# Two commands do everything on a machine with Python and make: `make demo` and `make test`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
SHELL := /bin/bash

.DEFAULT_GOAL := help
.PHONY: help demo test lint unit bench clean

help:
	@echo "make demo   install into $(VENV) and run the main job on embedded tasks"
	@echo "make test   install what the tests need and run all of them"
	@echo "make unit   only the tests that need no Ray, browser or container and take seconds"
	@echo "make lint   ruff, mypy --strict, import-linter"
	@echo "make bench  run the benchmarks; results under benchmarks/results/"
	@echo "make clean  remove virtual environments and build output"

$(VENV)/made:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' \
	  || { echo "turnwise needs Python 3.10 to 3.13, got: $$($(PYTHON) --version 2>&1). Set PYTHON=..."; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "cannot make a virtual environment: on Debian, apt-get install python3-venv"; exit 1; }
	@touch $@

# A stamp per set of dependencies, so that a second run installs nothing.
$(VENV)/demo: $(VENV)/made pyproject.toml constraints.txt
	@echo "installing turnwise[ray] into $(VENV) ..."
	@$(PIP) --editable '.[ray]'
	@touch $@

$(VENV)/dev: $(VENV)/demo
	@echo "installing what the tests and linters need ..."
	@$(PIP) --editable '.[ray,torch,search,llm,dev]'
	@touch $@

# One run per world, with an outcome gate, information gain and citation rubrics on every turn.
demo: $(VENV)/demo
	@runs=runs/demo-$$(date +%Y%m%d-%H%M%S) && \
	$(BIN)/turnwise rollout --env turnwise/Household-v0 --tasks train:32 --group 4 --agent noisy-expert:0.5 \
	  --rewards configs/household.yaml --max-turns 15 --workers 2 --seed 0 --out $$runs/household && \
	$(BIN)/turnwise show $$runs/household --one && \
	$(BIN)/turnwise rollout --env turnwise/SearchQA-v0 --tasks train:32 --group 4 --agent noisy-expert:0.3 \
	  --rewards configs/searchqa.yaml --max-turns 20 --workers 2 --seed 0 --out $$runs/searchqa && \
	$(BIN)/turnwise show $$runs/searchqa --one && \
	echo "stored runs: $$runs/household $$runs/searchqa"

test: $(VENV)/dev
	@$(BIN)/python -m pytest

unit: $(VENV)/dev
	@$(BIN)/python -m pytest -m "not ray and not docker and not browser and not slow"

# mypy and import-linter look at the installed package: the tree's folders carry other names.
lint: $(VENV)/dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@rm -rf .cache/installed build && $(PIP) --no-deps --target .cache/installed . && rm -rf build
	@MYPYPATH=.cache/installed $(BIN)/mypy --strict -p turnwise
	@PYTHONPATH=.cache/installed $(BIN)/lint-imports --config pyproject.toml

bench: $(VENV)/dev
	@for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

clean:
	rm -rf .venv .venv-* .cache build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
