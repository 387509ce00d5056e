# Everything here works on a machine with git, make and Python >= 3.11 (with venv).
# TORCH_INDEX: an extra package index for torch, e.g. PyTorch's own CPU index on Linux machines without a GPU (see README).
PYTHON ?= python3
TORCH_INDEX ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

.PHONY: audit bench-ablations bench-bf16 bench-convert bench-corpus bench-finetune bench-inference bench-instances bench-pretrain bench-serve bench-text fuzz models test test-all wheel check format clean

audit: $(VENV)/.audit
	$(BIN)/halbert audit --out report --overwrite

test: $(VENV)/.test check
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

test-all: $(VENV)/.test check
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile
	$(BIN)/python -m pytest -m slow

# The built wheel in an environment of its own, without torch; installs from the package index.
wheel: $(VENV)/.test
	$(BIN)/python -m tests.wheel

fuzz: $(VENV)/.test
	$(BIN)/python -m tests.weights.fuzz --minutes 10

# The models in the box, made from nothing (hours); stopped, the same command goes on.
models: $(VENV)/.test
	$(BIN)/python -m models.english --work .models/english --export
	$(BIN)/python -m models.multilingual --work .models/multilingual --export

bench-ablations: $(VENV)/.test
	$(BIN)/python -m benchmarks.ablations

bench-bf16: $(VENV)/.test
	$(BIN)/python -m benchmarks.bf16

bench-convert: $(VENV)/.test
	$(BIN)/python -m benchmarks.convert

bench-corpus: $(VENV)/.test
	$(BIN)/python -m benchmarks.corpus

bench-finetune: $(VENV)/.test
	$(PIP) --editable '.[bench]'
	$(BIN)/python -m benchmarks.finetune

bench-inference: $(VENV)/.test
	$(PIP) --editable '.[bench]'
	$(BIN)/python -m benchmarks.inference

bench-instances: $(VENV)/.test
	$(BIN)/python -m benchmarks.instances

bench-pretrain: $(VENV)/.test
	$(BIN)/python -m benchmarks.pretrain

# INFINITY: the infinity_emb program of an environment that has it; without it Halbert is measured alone.
bench-serve: $(VENV)/.test
	$(PIP) --editable '.[bench]'
	$(BIN)/python -m benchmarks.serve $(if $(INFINITY),--infinity $(INFINITY))

bench-text: $(VENV)/.test
	$(BIN)/python -m benchmarks.text

check: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.test
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(VENV)/bin/python:
	@echo "Making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Halbert needs Python 3.11 or newer; name one with: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.audit: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing Halbert with what the audit needs; this takes a few minutes"
	$(PIP) --editable '.[audit]'
	@touch $@

$(VENV)/.test: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "Installing Halbert with what the tests need; this takes a few minutes"
	$(PIP) --editable '.[test]'
	@touch $@ $(VENV)/.audit

clean:
	rm -rf $(VENV) report build dist *.egg-info
