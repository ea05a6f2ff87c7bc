# Each target installs what it needs (scripts/bootstrap.sh) and then runs; a second run starts at once.
#   VENV=folder     where the virtual environment lies          PYTHON=python3.12   which interpreter makes it
#   DOC=file.ofd    the document that `make demo` seals         UPGRADE=1           newest releases for `make requirements`
VENV ?= .venv
BIN := $(VENV)/bin
SOURCES := agent drivers scripts tests
export DOC DRIVER PYTHON UPGRADE
MAKEFLAGS += --no-print-directory

.DEFAULT_GOAL := help
.PHONY: help setup demo test bench lint format openapi udev requirements clean

help: ## what can be made
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile | expand -t 22

setup: ## system packages, virtual environment, pinned requirements
	@scripts/bootstrap.sh "$(VENV)"

demo: setup ## a token, a CA, a seal; seal, verify, tamper (DOC=path.ofd: yours; DRIVER=skf|pkcs11|pkcs11-sm2)
	@PYTHONPATH=tests:scripts $(BIN)/python -m demo.main $${DOC:+"$$DOC"}

test: lint ## everything CI checks: style, types, imports, then all tests
	@$(BIN)/python -m pytest -q --durations=10 --ignore=tests/bench -n 4 --dist loadfile --no-loadscope-reorder

bench: setup ## the figures of the README, measured side by side
	@PYTHONPATH=tests:scripts $(BIN)/python -m bench

lint: setup ## style, types, direction of imports
	@$(BIN)/ruff check --quiet $(SOURCES)
	@$(BIN)/ruff format --quiet --check $(SOURCES)
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

format: setup ## rewrite the sources in the house style
	@$(BIN)/ruff check --fix $(SOURCES)
	@$(BIN)/ruff format $(SOURCES)

openapi: setup ## write docs/openapi.json anew from the route table
	@$(BIN)/python scripts/openapi.py

udev: setup ## write config/udev/70-sealagent.rules anew from the vendor table
	@$(BIN)/python scripts/udev_rules.py

requirements: setup ## write requirements/*.txt anew from pyproject.toml
	@scripts/requirements.sh "$(BIN)/python"

clean: ## remove what was built, the virtual environment included
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache "$(VENV)" "$(VENV).lock"
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +
