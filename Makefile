# `make demo` and `make test` each do the set-up they need: a virtual environment in .venv, pinned by
# constraints.txt, and for the tests what they need beside. Needs Python 3.11 or newer;
# PYTHON=/path/to/python names one.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

BIN := .venv/bin
RUNS := .venv/runs
READY := .venv/ready
DOCS_READY := .venv/docs-ready
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3.14 python3 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)

.PHONY: help setup demo test lint format fast torture readme docs clean

help:
	@echo 'make demo    the main job on the embedded model and data'
	@echo 'make test    lint and all tests'
	@echo 'make fast    the tests that take seconds'
	@echo 'make torture kills, full disks, crowds: half an hour on two cores'
	@echo 'make readme  the commands of the README, in its order, from an empty folder'
	@echo 'make lint    formatting, style and types'
	@echo 'make format  put the formatting right'
	@echo 'make docs    the documentation site, in site/'
	@echo 'make setup   only the virtual environment in .venv, with what the tests need'

setup: $(READY)

# Made anew when what is to be installed changes; the code itself is installed editable.
$(RUNS): pyproject.toml constraints.txt
	@if [ -z "$(PYTHON)" ]; then echo 'No Python >= 3.11 found; try make PYTHON=/path/to/python' >&2; exit 2; fi
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade -c constraints.txt pip setuptools
	@echo 'Installing myosotis and what it runs on (some minutes, nothing is written meanwhile)'
	$(BIN)/python -m pip install --quiet --no-build-isolation -c constraints.txt -e .
	touch $@

# What the tests need beside the rest: linters, a browser, other sweepers.
$(READY): $(RUNS)
	@echo 'Installing what the tests need (some minutes, nothing is written meanwhile)'
	$(BIN)/python -m pip install --quiet --no-build-isolation -c constraints.txt -e '.[dev]'
	touch $@

demo: $(RUNS)
	$(BIN)/myosotis demo

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright

format: $(READY)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# Most of a test's time is one process on one core: a worker a core, each with one thread.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

fast: $(READY)
	$(BIN)/python -m pytest -m 'not slow and not gpu' -x

# Not part of CI: a hundred kills take half an hour.
torture: $(READY)
	$(BIN)/python bench/torture.py

readme: $(READY)
	$(BIN)/python bench/readme.py

# What the site needs beside the rest is installed when it is first built.
$(DOCS_READY): $(READY)
	$(BIN)/python -m pip install --quiet --no-build-isolation -c constraints.txt -e '.[docs]'
	touch $@

# A broken link, a missing page or a stale generated page is an error.
docs: $(DOCS_READY)
	$(BIN)/python docs/generate.py --check
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

clean:
	rm -rf .venv build dist site src/*.egg-info .pytest_cache .ruff_cache .hypothesis
