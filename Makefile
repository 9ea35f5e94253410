# Linux and macOS; the same steps as plain commands for PowerShell are in README.md.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV_VERSION := 0.13.9
READY := $(VENV)/.installed
export DO_NOT_TRACK := true

.PHONY: help install demo up status down test lint constraints clean

help:
	@echo "make demo [KEEP=1]  train, register and serve on a sample data set; KEEP=1 leaves the servers on"
	@echo "make up [DETACH=1]  Prefect, MLflow, a worker and the picture server; DETACH=1 leaves them in the background"
	@echo "make status         what of them runs;  make down  stops them"
	@echo "make test           linter, type checker and tests"
	@echo "make install        only the virtual environment in $(VENV)"
	@echo "make constraints    choose new versions of the dependencies"
	@echo "make clean          remove what the demo made; $(VENV) stays"

install: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or later is needed, found: $$($(PYTHON) --version). Name one:  make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV): the first time this fetches several GB, mostly CUDA for torch"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@$(BIN)/uv pip install --python $(BIN)/python --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: install
	@$(BIN)/python -m pipelines.demo $(if $(KEEP),--keep)

up: install
	@$(BIN)/python -m deblur up $(if $(DETACH),--detach)

status: install
	@$(BIN)/python -m deblur status

down: install
	@$(BIN)/python -m deblur down

test: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest

lint: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/mypy

constraints: install
	@echo "# Every version this project is tested with, for Linux, macOS and Windows. Made by  make constraints" > constraints.txt
	@$(BIN)/uv pip compile --quiet --upgrade pyproject.toml --all-extras --universal --python-version 3.11 \
		--no-header --no-annotate --no-emit-index-url >> constraints.txt

clean:
	@test ! -x $(BIN)/python || $(BIN)/python -m deblur down
	rm -rf data/sample runs mlruns mlartifacts mlflow.db .prefect .deblur
