# `make` alone lists the targets.
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
# No question to the network on what people run here.
export DVC_NO_ANALYTICS := 1

# Seeds of the comparisons: a number of them, or a list (0,1,2).
SEEDS ?= 3

.PHONY: help install repro check test lint benchmark clean compare-sources ablation settings priors trials llcm variants beyond unpaired

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 26

install: .venv/installed ## create .venv and install requirements.txt

.venv/installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: Python 3.11 or newer is needed, $(PYTHON) is older; try make PYTHON=python3.11 …"; exit 1; }
	@echo "installing the packages of requirements.txt into .venv (some minutes, PyTorch is large)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

repro: .venv/installed ## run the pipeline (dvc repro), print the result table and what to try next
	@$(BIN)/python -m experiments.repository
	@$(BIN)/python -m stages.parts.run.params
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/dvc repro
	@$(BIN)/python -m stages.report --show
	@echo "try next, after . $(BIN)/activate:"
	@echo "  another value of a parameter      dvc exp run -n delta-5 -S otla.delta=5"
	@echo "  a picture to a ranked list        docs/search.md"
	@echo "  training with your own images     docs/your-data.md"

# The stages of the tests share the cores with pytest.
check test: export OMP_WAIT_POLICY ?= PASSIVE

check: lint ## lint and every quick test, in about a minute
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile

test: .venv/installed ## all tests, with the coverage of stages/ and search/
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest --cov --cov-fail-under=95

lint: .venv/installed ## ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

benchmark: .venv/installed ## time transport, clustering and ranking beside simple versions (minutes)
	@for each in jaccard ranking transport; do $(BIN)/python -m benchmarks.$$each || exit 1; done

compare-sources: .venv/installed ## the four labeled sources (paper Fig. 3, right)
	@$(BIN)/python -m experiments sources --seeds $(SEEDS)

ablation settings priors llcm variants beyond unpaired: .venv/installed
	@$(BIN)/python -m experiments $@ --seeds $(SEEDS)

ablation: ## the parts of the method, and labels by argmax (paper Table 2, Fig. 4)
settings: ## unsupervised, semi-supervised, supervised (paper Fig. 3, left)
llcm: ## LLCM, unsupervised and semi-supervised
priors: ## priors over labels for transport (beyond the paper)
variants: ## the paper's text and the released code beside params.yaml
unpaired: ## training identities without an infrared image
beyond: ## what goes beyond the paper: augmentation, infrared clusters, prototypes

trials: .venv/installed ## RegDB's ten trainings, their mean and standard deviation
	@$(BIN)/python -m experiments trials

clean: ## delete what runs left outside DVC's cache (keeps data/raw and .venv)
	@rm -rf .ckpt .dvc/tmp/comparisons logs dvc_plots data/synthetic data/images data/labels data/rankings models/*.safetensors models/export
