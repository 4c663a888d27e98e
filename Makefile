# One command each. Every target makes .venv when it is missing and installs what it needs.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: demo test slow check bench clean

# The stamp holds the environment to pyproject.toml: it is rebuilt when the dependencies change.
$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e ".[test,check]"
	touch $@

demo: $(VENV)/.installed
	$(BIN)/python -m agents.demo

# File by file, so that what the tests of a file share is made by one process alone.
test: $(VENV)/.installed
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow"

# The tests that take longest: a restart by torchrun, and recorded tree searches.
slow: $(VENV)/.installed
	$(BIN)/python -m pytest -m slow

check: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

bench: $(VENV)/.installed
	$(BIN)/python -m benchmarks.planner

clean:
	rm -rf $(VENV) build *.egg-info
