# `make demo` and `make test` do all the set-up that they need; see README.md for the rest.
PYTHON ?= python3
PIP_ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
# The stages are run by name, so that the environment is the one that was set up here.
IN_VENV := PATH="$(CURDIR)/$(BIN):$$PATH"
PIP_INSTALL := $(BIN)/pip install --quiet --no-compile --disable-pip-version-check -c requirements-lock.txt $(PIP_ARGS)

.PHONY: help setup demo test test-long check bench bench-processes bench-large thesis ui summary clean distclean
.DEFAULT_GOAL := help

help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

$(VENV)/runtime: requirements.txt requirements-lock.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $(PYTHON) is older than 3.11; name a newer one: make setup PYTHON=python3.12" >&2; exit 1; }
	@echo "setting up $(VENV): some minutes and, once, the package index"
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	@$(PIP_INSTALL) -r requirements.txt
	@touch $@

$(VENV)/dev: $(VENV)/runtime requirements-dev.txt
	@$(PIP_INSTALL) -r requirements-dev.txt
	@touch $@

setup: $(VENV)/runtime  ## make .venv with everything that the pipeline needs

demo: setup  ## run the whole pipeline on params.yaml and print the verdict
	@$(IN_VENV) dvc repro
	@$(IN_VENV) python3 -m pipeline.summary

summary: setup  ## print the verdict of the last run again
	@$(IN_VENV) python3 -m pipeline.summary

test: $(VENV)/dev  ## run the quick tests
	@$(IN_VENV) python3 -m pytest

test-long: $(VENV)/dev  ## run the tests that take longer
	@$(IN_VENV) python3 -m pytest -m long

check: $(VENV)/dev  ## run the formatter, the linter and the type checker
	@$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy

bench: setup  ## measure training speed against a plain loop: reports/benchmarks (4 minutes)
	@$(IN_VENV) python3 -m benchmarks.train_throughput

bench-processes: setup  ## measure training in 1, 2 and 4 processes: reports/benchmarks (3 minutes)
	@$(IN_VENV) python3 -m benchmarks.processes

bench-large: setup  ## measure memory and time as the data grow: reports/benchmarks (15 minutes)
	@$(IN_VENV) python3 -m benchmarks.large_data

ui: setup  ## open the MLflow UI on this machine, http://127.0.0.1:5000
	@$(IN_VENV) MLFLOW_DISABLE_TELEMETRY=true mlflow ui --host 127.0.0.1 --port $(PORT) \
	  --backend-store-uri "$${MLFLOW_TRACKING_URI:-sqlite:///$(CURDIR)/mlflow.db}"
PORT ?= 5000

# The thesis's networks and schedule, as values of `dvc exp run -S`. Learning rate, beta1 and the
# dropout rate are not stated there; these are DCGAN's usual ones.
EPOCHS ?= 200
NAME ?= thesis
SET ?=
define THESIS_CLASS
train.$(1).generator.latent=100
train.$(1).generator.base_channels=256
train.$(1).generator.channels=[128,128,128]
train.$(1).generator.kernels=[4,4,4]
train.$(1).generator.strides=[2,2,2]
train.$(1).generator.upsampling=transposed
train.$(1).generator.output_kernel=3
train.$(1).generator.normalization=none
train.$(1).generator.slope=0.2
train.$(1).discriminator.channels=[128,256,256,512]
train.$(1).discriminator.kernels=[3,3,3,3]
train.$(1).discriminator.strides=[1,2,2,2]
train.$(1).discriminator.normalization=none
train.$(1).discriminator.slope=0.2
train.$(1).discriminator.dropout=0.4
train.$(1).initialization=xavier
train.$(1).loss=bce
train.$(1).label_smoothing=0.0
train.$(1).gradient_penalty=0.0
train.$(1).discriminator_updates=apart
train.$(1).augmentation=[]
train.$(1).average=0.0
train.$(1).optimizer.generator.name=adam
train.$(1).optimizer.generator.learning_rate=0.0002
train.$(1).optimizer.generator.beta1=0.5
train.$(1).optimizer.generator.beta2=0.999
train.$(1).optimizer.generator.epsilon=1e-7
train.$(1).optimizer.discriminator.name=adam
train.$(1).optimizer.discriminator.learning_rate=0.0002
train.$(1).optimizer.discriminator.beta1=0.5
train.$(1).optimizer.discriminator.beta2=0.999
train.$(1).optimizer.discriminator.epsilon=1e-7
train.$(1).batch=128
train.$(1).epochs=$(EPOCHS)
train.$(1).samples.epochs=[1,10,50,100,150]
endef
THESIS := preprocess.size=64 $(call THESIS_CLASS,normal) $(call THESIS_CLASS,pneumonia) $(SET)

thesis: setup  ## train the thesis on real images: make thesis DATA=chest_xray.zip [EPOCHS=1] [NAME=..] [SET="key=value .."]
	@test -n "$(DATA)" || { echo 'error: name the real images: make thesis DATA=<zip or folder>' >&2; exit 1; }
	@export $(IN_VENV); \
	data=$$(realpath -e "$(DATA)") || exit 1; \
	sum=$$(python3 -m pipeline.fetch --checksum "$$data") || exit 1; \
	set -- data.source=kermany "data.path=$$data" "data.sha256=$$sum" $(foreach item,$(THESIS),'$(item)'); \
	python3 -m pipeline.estimate "$$@" || exit 1; \
	for item; do set -- "$$@" -S "$$item"; shift; done; \
	set -x; dvc exp run -n "$(NAME)" "$$@" || exit 1; set +x; \
	python3 -m pipeline.summary

clean:  ## remove models and reports; data, checkpoints, DVC's cache, the tracking store and .venv stay
	rm -rf models reports/index.html reports/figures reports/fid dvc_plots

distclean: clean  ## remove everything that git does not hold
	rm -rf data .checkpoints $(VENV) .dvc/cache .dvc/tmp mlflow.db* mlartifacts .mlflow.lock
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
