# What a person runs; .ci/run runs the same. Everything is installed into .venv, nothing outside of it.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test test-reports lint bench clean install

install: $(STAMP)

# gluoncv comes without its dependencies (they stand in the extra "train"): its own list asks for opencv-python, which
# needs libGL and would overwrite the headless build.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV) || { echo "python3 -m venv failed; on Debian: apt-get install python3-venv" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[train,sagemaker,onnx,dev]'
	$(BIN)/python -m pip install --quiet -c constraints.txt --no-deps gluoncv
	@touch $@

# Trains the study quickstart on data that ships with the dependencies; a second call trains nothing anew.
demo: $(STAMP)
	$(BIN)/python -m trainers.run --study quickstart --leaderboard leaderboard.md

test: $(STAMP) lint
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --cov=tracking --cov=trainers --cov=reports --cov-report=term:skip-covered

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(STAMP)
	@for file in tests/benchmarks/bench_*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage *.egg-info
