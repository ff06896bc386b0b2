# One virtual environment, made on first use and brought up to date whenever
# pyproject.toml changes. `make test VENV=path` uses one of yours, as it stands.
VENV := .venv
PYTHON := $(VENV)/bin/python
SPHINXOPTS ?=
# Options of pytest after those of `make test`, as in `PYTESTOPTS="-n 4"`: the last holds.
PYTESTOPTS ?=
# Two processes, each of which takes whole files: the files that conftest.py puts first
# begin first. More processes than two need 1 GB of memory each.
PARALLEL := -n 2 --dist loadfile --no-loadscope-reorder
# Threads that wait sleep instead of spinning: cores may be shared.
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: help demo test test-slow test-lowest docs test-docs lint benchmarks clean
.DEFAULT_GOAL := help

help:
	@echo "make demo       run the first example: a table and a figure"
	@echo "make test       run the tests and doctests"
	@echo "make test-slow  run the tests marked slow"
	@echo "make test-lowest  test what calls other libraries on their lowest versions"
	@echo "make docs       build the documentation into docs/_build/html"
	@echo "make test-docs  look at its pages in a browser: links, pictures, width, contrast"
	@echo "make lint       check format, lint, imports and types"
	@echo "make benchmarks print the tables that the figures in docs/ come from"
	@echo "make clean      remove what these commands wrote (.venv stays)"

ifeq ($(origin VENV),file)
# The stamp of an extra is newer than pyproject.toml once that extra is installed.
installed = $(VENV)/.installed-$(1)

$(PYTHON):
	python3 -m venv $(VENV)

$(VENV)/.installed-%: pyproject.toml | $(PYTHON)
	@echo "Installing sktransfer[$*] into $(VENV) (the first time takes some minutes)"
	@$(PYTHON) -m pip install -qq --disable-pip-version-check --editable ".[$*]"
	@touch $@
endif

demo: $(call installed,test)
	$(PYTHON) examples/01_start/0010_choose_the_depth.py

test: $(call installed,test)
	$(PYTHON) -m pytest $(PARALLEL) $(PYTESTOPTS)

test-slow: $(call installed,test)
	$(PYTHON) -m pytest -m slow $(PYTESTOPTS)

# Old versions break what calls other libraries: the contract and the estimators, networks
# of timm and torchvision, what reads files and arrays, and what is pickled and exported.
# The rest is arithmetic of our own, which `make test` has tested.
LOWEST := $(addprefix tests/,backbones inputs model training test_base.py \
	test_classifier.py test_compute_once.py test_contract.py test_features.py \
	test_fine_tuned.py test_lowest.py test_multilabel.py test_regressor.py \
	test_same_answer.py)

# Old versions warn about each other, say things in other words (no doctests), and have
# wheels for old Pythons only.
test-lowest: .venv-lowest/.installed
	.venv-lowest/bin/python -m pytest -W default $(PARALLEL) $(PYTESTOPTS) $(LOWEST)

.venv-lowest/.installed: pyproject.toml .ci/lowest.txt
	python3.11 -m venv .venv-lowest
	@echo "Installing the lowest versions into .venv-lowest (some minutes)"
	@.venv-lowest/bin/python -m pip install -qq --disable-pip-version-check \
		--no-compile --constraint .ci/lowest.txt --editable ".[test]"
	@touch $@

docs: $(call installed,docs)
	$(PYTHON) -m sphinx -W --keep-going -b html $(SPHINXOPTS) docs docs/_build/html

# The gallery keeps what `make docs` drew. The browser is Debian's chromium-headless-shell,
# or another Chromium.
test-docs: $(call installed,docs-test)
	$(PYTHON) -m sphinx -W --keep-going -b html -D plot_gallery=0 $(SPHINXOPTS) \
		docs docs/_build/html
	$(PYTHON) -m pytest -m browser $(PYTESTOPTS) tests/test_pages.py

benchmarks: $(call installed,test)
	for script in $(filter-out %/common.py,$(wildcard benchmarks/*.py)); do \
		PYTHONPATH=. $(PYTHON) $$script || exit 1; \
	done

lint: $(call installed,lint)
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(dir $(PYTHON))lint-imports --no-cache
	$(PYTHON) -m mypy

clean:
	rm -rf build dist htmlcov outputs .coverage .hypothesis
	rm -rf .mypy_cache .pytest_cache .ruff_cache
	rm -rf docs/_build docs/api/generated docs/auto_examples docs/sg_execution_times.rst
	find sktransfer tests examples docs -name __pycache__ -type d -prune -exec rm -rf {} +
