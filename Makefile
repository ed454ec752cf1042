# make demo DATA=folder   the main job: real spectra and labels in, a trained model and a catalogue out
# make test               style, types, import layers and tests
#
# Either command sets up what it needs in $(VENV) first. Variables: PYTHON, VENV, RUN, SURVEY, LABELS, SPECTRA,
# CONFIG and, for example, SETTINGS="training.epochs=5".

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

SURVEY ?= lamost_lrs
LABELS ?= $(DATA)/labels.csv
SPECTRA ?= $(if $(wildcard $(DATA)/spectra),$(DATA)/spectra,$(DATA))
RUN ?= runs/demo
CONFIG ?= configs/demo.toml
SETTINGS ?=
WORKERS ?= 2

.PHONY: help demo test lint types layers tests slow format

help:
	@sed -n 's/^# \{0,1\}//p;/^$$/q' Makefile

$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or later is needed; name one: make PYTHON=python3.12" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: $(INSTALLED)
	@VENV='$(VENV)' DATA='$(DATA)' SURVEY='$(SURVEY)' LABELS='$(LABELS)' SPECTRA='$(SPECTRA)' \
	  RUN='$(RUN)' CONFIG='$(CONFIG)' SETTINGS='$(SETTINGS)' WORKERS='$(WORKERS)' \
	  sh scripts/demo.sh

test: lint types layers tests

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)
	$(BIN)/mypy

layers: $(INSTALLED)
	$(BIN)/lint-imports

# one thread a process: two processes of two threads each would wait for each other
tests: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 -m 'not slow'

slow: $(INSTALLED)
	$(BIN)/python -m pytest -q -m slow

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
