# Two commands do everything on a machine with Python and make: `make demo` and `make test`.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
SHELL := /bin/bash

.DEFAULT_GOAL := help
.PHONY: help demo test lint unit bench browser trainers clean

help:
	@echo "make demo   install into $(VENV) and run the main job on embedded tasks"
	@echo "make test   install what the tests need and run all of them"
	@echo "make unit   only the tests that need no Ray, browser or container and take seconds"
	@echo "make lint   ruff, mypy --strict, import-linter"
	@echo "make browser  install Chromium where there is none (make test does)"
	@echo "make trainers  test the adapters against the real trainers, each in an environment of its own (minutes, 10 GB)"
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
	@$(PIP) --editable '.[ray,serve,torch,search,llm,browser,dev]'
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

test: $(VENV)/dev browser
	@$(BIN)/python -m pytest

# A real Chromium for the browser worlds: the one that is there, else Debian's (as root, or by sudo).
browser: $(VENV)/dev
	@$(BIN)/python -c 'from turnwise.envs.browser.chromium import find_chromium; find_chromium()' 2>/dev/null \
	  || { echo "installing Chromium ..."; as=; [ "$$(id -u)" = 0 ] || as=sudo; \
	       $$as apt-get update -qq && $$as env DEBIAN_FRONTEND=noninteractive \
	         apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core > /dev/null; } \
	  || { echo "cannot install Chromium: install it yourself, or set TURNWISE_CHROMIUM to its path"; exit 1; }

unit: $(VENV)/dev
	@$(BIN)/python -m pytest -m "not ray and not docker and not browser and not slow"

# Their versions conflict, so each has an environment under .venv-trainers/.
trainers: $(VENV)/made
	@$(BIN)/python tests/rollout/trainers/real/run.py

# mypy and import-linter look at the installed package: the tree's folders carry other names.
lint: $(VENV)/dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@rm -rf .cache/installed build && $(PIP) --no-deps --target .cache/installed . && rm -rf build
	@MYPYPATH=.cache/installed $(BIN)/mypy --strict -p turnwise
	@PYTHONPATH=.cache/installed $(BIN)/lint-imports --config pyproject.toml

bench: $(VENV)/dev
	@for script in $$(grep -l __main__ benchmarks/*.py | grep -v -e _player -e _side); do echo "== $$script"; $(BIN)/python $$script || exit 1; done

clean:
	rm -rf .venv .venv-* .cache build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
