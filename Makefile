# Everything a target needs is made on the way: a virtual environment in .venv, the build, the packages.

PYTHON ?= python3
VENV := .venv
PIP := $(VENV)/bin/python -m pip --quiet --disable-pip-version-check
HEADERS := $(CURDIR)/build/headers

SOURCES := setup.py $(wildcard csrc/*.[ch] lstm_fast/*.pyx lstm_fast/*.pxd lstm_fast/*.pxi)
SETTINGS := LSTM_FAST_BLAS=$(LSTM_FAST_BLAS) CC=$(CC) CFLAGS=$(CFLAGS)
LIST_BUILD_REQUIRES := from build import ProjectBuilder; print(*ProjectBuilder(".").build_system_requires, sep="\n")

.PHONY: help build demo test oracle-test sweep bench microbench lint format clean FORCE
.DELETE_ON_ERROR:

help:
	@echo 'make demo         import networks trained in Keras and PyTorch, run them, compare'
	@echo 'make test         build and run the tests; PYTEST_ARGS="-k lstm" and the like are passed on'
	@echo 'make oracle-test  the tests with PyTorch and Keras installed beside them (a large download)'
	@echo 'make sweep        tanh and sigmoid of all 2^32 floats against float64, ten minutes; SWEEP_ARGS="--stride 101"'
	@echo 'make bench        ours timed beside other engines (a large download); BENCH_ARGS="--quick" and the like'
	@echo 'make microbench   single kernels, timed by pytest-benchmark; BENCH_ARGS="-k softmax" and the like'
	@echo 'make lint         ruff and clang-format'
	@echo 'make format       let ruff and clang-format rewrite the sources'
	@echo 'make build        build the extension in place, in .venv'
	@echo 'make clean        remove everything the other targets made'
	@echo
	@echo 'PYTHON=python3.12 chooses the Python, LSTM_FAST_BLAS=auto|system|none the BLAS backend.'

build: $(VENV)/built

demo: $(VENV)/with-demo
	@$(VENV)/bin/python examples/demo.py

test: $(VENV)/with-test
	$(VENV)/bin/python -m pytest $(PYTEST_ARGS)

oracle-test: $(VENV)/with-test $(VENV)/with-oracle
	KERAS_BACKEND=torch $(VENV)/bin/python -m pytest $(PYTEST_ARGS)

sweep: $(VENV)/with-test
	@$(VENV)/bin/python tests/sweep_activations.py $(SWEEP_ARGS)

bench: $(VENV)/with-bench
	@$(VENV)/bin/python -m bench $(BENCH_ARGS)

microbench: $(VENV)/with-micro
	$(VENV)/bin/python -m pytest bench/micro $(BENCH_ARGS)

lint: $(VENV)/with-lint
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/clang-format --dry-run -Werror csrc/*.[ch] bench/*.c tests/c/*.c

format: $(VENV)/with-lint
	$(VENV)/bin/ruff check --fix
	$(VENV)/bin/ruff format
	$(VENV)/bin/clang-format -i csrc/*.[ch] bench/*.c tests/c/*.c

clean:
	rm -rf $(VENV) build dist *.egg-info lstm_fast/_libs lstm_fast/*.so .pytest_cache .hypothesis .ruff_cache .benchmarks
	rm -rf bench/results examples/output
	find . -name __pycache__ -prune -exec rm -rf {} +

# What follows are stamp files: each is as new as the last run of its recipe, settings as its last change.

$(VENV)/ready: tools/prerequisites.sh pyproject.toml
	@sh tools/prerequisites.sh $(PYTHON)
	@echo 'Preparing $(VENV)'
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install build
	@$(VENV)/bin/python -c '$(LIST_BUILD_REQUIRES)' > $(VENV)/build-requires.txt
	@$(PIP) install -r $(VENV)/build-requires.txt
	@touch $@

$(VENV)/settings: $(VENV)/ready FORCE
	@echo '$(SETTINGS)' | cmp -s - $@ || echo '$(SETTINGS)' > $@

# The compiler ignores the headers' folders where tools/prerequisites.sh had no need to make them.
$(VENV)/built: $(VENV)/ready $(VENV)/settings $(SOURCES)
	@echo 'Building lstm_fast'
	@CPATH=$(HEADERS)/$(notdir $(realpath $(VENV)/bin/python)):$(HEADERS)$(addprefix :,$(CPATH)) \
		$(PIP) install --no-build-isolation --editable .
	@touch $@

# An extra of pyproject.toml, for the package is already installed.
$(VENV)/with-%: $(VENV)/built
	@echo 'Installing what "$*" needs'
	@$(PIP) install 'lstm_fast[$*]'
	@touch $@
