# What a person runs; .ci/run runs the same. Everything is installed into .venv, nothing outside of it.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SUITE := $(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder
REPORTS_VENV ?= .venv-reports
REPORTS_STAMP := $(REPORTS_VENV)/.installed

.PHONY: demo test coverage test-reports lowest newest compat lint bench fuzz soak docs docs-check clean install

install: $(STAMP)

# gluoncv comes without its dependencies (they are in the extra "train"): its own list asks for opencv-python, which
# needs libGL and would overwrite the headless build.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info >= (3, 13))' \
		|| { echo "MXNet needs Python 3.10 to 3.12: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV) || { echo "python3 -m venv failed; on Debian: apt-get install python3-venv" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[train,sagemaker,onnx,dev]'
	$(BIN)/python -m pip install --quiet -c constraints.txt --no-deps gluoncv
	@touch $@

# Trains the study quickstart on data that ships with the dependencies; a second call trains nothing anew.
demo: $(STAMP)
	$(BIN)/python -m trainers.run --study quickstart --leaderboard leaderboard.md

test: $(STAMP) lint
	$(SUITE)

# Which lines the suite runs; watching them makes it half as slow again.
coverage: $(STAMP)
	$(SUITE) --cov=tracking --cov=trainers --cov=reports --cov-report=term:skip-covered

# The read side's tests once more, with pandas 3 and numpy 2 (Python 3.11 and newer), MXNet and boto3 not installed. The
# browser, which knows nothing of pandas, is left to `make test`.
test-reports: $(REPORTS_STAMP)
	REPORTS_PANDAS_MAJOR=3 $(REPORTS_VENV)/bin/python -m pytest -q -n 2 --dist loadfile \
		tests/reports tests/tracking/frame --ignore tests/reports/test_html.py

# A package that both files pin is taken as the second has it: pip would refuse the pair.
$(REPORTS_STAMP): pyproject.toml constraints.txt constraints-reports.txt
	$(PYTHON) -m venv $(REPORTS_VENV)
	awk -F'[=;]' 'NR == FNR {newer[$$1]} NR == FNR || !($$1 in newer)' constraints-reports.txt constraints.txt \
		> $(REPORTS_VENV)/constraints.txt
	$(REPORTS_VENV)/bin/python -m pip install --quiet --no-compile -c $(REPORTS_VENV)/constraints.txt -e . \
		pytest pytest-xdist hypothesis markdown-it-py statsmodels
	@touch $@

# What stands on others' packages most, with the oldest versions that pyproject.toml allows (some have no wheels for a
# Python above 3.10), and with the newest there are. lowest also looks whether each Python can install what
# constraints.txt pins. Found so far: docs/dependencies.md.
LOWEST_PYTHON ?= python3.10
OTHERS := tests/tracking/journal tests/tracking/models tests/tracking/frame tests/tracking/store/test_replay.py \
	tests/trainers/networks tests/trainers/config tests/reports --ignore tests/reports/test_html.py
TOOLS := pytest pytest-xdist httpx2 hypothesis markdown-it-py psycopg2-binary statsmodels
lowest:
	$(LOWEST_PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet uv
	for version in 3.10 3.11 3.12; do .venv-lowest/bin/uv pip compile --quiet --no-python-downloads pyproject.toml \
		--extra train --extra sagemaker --extra onnx --extra dev -c constraints.txt --python-version $$version \
		-o /dev/null || exit 1; done
	.venv-lowest/bin/uv pip compile --quiet pyproject.toml --extra train --extra sagemaker --extra onnx \
		--resolution lowest-direct --python-version 3.10 -o .venv-lowest/versions.txt
	.venv-lowest/bin/uv pip install --quiet --python .venv-lowest --no-build -r .venv-lowest/versions.txt
	.venv-lowest/bin/uv pip install --quiet --python .venv-lowest -c .venv-lowest/versions.txt $(TOOLS)
	.venv-lowest/bin/uv pip install --quiet --python .venv-lowest --no-deps gluoncv==0.10.5.post0
	PYTHONPATH=. .venv-lowest/bin/python -m pytest -q -n 2 --dist loadfile $(OTHERS)

newest:
	$(PYTHON) -m venv .venv-newest
	.venv-newest/bin/python -m pip install --quiet --upgrade -e '.[train,sagemaker,onnx,labels,search]' $(TOOLS)
	.venv-newest/bin/python -m pip install --quiet --no-deps gluoncv
	PYTHONPATH=. .venv-newest/bin/python -m pytest -q -n 2 --dist loadfile $(OTHERS)

# Servers and clients of other MLflow versions, each in an environment of its own (0.7 GB each); prints the table of
# docs/compatibility.md.
compat: $(STAMP)
	PYTHONPATH=. $(BIN)/python -W ignore -m tests.support.compat .venv-compat

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(STAMP)
	@for file in tests/benchmarks/bench_*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

# Each parser of foreign files in a process of its own, FUZZ_SECONDS long; wants the extra "fuzz". A crash stops it and
# leaves its input as fuzz-TARGET-crash-….
FUZZ_SECONDS ?= 300
fuzz: $(STAMP)
	@for target in $$($(BIN)/python -m tests.fuzz); do echo "== $$target"; \
		$(BIN)/python -m tests.fuzz $$target $(FUZZ_SECONDS) || exit 1; done

# Programs stopped at random moments, their calls compared with the store; prints the table of docs/reliability.md. Power
# cuts and full disks want the right to mount, the rows of PostgreSQL its binaries.
SOAK_POINTS ?= 1000
soak: $(STAMP)
	PYTHONPATH=. $(BIN)/python -W ignore -m tests.faults --points $(SOAK_POINTS) --markdown

# The documentation as a site, in build/site.
docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# Every line of README and docs, typed into a shell; those that take minutes as well.
docs-check: $(STAMP)
	$(BIN)/python -m tests.support.docs

clean:
	rm -rf $(VENV) $(REPORTS_VENV) .venv-compat .venv-lowest .venv-newest .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage *.egg-info
