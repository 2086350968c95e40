# Event-driven architecture, hands on.
#
#   make lab    set everything up, start the stack, open JupyterLab      (PORT=8888, NO_BROWSER=1)
#   make test   set everything up, run every check and every test, leave nothing running      (PROCESSES=4)

PORT ?= 8888
NO_BROWSER ?=
PROCESSES ?= 4
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest -n $(PROCESSES)

.PHONY: help setup up down status lab lint test coverage notebooks pictures docs bench clean
.NOTPARALLEL:

help:
	@sed -n 's/^#   //p' Makefile
	@echo "pieces: setup up down status lint coverage notebooks pictures docs bench clean"

setup:
	@./scripts/setup

up: setup
	@$(BIN)/eda up

down:
	@if [ -x $(BIN)/eda ]; then $(BIN)/eda down; fi

status: setup
	@$(BIN)/eda status

lab: setup
	@exec $(BIN)/eda lab --port $(PORT) $(if $(NO_BROWSER),--no-browser)

lint: setup
	@$(BIN)/ruff check
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache --no-logo

test coverage bench: export FOR_TESTS := 1
test: lint
	@$(PYTEST) </dev/null

# Apart from the tests, which take half as long again when every line is counted.
coverage: setup
	@$(PYTEST) --cov=reference --cov-report=term </dev/null

notebooks: setup
	@$(BIN)/python -m labs.execute

pictures: setup
	@$(BIN)/python -m labs.pictures

docs: setup
	@$(BIN)/python docs/build.py && $(BIN)/python docs/settings.py

bench: setup
	@$(BIN)/eda bench relay && $(BIN)/eda bench latency && $(BIN)/eda bench brokers && $(BIN)/eda bench checker && $(BIN)/eda bench board

# What was installed and downloaded stays: rm -rf .venv .eda for those.
clean: down
	@rm -rf build ./*.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage
	@find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +
