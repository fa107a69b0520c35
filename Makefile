# The four commands: make setup, make demo, make test, make clean.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
READY := $(VENV)/.ready

.PHONY: setup demo test lint clean

setup: $(READY)

$(READY): setup.cfg pyproject.toml
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	@touch $(READY)

demo: setup
	$(RUN) -m bundle demo

test: setup
	$(RUN) -m pytest

lint: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy scripts bundle

clean:
	rm -rf runs dist build *.egg-info
