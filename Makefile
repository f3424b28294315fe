# `make help` lists what there is. Every target sets up what it needs on a machine with Python 3.11 or newer.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
UV := $(shell command -v uv)
VENV := .venv
BIN := $(VENV)/bin
DEMO := --ledger ./demo-ledger
ARGS ?=

# What the tests find their servers and sample data by. A test whose server is missing skips and says so.
export AZURITE ?= $(CURDIR)/.ci/tools/node_modules/.bin/azurite-blob
export FOCUS_VALIDATOR ?= $(CURDIR)/.venv-focus-validator/bin/focus-validator
export GPULEDGER_SHARED ?= $(abspath $(CURDIR)/../shared)

# Each lock other than runtime and dev belongs to one tool, which gets an environment of its own.
TOOL_LOCKS := $(filter-out requirements/runtime.txt requirements/dev.txt,$(wildcard requirements/*.txt))
TOOLS := $(TOOL_LOCKS:requirements/%.txt=.venv-%/.installed)
AZURITE_VERSION := 3.35.0

.DEFAULT_GOAL := help
.PHONY: help run test lint format bench servers lock clean

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1|/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "make %-9s %s\n", $$1, $$2}'

run: $(VENV)/.installed ## set up, make a synthetic company, build its ledger, print the report
	$(BIN)/gpuledger $(DEMO) demo
	$(BIN)/gpuledger $(DEMO) build
	$(BIN)/gpuledger $(DEMO) report

test: $(VENV)/.installed ## all tests that can run here (ARGS='-k name' for some); `make servers` first for all of them
	$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/.installed ## ruff, format, types and layers; runs all four before it fails
	@failed=0; \
	for check in "ruff check" "ruff format --check" "mypy" "lint-imports --no-logo"; do \
		echo "== $$check"; $(BIN)/$$check || failed=1; \
	done; exit $$failed

format: $(VENV)/.installed ## format, and mend what ruff can
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

bench: $(VENV)/.installed ## every benchmark, one after another (ARGS=name for one)
	$(BIN)/python -m benchmarks $(ARGS)

servers: .ci/tools/.azurite-$(AZURITE_VERSION) $(TOOLS) ## what the full test suite talks to: azurite (npm) and the tools of requirements/*.txt

lock: ## renew requirements/*.txt (needs uv; ARGS=--upgrade for newer versions)
	@test -n "$(UV)" || { echo "Hint: pip install uv" >&2; exit 1; }
	@$(call compile,runtime) pyproject.toml
	@$(call compile,dev) pyproject.toml --extra bigquery --group dev --constraint requirements/runtime.txt
	@for input in $(wildcard requirements/*.in); do \
		$(call compile,$$(basename $$input .in)) $$input || exit 1; \
	done

compile = $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-emit-find-links --custom-compile-command "make lock" $(ARGS) --output-file requirements/$(1).txt

clean: ## remove environments, tools, caches and the demo
	rm -rf .venv .venv-* .ci/tools demo-ledger build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

# $(1) is the environment, $(2) its lock.
define create
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Hint: gpuledger needs Python 3.11 or newer; say which: make PYTHON=/path/to/python3")'
	rm -rf $(1)
	$(if $(UV),$(UV) venv --quiet --python $(PYTHON) $(1),$(PYTHON) -m venv $(1))
	$(if $(UV),$(UV) pip install --quiet --python $(1)/bin/python,$(1)/bin/python -m pip install --quiet --disable-pip-version-check) \
		--require-hashes --requirement $(2)
endef

$(VENV)/.installed: requirements/dev.txt pyproject.toml
	$(call create,$(VENV),requirements/dev.txt)
	$(if $(UV),$(UV) pip install --quiet --python $(BIN)/python,$(BIN)/python -m pip install --quiet --disable-pip-version-check) \
		--no-deps --no-build-isolation --editable .
	@touch $@

.venv-%/.installed: requirements/%.txt
	$(call create,.venv-$*,requirements/$*.txt)
	@touch $@

.ci/tools/.azurite-$(AZURITE_VERSION):
	@command -v npm >/dev/null || { echo "Hint: azurite needs Node.js and npm" >&2; exit 1; }
	rm -rf .ci/tools && mkdir -p .ci/tools
	npm install --prefix .ci/tools --silent --no-audit --no-fund --no-save --ignore-scripts azurite@$(AZURITE_VERSION)
	@touch $@
