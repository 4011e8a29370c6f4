# One command for each thing: make demo | quick | install | check | unit | test | all | minimum | docs | release | bench
PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 2
PYTHONS ?= python3.10 python3.13
BIN := $(VENV)/bin
MIN_VENV ?= .venv-min
STAMP := $(VENV)/.installed-$(shell cat pyproject.toml constraints.txt | cksum | cut -d' ' -f1)

MIN_STAMP := $(MIN_VENV)/.installed-$(shell cat pyproject.toml constraints-min.txt | cksum | cut -d' ' -f1)
UNIT := hf_posmine/core tests/core tests/contracts/test_filters_and_samplers.py tests/utils/test_mapped.py
MINIMUM := tests/core tests/contracts tests/golden tests/data tests/models tests/training/test_trainer.py

export HF_POSMINE_OFFLINE ?= 1

.PHONY: demo quick install check format docs unit test all minimum peer-tests release faults bench clean

demo: $(STAMP)  ## mine the embedded sample with the embedded teacher
	$(BIN)/hf-posmine demo --output out/demo

quick: $(STAMP)  ## mine the sample, train both stages, compare with the untrained student
	$(BIN)/python recipes/quick/run.py

install: $(STAMP)  ## create the environment

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet -c constraints.txt torch
	$(BIN)/pip install --quiet -c constraints.txt -e '.[test,check,bench]'
	rm -f $(VENV)/.installed-*
	touch $@

$(MIN_STAMP): pyproject.toml constraints-min.txt
	$(PYTHON) -m venv $(MIN_VENV)
	$(MIN_VENV)/bin/pip install --quiet -c constraints-min.txt torch
	$(MIN_VENV)/bin/pip install --quiet -c constraints-min.txt -e '.[minimum]'
	rm -f $(MIN_VENV)/.installed-*
	touch $@

check: $(STAMP)  ## format, lint, types, the order of the layers, circles of imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python .ci/import_circles.py

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(STAMP)  ## the pages as HTML in out/docs
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going docs out/docs

unit: $(STAMP)  ## the core and its contracts: numpy only, no torch, under 10 s of CPU; coverage of the core
	mkdir -p out
	OMP_NUM_THREADS=1 $(BIN)/coverage run --source=hf_posmine.core -m pytest $(UNIT) -p tests.support.no_torch
	$(BIN)/coverage report --show-missing --skip-covered --fail-under=95

test: $(STAMP)  ## all tests, doctests and examples of the documentation, without the slow matrices
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) --dist loadfile -m "not matrix"

all: $(STAMP)  ## every test, slow matrices included
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) --dist loadfile

minimum: $(MIN_STAMP)  ## the fast tests with the oldest supported versions, in an environment of their own
	OMP_NUM_THREADS=1 $(MIN_VENV)/bin/python -m pytest $(MINIMUM) -m "not real_data and not matrix"

peer-tests: $(STAMP)  ## the mining tests of sentence-transformers against ours: make peer-tests PEER=<its checkout>
	$(BIN)/python -m tests.support.peer_suite $(PEER)

release: $(STAMP)  ## build, check, install in clean environments of Python 3.10 and 3.13, run the demo there
	$(BIN)/pip install --quiet -c constraints.txt -e '.[release]'
	$(BIN)/python .ci/release.py $(PYTHONS)

faults: $(STAMP)  ## the whole table of faults, with figures tried and held in out/faults.json
	$(BIN)/python -m tests.faults.run --minutes 15 --examples 10000 --output out/faults.json

bench: $(STAMP)  ## ratios against the peer, as JSON and tables in out/bench
	$(BIN)/python -m benchmarks.mining --output out/bench
	$(BIN)/python -m benchmarks.encoding --output out/bench
	$(BIN)/python -m benchmarks.embedder --output out/bench
	$(BIN)/python -m benchmarks.training --output out/bench

clean:
	rm -rf $(VENV) $(MIN_VENV) out
