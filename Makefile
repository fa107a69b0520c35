# make setup, demo, test, lint, docs, bench, lock, clean; in a container: make install, make health.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
READY := $(VENV)/.ready
APP := .app
PORT ?= 8000
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
PIP := -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

# Without an NVIDIA GPU, Linux gets PyTorch's CPU build: it is several gigabytes smaller. Of what is installed nothing is
# changed. The variables keep pip from other indexes that it is configured for.
define install_torch
	@test "$$(uname -s)" != Linux || nvidia-smi -L >/dev/null 2>&1 || PIP_EXTRA_INDEX_URL=$(TORCH_INDEX) \
		PIP_FIND_LINKS=$(TORCH_INDEX) $(1) $(PIP) --no-deps --retries 0 --index-url $(TORCH_INDEX) torch torchvision \
		2>/dev/null || echo "no CPU build of PyTorch at $(TORCH_INDEX): installing the package index's, with CUDA"
endef

.PHONY: setup demo test lint lint-container docs bench lock install health clean

setup: $(READY)

$(READY): setup.cfg pyproject.toml constraints.txt bundle/__init__.py
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(call install_torch,$(RUN))
	$(RUN) $(PIP) --editable ".[dev]"
	@touch $(READY)

demo: setup
	$(RUN) -m bundle demo

test: setup
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n 2 --dist loadfile

lint: setup lint-container
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy scripts bundle benchmarks

lint-container: setup
	$(VENV)/bin/hadolint Dockerfile
	$(VENV)/bin/check-jsonschema --builtin-schema vendor.compose-spec compose.yaml

# the pages as a site in site/; a dead link is an error
docs: setup
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict

# ratios of speed, docs/BENCHMARKS.md; ARGS="--only forward", ARGS=--long
bench: setup
	OMP_NUM_THREADS=1 $(RUN) -m benchmarks $(ARGS)

# newest versions that setup.cfg allows, for every Python and system
lock:
	test -x .lock/bin/uv || { $(PYTHON) -m venv .lock && .lock/bin/python -m pip install --quiet uv; }
	.lock/bin/uv pip compile setup.cfg --extra dev --universal --python-version 3.11 --upgrade --quiet \
		--no-annotate --custom-compile-command "make lock" --output-file constraints.txt

install:
	$(PYTHON) -m venv $(APP)
	$(call install_torch,$(APP)/bin/python)
	$(APP)/bin/python $(PIP) --editable ".[app]"

health:
	$(APP)/bin/python -m bundle health --port $(PORT)

clean:
	rm -rf dist build site *.egg-info $(APP) .lock  # runs/ stays: it contains trained weights
