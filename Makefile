# make demo   install into .venv, then run the whole pipeline on embedded homes
# make test   install what the tests need, then run them with the linters
# make lint   ruff and mypy only
# make bench  measure: three seeds of the homes, students trained for 200 epochs (about 40 minutes)
# make minkowski  build MinkowskiEngine once for the tests that compare with it (about 4 minutes;
#             they skip, and say so, without it)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: demo test lint bench minkowski clean

demo: $(VENV)/.installed
	$(BIN)/pcdistill demo

test: $(VENV)/.installed-test lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.installed
	$(BIN)/python tools/benchmark.py homes --seeds 3

minkowski: $(VENV)/.installed-test
	$(BIN)/python tools/build_minkowski.py

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "pcdistill needs Python 3.11 or newer, found " + sys.version.split()[0] + "; run make with PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) install --quiet --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP) install --quiet --constraint constraints.txt --editable '.[test]'
	@touch $@

clean:
	rm -rf $(VENV) runs dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
