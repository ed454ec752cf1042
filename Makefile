# make demo               a synthetic sky in files of five surveys, a model trained on them, a catalogue of
#                         stars it has not seen, and a page that compares it with the truth; no data needed
# make demo DATA=folder   the same job on real data: spectra and labels in, a trained model and a catalogue out
# make test               style, types, import layers and tests
# make docs               the site of the documentation, in site/
#
# Each command sets up what it needs in $(VENV) first. Variables: PYTHON, VENV, RUN, WORKERS and, for example,
# SETTINGS="training.epochs=5"; STARS without DATA; SURVEY, LABELS, SPECTRA and CONFIG with it.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

SURVEY ?= lamost_lrs
LABELS ?= $(DATA)/labels.csv
SPECTRA ?= $(if $(wildcard $(DATA)/spectra),$(DATA)/spectra,$(DATA))
RUN ?= $(if $(DATA),runs/demo-data,runs/demo)
CONFIG ?= configs/demo.toml
SETTINGS ?=
STARS ?=
WORKERS ?= 2

.PHONY: help demo demodata docs test lint types layers tests slow format

help:
	@sed -n 's/^# \{0,1\}//p;/^$$/q' Makefile

$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or later is needed; name one: make PYTHON=python3.12" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

ifdef DATA
demo: demodata
else
demo: $(INSTALLED)
	@$(BIN)/python scripts/demo.py --run '$(RUN)' --workers $(WORKERS) $(if $(STARS),--stars $(STARS)) $(SETTINGS)
endif

demodata: $(INSTALLED)
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

# the theme announces its successor at every build
docs: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

slow: $(INSTALLED)
	$(BIN)/python -m pytest -q -m slow -o faulthandler_timeout=0

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
