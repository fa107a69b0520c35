# make setup, make demo, make test, make lint, make clean; in a container: make install, make health.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
READY := $(VENV)/.ready
APP := .app
PORT ?= 8000

.PHONY: setup demo test lint lint-container install health clean

setup: $(READY)

$(READY): setup.cfg pyproject.toml bundle/__init__.py
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	@touch $(READY)

demo: setup
	$(RUN) -m bundle demo

test: setup
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n 2 --dist loadfile

lint: setup lint-container
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy scripts bundle

lint-container: setup
	$(VENV)/bin/hadolint Dockerfile
	$(VENV)/bin/check-jsonschema --builtin-schema vendor.compose-spec compose.yaml

install:
	$(PYTHON) -m venv $(APP)
	$(APP)/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[app]"

health:
	$(APP)/bin/python -m bundle health --port $(PORT)

clean:
	rm -rf dist build *.egg-info $(APP)  # runs/ stays: it contains trained weights
