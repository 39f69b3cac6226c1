PYTHON ?= python3

BIN := .venv/bin
STAMP := .venv/installed
ARBITERS := .venv/arbiters-installed

.DEFAULT_GOAL := help
.PHONY: help install sweep test test-fuzz test-torch lint check bench experiments \
	check-experiments docs test-zoo test-formula gpu gpu-results

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(STAMP) ## make .venv with the project and all extras

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[models,docs,dev]'
	touch $@

# Only the experiments need what these compare with; without it their tests are skipped.
$(ARBITERS): $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[arbiters]'
	touch $@

sweep: $(STAMP) ## run the main job: the default sweep with its verdict, into results/
	$(BIN)/flopratio sweep -o results

test: $(STAMP) ## run the tests
	$(BIN)/python -m pytest -n 2

LINES ?= 3000
test-fuzz: $(STAMP) ## run random command lines in one process: LINES=3000
	$(BIN)/python -m tests.cli.random_lines $(LINES)

test-torch: $(if $(VERSION),.venv-torch-$(VERSION)/installed) ## run the tests with another torch: VERSION=2.15.0
	@test -n '$(VERSION)' || { echo 'make test-torch wants a version: VERSION=2.15.0' >&2; exit 2; }
	.venv-torch-$(VERSION)/bin/python -m pytest -n 2

# The same as the pinned environment but for torch and torchvision, which pip matches to it.
.venv-torch-%/installed: pyproject.toml constraints.txt
	test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	grep -v '^torch' constraints.txt > $(@D)/constraints.txt
	$(@D)/bin/python -m pip install --quiet --constraint $(@D)/constraints.txt \
		--editable '.[models,dev]' torch==$*
	touch $@

lint: $(STAMP) ## check style, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: $(STAMP) ## hold the steps of flopratio.toml against their lock, and run a small sweep
	$(BIN)/flopratio check
	output=$$(mktemp -d) && trap 'rm -r "$$output"' EXIT && \
	$(BIN)/flopratio sweep depth=1,2,3,5 batch=1,2,8 --measure none -o "$$output"

bench: $(STAMP) ## time this tool against its peers
	for script in benchmarks/*.py; do $(BIN)/python $$script || exit 1; done

# Its theme advertises other programs otherwise.
docs: export DISABLE_MKDOCS_2_WARNING = true
docs: export NO_MKDOCS_2_WARNING = 1
docs: $(STAMP) ## build the documentation into site/, strictly
	$(BIN)/mkdocs build --strict

test-zoo: $(STAMP) ## try every model of torchvision, timm and transformers, into results/zoo.csv (long)
	$(BIN)/python -m tests.zoo.run

test-formula: $(STAMP) ## hold the closed forms of thirty models against textbooks and fresh traces, into results/formulas.csv (long)
	$(BIN)/python -m pytest tests/zoo/textbooks.py
	$(BIN)/python -m tests.zoo.formulas

experiments: $(ARBITERS) ## run the published claims again, each into results/
	PYTHONPATH=. $(BIN)/python -m experiments -j 2

check-experiments: $(ARBITERS) ## run them into a temporary folder; fails if a claim isn't as in results/
	PYTHONPATH=. $(BIN)/python -m experiments -j 2 --check

# Everything that only a GPU can tell. PYTHON is used as it is, if it has torch for the DEVICE.
DEVICE ?= cuda
OUT ?= gpu-results
HAS_TORCH := import sys, torch; sys.exit("$(DEVICE)" == "cuda" and not torch.cuda.is_available())
ifneq ($(filter gpu,$(MAKECMDGOALS)),)
GPU_PYTHON := $(shell $(PYTHON) -c '$(HAS_TORCH)' 2> /dev/null && echo $(PYTHON))
endif
gpu: $(if $(GPU_PYTHON),,$(STAMP)) ## measure what only a GPU can tell, into OUT=gpu-results: STAGE=smoke,zoo MINUTES=8
	PYTHONPATH=.$${PYTHONPATH:+:$$PYTHONPATH} $(or $(GPU_PYTHON),$(BIN)/python) -m experiments.gpu \
		--device $(DEVICE) -o '$(OUT)' $(if $(STAGE),--stage $(STAGE)) \
		$(if $(MINUTES),--minutes $(MINUTES)) $(if $(SMALL),--small) $(if $(AGAIN),--again)

FROM ?= $(OUT)
TO ?= results/h200
gpu-results: $(STAMP) ## draw and judge what make gpu brought back: FROM=gpu-results TO=results/h200
	PYTHONPATH=. $(BIN)/python -m experiments.gpu.results '$(FROM)' '$(TO)'
