# make setup, demo, test, lint, docs, bench, bench-check, bench-gpu, lock, pin, clean; in a container: make install, make health.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
READY := $(VENV)/.ready
APP := .app
PORT ?= 8000
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
PIP := -m pip install --quiet --disable-pip-version-check
HASHED := $(PIP) --require-hashes --requirement requirements
OF_TORCH := torch=|torchvision=|triton|nvidia-|cuda-

# Everything in the versions and with the hashes of requirements/, the bundle last. Only PyTorch's CPU build, which Linux
# gets without an NVIDIA GPU, as it is several gigabytes smaller, is of a locked version but without a locked hash: its
# index is not the one that the hashes are of. The variables keep pip from other indexes that it is configured for.
define install
	@test "$$(uname -s)" = Linux && ! nvidia-smi -L >/dev/null 2>&1 && PIP_EXTRA_INDEX_URL=$(TORCH_INDEX) \
		PIP_FIND_LINKS=$(TORCH_INDEX) $(1) $(PIP) --no-deps --retries 0 --index-url $(TORCH_INDEX) \
		$$(sed -nE 's/^(torch(vision)?==[^ ;]+).*/\1/p' requirements/torch.txt) 2>/dev/null || { \
		echo "PyTorch of the package index, with CUDA on Linux (no CPU build at $(TORCH_INDEX), or there is a GPU)"; \
		$(1) $(HASHED)/torch.txt --no-deps; }
	$(1) $(HASHED)/$(2).txt
	$(1) $(PIP) --no-deps --no-build-isolation --editable .
endef

.PHONY: setup demo test lint lint-container docs bench bench-check bench-gpu lock pin install health clean

setup: $(READY)

$(READY): setup.cfg pyproject.toml $(wildcard requirements/*.txt) bundle/__init__.py
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(call install,$(RUN),dev)
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

# slices a second on a GPU and the share of its peak, runs/gpu.json
bench-gpu: setup
	$(RUN) -m benchmarks.hardware.gpu $(ARGS)

# operations, bytes and passes, against docs/results/bench.json
bench-check: setup
	OMP_NUM_THREADS=1 $(RUN) -m benchmarks --check

# newest versions that setup.cfg allows and their hashes, for every Python and system; what torch needs of CUDA apart
lock: UV = .lock/bin/uv pip compile setup.cfg pyproject.toml --universal --python-version 3.11 --quiet --no-annotate
lock:
	test -x .lock/bin/uv || { $(PYTHON) -m venv .lock && .lock/bin/python -m pip install --quiet uv; }
	$(UV) --generate-hashes --custom-compile-command "make lock" --extra dev --upgrade --output-file .lock/dev.txt
	$(UV) --generate-hashes --custom-compile-command "make lock" --extra app --constraint .lock/dev.txt \
		--output-file .lock/app.txt
	awk '/^[a-z]/ {of_torch = /^($(OF_TORCH))/} /^#/ || of_torch' .lock/dev.txt > requirements/torch.txt
	awk '/^[a-z]/ {of_torch = /^($(OF_TORCH))/} !of_torch' .lock/dev.txt > requirements/dev.txt
	awk '/^[a-z]/ {of_torch = /^($(OF_TORCH))/} !of_torch' .lock/app.txt > requirements/app.txt

# the container's base image by its digest, from its registry
pin:
	digest=$$(docker buildx imagetools inspect --format '{{.Manifest.Digest}}' \
		$$(sed -nE 's/^FROM ([^@ ]+).*/\1/p' Dockerfile)) && sed -i.old -E "s/^(FROM [^@ ]+).*/\1@$$digest/" Dockerfile
	rm -f Dockerfile.old

install:
	$(PYTHON) -m venv $(APP)
	$(call install,$(APP)/bin/python,app)

health:
	$(APP)/bin/python -m bundle health --port $(PORT)

clean:
	rm -rf dist build site *.egg-info $(APP) .lock  # runs/ stays: it contains trained weights
