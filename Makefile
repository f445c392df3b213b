# `make demo` and `make test` set up what they need; nothing has to be done before.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test test-all lint docs bench wheel clean

demo: $(READY)  ## the whole pipeline offline: a base model adapted three ways, one table, report.html
	$(BIN)/instructalign demo --out runs/demo

# One worker more than cores, since many tests wait for a process of their own.
WORKERS = $$($(BIN)/python -c "import os; print(os.cpu_count() + 1)")

# Byte code is kept, whatever the environment says: many tests start Python anew.
test: $(READY)  ## the default test suite
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal -m "not slow"

test-all: $(READY)  ## the slow tests too
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal

lint: $(READY)  ## style and types
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/mypy

docs: $(READY)  ## the documentation site in site/, made without a network
	$(BIN)/python -m typer instructalign.cli utils docs --name instructalign --title Commands --output docs/commands.md
	$(BIN)/zensical build --clean --strict

bench: $(READY)  ## our speed beside the peers', in one run each; takes a while
	$(BIN)/python benchmarks/generate.py
	$(BIN)/python benchmarks/evaluate.py
	$(BIN)/python benchmarks/demo.py

wheel: $(READY)  ## dist/instructalign-….whl, which has the configurations, too
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

clean:
	rm -rf $(VENV) build dist site docs/commands.md *.egg-info src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

# torch first and pinned, so that no other package's range picks another build of it.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $(READY)
