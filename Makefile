# Everything runs in .venv, which is built anew only when pyproject.toml or constraints.txt change.
# Needs Python 3.11 or newer, make and git: `make PYTHON=python3.12 test` picks another Python.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq install --no-compile -c constraints.txt
DEMO := ds01-policy --config tests/replay/demo-config --replay tests/replay/demo
DEMO_CONTAINER ?= train

MAKEFLAGS += --no-print-directory
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help demo test lint bench lock clean python

help:
	@echo 'make demo   what it does, on a recorded host: no GPU, no Docker, no Prometheus needed'
	@echo 'make test   linters and every test; live tests skip where Docker or Prometheus is not installed'
	@echo 'make lint   linters only'
	@echo 'make bench  time and memory against a real Docker engine and a real Prometheus (minutes, as root)'
	@echo 'make lock   write constraints.txt anew from the newest versions that pyproject.toml allows'
	@echo 'make clean  delete .venv and every cache'

demo: .venv/runtime.stamp
	@echo '$$ $(DEMO) preview' && $(BIN)/$(DEMO) preview
	@echo && echo '$$ $(DEMO) explain $(DEMO_CONTAINER)' && $(BIN)/$(DEMO) explain $(DEMO_CONTAINER)
	@echo && echo '$$ $(DEMO) evaluate' && $(BIN)/$(DEMO) evaluate

# The quick ones first; pytest last, so that its summary is the last line. What needs no engine runs on every core.
test: lint
	@$(BIN)/ds01-policy --config config test
	@$(BIN)/python -m pytest -q --durations=5 -n auto --maxprocesses 4 --dist loadfile $(filter-out tests/live tests/bench,$(wildcard tests/*))
	@$(BIN)/python -m pytest -q --durations=5 tests/live

lint: .venv/test.stamp
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --check --quiet
	@$(BIN)/mypy

bench: .venv/test.stamp
	@$(BIN)/python tests/bench/bench.py $(BENCH)

lock: python
	@rm -rf .venv && $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip --disable-pip-version-check -qq install -e '.[test,apprise]'
	@sed -n '/^#/p' constraints.txt > .venv/lock
	@$(BIN)/python -m pip freeze --exclude-editable >> .venv/lock
	@mv .venv/lock constraints.txt

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

.venv/runtime.stamp: pyproject.toml constraints.txt
	@$(MAKE) python
	@echo 'building .venv ...' >&2
	@rm -rf .venv && $(PYTHON) -m venv .venv
	@$(PIP) -e .
	@touch $@

.venv/test.stamp: .venv/runtime.stamp
	@$(PIP) -e '.[test]'
	@touch $@

python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "This needs Python 3.11 or newer, and $(PYTHON) is %d.%d: make PYTHON=python3.12 ..." % sys.version_info[:2])'
