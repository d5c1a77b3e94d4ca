# make demo         install into .venv, then run the whole pipeline on embedded homes
# make test         install what the tests need, then run the linters and the tests (CONTRIBUTING.md
#                   has the minutes); says how many tests it left out
# make test-fast    the linters, and the tests that take no seconds
# make test-all     everything, also the tests that repeat others on a larger scale
# make test-hidden  part of the tests, with features of the processor hidden
# make test-margins the assertions that came closest to failing, of the tests in T=tests/...
# make lint         ruff and mypy only
# make audit        installed packages against constraints.txt, and their licences; no network
# make fuzz         damaged files for every reader, N=20000 of them: one to ten minutes
# make format       format the code with ruff, and mend what it can mend
# make docs         the pages of docs/ and the reference of every room as a site: site/index.html
# make bench        measure: five seeds of test homes with frozen settings (40 minutes)
# make pictures     take the pictures of docs/viewer.md: run the demo, walk through it in Chromium
# make minkowski    build MinkowskiEngine once for the tests that compare with it (about 4 minutes;
#                   they skip, and say so, without it)
# make clean        remove .venv, runs and everything that was built
# make help         print this list

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

# Whole files of tests go to the processes in the order of tests/conftest.py, the longest first.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest
PARALLEL := --numprocesses auto --dist loadfile --no-loadscope-reorder
HIDDEN_TESTS := tests/sparse/test_convolution.py tests/sparse/test_convolution_golden.py \
	tests/sparse/test_normalization.py tests/sparse/test_tensor.py tests/sparse/test_grid_symmetry.py \
	tests/geometry tests/fusion tests/capability tests/evaluation \
	tests/stages/test_fuse.py tests/stages/test_lift.py
# With the vectors of AVX2 these are left out: they pass with none.
HIDDEN_TRAININGS := tests/distillation tests/networks
# Slow, and little in them is computed by our own loops.
NOT_HIDDEN := --ignore tests/capability/generators/test_stable_diffusion.py \
	--ignore tests/capability/test_hub_segmenter.py --ignore tests/distillation/test_distributed.py

.PHONY: demo test test-fast test-all test-hidden test-margins lint audit fuzz format docs bench pictures minkowski clean help

help:
	@sed -n 's/^# \?//; 1,/^$$/p' Makefile

demo: $(VENV)/.compiled
	$(BIN)/pcdistill demo

test: $(VENV)/.installed-test lint
	$(PYTEST) $(PARALLEL)

test-fast: $(VENV)/.installed-test lint
	$(PYTEST) $(PARALLEL) --extent fast

test-all: $(VENV)/.installed-test lint
	$(PYTEST) $(PARALLEL) --extent all

test-hidden: $(VENV)/.installed-test
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.hidden_features scalar \
	  $(BIN)/python -m pytest $(PARALLEL) -k 'not narrower' $(NOT_HIDDEN) $(HIDDEN_TESTS) \
	  $(HIDDEN_TRAININGS)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.hidden_features avx2 \
	  $(BIN)/python -m pytest $(PARALLEL) -k 'not narrower' $(NOT_HIDDEN) $(HIDDEN_TESTS)

test-margins: $(VENV)/.installed-test
	PYTHONPYCACHEPREFIX=.pytest_cache/margins $(PYTEST) -p tests.margins \
	  -o enable_assertion_pass_hook=true $(T)

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

audit: $(VENV)/.installed-test
	$(BIN)/python tools/audit.py

N ?= 20000
fuzz: $(VENV)/.installed-test
	PCDISTILL_FUZZ=$(N) $(PYTEST) tests/fuzzing --numprocesses auto

format: $(VENV)/.installed-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: $(VENV)/.installed
	$(BIN)/python tools/benchmark.py homes

pictures: $(VENV)/.installed-test
	$(BIN)/pcdistill demo
	$(BIN)/python tools/viewer_pictures.py runs/demo

minkowski: $(VENV)/.installed-test
	$(BIN)/python tools/build_minkowski.py

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "pcdistill needs Python 3.11 or newer, found " + sys.version.split()[0] + "; run make with PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) install --quiet --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.compiled: $(VENV)/.installed
	$(BIN)/python tools/compile_loops.py
	@touch $@

# What is already installed is replaced: a CPU build of torch does not load PyPI's torchvision.
$(VENV)/.installed-test: pyproject.toml constraints.txt constraints-test.txt | $(VENV)/bin/python
	$(PIP) install --quiet --constraint constraints.txt --requirement constraints-test.txt --editable '.[test,docs]'
	@touch $(VENV)/.installed $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(PIP) install --quiet --constraint constraints.txt --editable '.[docs]'
	@touch $@

clean:
	rm -rf $(VENV) runs dist build site .pytest_cache .mypy_cache .ruff_cache .hypothesis
