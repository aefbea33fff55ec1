# Two commands for a newcomer: `make serve` and `make test`. Each sets up all it needs in .venv.
PYTHON ?= python3.11
VENV ?= .venv
# As `isoserve serve` reads it: Kubernetes' own ISOSERVE_PORT=tcp://... is no port.
PORT ?= $(or $(filter-out tcp:%,$(ISOSERVE_PORT)),8000)
TEST_PROCESSES ?= logical
REPOSITORY ?= $(or $(ISOSERVE_REPOSITORY),model_repository)

bin := $(VENV)/bin
pip := $(bin)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

export ORT_DISABLE_TELEMETRY = 1
# The tests train tiny networks, which several threads only slow down.
test check-deploy: export OMP_NUM_THREADS = 1

.PHONY: serve test lint test-lowest test-newest docs check-deploy constraints clean

serve: $(VENV)/.serve
	@echo
	@echo "  Serving $(REPOSITORY) on http://localhost:$(PORT) (Ctrl-C stops it). Try:"
	@echo
	@echo "    curl --data-binary @photo.jpg localhost:$(PORT)/v1/predict"
	@echo "    open http://localhost:$(PORT) in a browser and drop an image on the page"
	@echo
	@$(bin)/isoserve serve $(REPOSITORY) --port $(PORT)

# A process a core; the tests of a file share servers and networks, and stay in one process.
test: $(VENV)/.test lint
	$(bin)/python -m pytest --numprocesses $(TEST_PROCESSES) --maxprocesses 8 --dist loadfile

lint: $(VENV)/.test
	$(bin)/ruff check
	$(bin)/ruff format --check
	$(bin)/mypy
	$(bin)/lint-imports --no-cache

# The core of the tests with the lowest and with the newest versions that pyproject.toml allows.
test-lowest:
	PYTHON=$(PYTHON) .ci/test_range lowest-direct

test-newest:
	PYTHON=$(PYTHON) .ci/test_range highest

# The site of docs/, into site/; a broken link is an error.
docs: $(VENV)/.test
	$(bin)/mkdocs build --strict

# Containers, rules, dashboards, manifests, each by the tool that reads it; a part of the tests, which
# skip what has no tool. `make check-deploy STRICT=--strict` fails instead.
check-deploy: $(VENV)/.test
	deploy/get_tools $(bin)/python
	deploy/check $(STRICT) $(bin)/python

# torch comes first and pinned: left to the resolver, it may bring gigabytes of CUDA libraries.
$(VENV)/.test: $(VENV)/.serve
	$(pip) torch
	$(pip) --editable '.[train,dev,docs]'
	@touch $@

$(VENV)/.serve: pyproject.toml constraints.txt
	@test -x $(bin)/python || $(PYTHON) -m venv $(VENV)
	$(pip) --editable .
	@touch $@

# Pins every package of a fresh environment that passed the tests.
constraints: $(VENV)/.test
	$(bin)/python -m pip freeze --exclude-editable --exclude setuptools | sed 's/+cpu$$//' > constraints.txt

clean:
	rm -rf $(VENV) .venv-* build dist site *.egg-info
