# Everything runs in .venv, which is built anew only when pyproject.toml or constraints.txt change.
# Needs Python 3.11 or newer, make and git: `make PYTHON=python3.12 test` picks another Python.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq install --no-compile -c constraints.txt
DEMO := ds01-policy --config tests/replay/demo-config --replay tests/replay/demo
DEMO_CONTAINER ?= train

# Of `make install`. INSTALL: options for `ds01-policy install`. EXTRAS: [apprise], for messages by mail and chat.
PREFIX ?= /opt/ds01-policy
INSTALL ?=
EXTRAS ?=
QUIET := -m pip --disable-pip-version-check -qq
WHICH := -c 'import sys; print(sys.version_info[:2])'
LOCK := /var/lib/ds01-policy/lock

MAKEFLAGS += --no-print-directory
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help demo test lint bench lock clean install uninstall python

help:
	@echo 'make demo       what it does, on a recorded host: no GPU, no Docker, no Prometheus needed'
	@echo 'make test       linters and every test; live tests skip where Docker or Prometheus is not installed'
	@echo 'make lint       linters only'
	@echo 'make bench      time and memory against a real Docker engine and a real Prometheus (minutes, as root)'
	@echo 'make install    put it on this host, or upgrade it, as root: PREFIX=/opt/ds01-policy, then `ds01-policy install`'
	@echo 'make uninstall  take it off this host again; policy and state stay'
	@echo 'make lock       write constraints.txt anew from the newest versions that pyproject.toml allows'
	@echo 'make clean      delete .venv and every cache'

demo: .venv/runtime.stamp
	@echo '$$ $(DEMO) preview' && $(BIN)/$(DEMO) preview
	@echo && echo '$$ $(DEMO) explain $(DEMO_CONTAINER)' && $(BIN)/$(DEMO) explain $(DEMO_CONTAINER)
	@echo && echo '$$ $(DEMO) evaluate' && $(BIN)/$(DEMO) evaluate

# The quick ones first; pytest last, so that its summary is the last line. Many tests wait more than they work, so three
# run at once, live ones each with an engine of its own.
test: lint
	@$(BIN)/ds01-policy --config config test
	@$(BIN)/python -m pytest -q --durations=5 -n 3 --dist loadfile $(filter-out tests/live tests/bench,$(wildcard tests/*))
	@$(BIN)/python -m pytest -q --durations=5 -n 3 --dist loadgroup tests/live

lint: .venv/test.stamp
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --check --quiet
	@$(BIN)/mypy

bench: .venv/test.stamp
	@$(BIN)/python tests/bench/bench.py $(BENCH)

# Everything is downloaded and built before the old program is touched. Then pip exchanges it in seconds, with the lock of
# the ticks: none that is at work finds half of each version, and one that begins meanwhile ends with exit code 5.
install: python
	@[ "$$(id -u)" = 0 ] || { echo 'this needs root: sudo make install' >&2; exit 1; }
	@[ -f '$(PREFIX)/pyvenv.cfg' ] || [ -z "$$(ls -A '$(PREFIX)' 2>/dev/null)" ] || { \
	  echo '$(PREFIX) holds something else: choose another PREFIX, or move it away' >&2; exit 1; }
	@set -e; umask 022; new=$$(mktemp -d); trap 'rm -rf "$$new"' EXIT; echo 'building ...' >&2; \
	$(PYTHON) -m venv "$$new/venv"; \
	"$$new/venv/bin/python" $(QUIET) wheel --no-cache-dir -c constraints.txt -w "$$new" '.$(EXTRAS)'; \
	if [ -f '$(PREFIX)/pyvenv.cfg' ] && [ -f $(LOCK) ]; then \
	  flock -n $(LOCK) true || echo 'a tick is at work: waiting until it has ended ...' >&2; \
	  exec 9<$(LOCK); flock -w 960 9; \
	fi; \
	[ "$$('$(PREFIX)/bin/python' $(WHICH) 2>/dev/null)" = "$$($(PYTHON) $(WHICH))" ] || $(PYTHON) -m venv --clear '$(PREFIX)'; \
	'$(PREFIX)/bin/python' $(QUIET) install --no-index --find-links "$$new" --upgrade 'ds01-policy$(EXTRAS)'; \
	'$(PREFIX)/bin/python' $(QUIET) install --no-index --no-deps --force-reinstall "$$new"/ds01_policy-*.whl
	@'$(PREFIX)/bin/ds01-policy' install $(INSTALL)

uninstall:
	@[ -f '$(PREFIX)/pyvenv.cfg' ] || { echo 'there is no environment in $(PREFIX): see PREFIX' >&2; exit 1; }
	@'$(PREFIX)/bin/ds01-policy' uninstall $(INSTALL)
	@$(if $(findstring --dry-run,$(INSTALL)),:,rm -rf '$(PREFIX)' && echo 'removed $(PREFIX)')

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
