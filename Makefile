# `make` lists the targets. All of them need Python 3.11-3.13, make and the package registries, nothing else.
.DEFAULT_GOAL := help
SHELL := /bin/sh

PYTHON ?= python3
VENV := .venv
EMULATOR := .venv-emulator
BIN := $(VENV)/bin
PIP := bin/python -m pip install --quiet --disable-pip-version-check --require-hashes

# A stamp is named after what it was made from, so that nothing is installed twice and nothing goes stale.
digest = $(shell { $(PYTHON) -V; cat $(1); } 2>&1 | cksum | tr ' ' '-')
READY := $(VENV)/ready-$(call digest,requirements-dev.txt pyproject.toml)
EMULATOR_READY := $(EMULATOR)/ready-$(call digest,requirements-emulator.txt)

# $(call environment,DIR): a virtual environment of the very Python that is asked for.
define environment
@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
	|| { echo 'Panelgate needs Python 3.11, 3.12 or 3.13: make PYTHON=python3.12 …' >&2; exit 1; }
@[ "$$($(1)/bin/python -V 2>&1)" = "$$($(PYTHON) -V)" ] || $(PYTHON) -m venv --clear $(1)
@rm -f $(1)/ready-*
endef

BROWSER := chromium chromedriver
# Whoever is not root asks for it.
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo -n)

.PHONY: help setup setup-browser run test test-faults check audit fix bench package clean lock test-aws

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install everything into .venv and .venv-emulator (does nothing when nothing changed)
	@$(MAKE) --no-print-directory -j2 $(READY) $(EMULATOR_READY)

$(READY):
	@echo 'Setting up $(VENV): the gateway, its command line and the tools (a minute or two, once) …'
	$(call environment,$(VENV))
	@$(VENV)/$(PIP) --requirement requirements-dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(EMULATOR_READY):
	@echo 'Setting up $(EMULATOR): the emulated AWS …'
	$(call environment,$(EMULATOR))
	@$(EMULATOR)/$(PIP) --requirement requirements-emulator.txt
	@touch $@

setup-browser: ## install Chromium and its driver, for the test of a page in a browser, where they are missing (apt)
	@for name in $(BROWSER); do command -v "$$name" >/dev/null || { \
		echo 'Setting up Chromium and its driver …'; \
		$(SUDO) apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive $(SUDO) apt-get install -qq --yes --no-install-recommends chromium chromium-driver; \
		exit; \
	}; done

run: setup ## run the whole system on this machine, until Ctrl-C
	@$(BIN)/panelgate local up

test: setup check ## check, then every test, the deployed ones against a local system of their own
	@$(MAKE) --no-print-directory setup-browser || echo 'No browser could be installed: its tests are left out.'
	$(BIN)/pytest -n 2 -m 'not deployed'
	$(BIN)/pytest -m deployed

test-faults: setup ## the whole of what `make test` takes a sample of: every fault at every call, 10,000 orders (an hour)
	PANELGATE_FAULTS=all PANELGATE_STORM=10000 $(BIN)/pytest -n 2 \
		tests/gateway/test_storm.py tests/gateway/test_faults.py tests/gateway/test_machines.py

test-aws: setup ## the deployed tests against a real stack: make test-aws STAGE=dev
	@[ -n '$(STAGE)' ] || { echo 'Say which stage: make test-aws STAGE=dev' >&2; exit 2; }
	PANELGATE_STAGE='$(STAGE)' $(BIN)/pytest -m deployed

check: setup ## linters, types, architecture, templates
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/cfn-lint infra/data.yaml $$($(BIN)/panelgate package --json | $(BIN)/python -c "import json, sys; print(json.load(sys.stdin)['template'])")

audit: setup ## look for known vulnerabilities in what is deployed (asks the advisory database)
	$(BIN)/pip-audit --strict --require-hashes --disable-pip --requirement requirements.txt

fix: setup ## format, and repair what ruff can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: setup ## measure
	@$(BIN)/python -m benchmarks

package: setup ## build what `panelgate deploy` uploads, under .build/
	@$(BIN)/panelgate package

lock: setup ## compile the pinned, hashed requirements anew
	for name in requirements requirements-dev requirements-emulator; do \
		$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --upgrade \
			$$name.in --output-file $$name.txt || exit 1; \
	done

clean: ## remove everything that was made here (not the state of the local system: `panelgate local down --erase`)
	rm -rf $(VENV) $(EMULATOR) .build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis *.egg-info
	find app.py chalicelib cli sandbox tests benchmarks -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
