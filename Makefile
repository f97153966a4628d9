# `make demo` and `make test` do all the set-up that they need; README.md and docs/ have the rest.
PYTHON ?= python3
PIP_ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
# The stages are run by name, so that the environment is the one that was set up here.
IN_VENV := PATH="$(CURDIR)/$(BIN):$$PATH"
PIP_INSTALL := $(BIN)/pip install --quiet --no-compile --disable-pip-version-check -c requirements-lock.txt $(PIP_ARGS)

.PHONY: help setup doctor demo summary test test-long torture coverage audit check bench bench-evaluation bench-processes \
  bench-tuning bench-large bench-long-use bench-seeds bench-startup bench-ablation mutants real thesis tune compare promote serve sync ui docs pictures clean distclean
.DEFAULT_GOAL := help

help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

$(VENV)/runtime: requirements.txt requirements-lock.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $(PYTHON) is older than 3.11; name a newer one: make setup PYTHON=python3.12" >&2; exit 1; }
	@echo "setting up $(VENV): some minutes and, once, the package index"
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	@$(PIP_INSTALL) -r requirements.txt
	@$(BIN)/python -m src.common.precompile
	@touch $@

$(VENV)/dev: $(VENV)/runtime requirements-dev.txt
	@$(PIP_INSTALL) -r requirements-dev.txt
	@touch $@

setup: $(VENV)/runtime  ## make .venv with everything that the pipeline needs

doctor: setup  ## say what is missing on this machine, and what to do
	@$(IN_VENV) python3 -m src.doctor

demo: setup  ## run the whole pipeline on params.yaml and print the verdict
	@$(IN_VENV) dvc repro
	@$(IN_VENV) python3 -m src.summary

summary: setup  ## print the verdict of the last run again
	@$(IN_VENV) python3 -m src.summary

test: $(VENV)/dev  ## run the quick tests, side by side
	@$(IN_VENV) python3 -m pytest -n logical --maxprocesses 4 --dist worksteal

test-long: $(VENV)/dev  ## run the tests that take longer, side by side (half an hour on two cores)
	@$(IN_VENV) python3 -m pytest -m long -n logical --maxprocesses 4 --dist worksteal

torture: $(VENV)/dev  ## try more faults than CI does: kills, full disks, bad input, commands at once (40 minutes)
	@$(IN_VENV) TORTURE=1 python3 -m pytest -m "long or not long" tests/test_corpus.py tests/test_environment.py \
	  tests/pipeline/test_full_disk.py tests/pipeline/test_kill.py tests/pipeline/test_server_away.py \
	  tests/pipeline/test_concurrent.py

coverage: $(VENV)/dev  ## tell which lines of the library the quick tests do not run
	@$(IN_VENV) python3 -m coverage run --source src,pipeline -m pytest
	@$(IN_VENV) python3 -m coverage report --skip-covered --show-missing

audit: $(VENV)/dev  ## look for known weaknesses of the pinned packages (needs the advisories of the package index)
	@told=$$($(BIN)/pip-audit --strict --progress-spinner off --disable-pip --no-deps -r requirements-lock.txt 2>&1); \
	status=$$?; case "$$status $$told" in \
	  *"Found "*" known vulnerabilit"*) echo "$$told"; exit $$status ;; \
	  "1 "*"could not be audited"*|"1 "*"Could not connect"*) \
	    echo "skipped: this package index gives no advisories, so nothing is known of the packages" ;; \
	  *) echo "$$told"; exit $$status ;; esac

check: $(VENV)/dev  ## run the formatter, the linter and the type checker
	@$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy

mutants: $(VENV)/dev  ## try which changes of the science no test notices: [MODULES="frechet intervals"] (many hours for all)
	@$(IN_VENV) python3 -m benchmarks.mutants $(MODULES)
MODULES ?=

bench-evaluation: setup  ## measure distances and the FID network against the plain way: reports/benchmarks (5 minutes)
	@$(IN_VENV) python3 -m benchmarks.evaluation

bench: setup  ## measure training speed against a plain loop: reports/benchmarks [DEVICE=cuda] (10 minutes)
	@$(IN_VENV) python3 -m benchmarks.train_throughput --device $(DEVICE)
DEVICE ?= cpu

bench-processes: setup  ## measure training in 1, 2 and 4 processes: reports/benchmarks (5 minutes)
	@$(IN_VENV) python3 -m benchmarks.processes

bench-tuning: setup  ## measure how many trials a minute a search's storage bears: reports/benchmarks [STORAGE=URL] (2 minutes)
	@$(IN_VENV) python3 -m benchmarks.tuning $(if $(STORAGE),--storage "$(STORAGE)")

bench-large: setup  ## measure memory and time as the data grow: reports/benchmarks (15 minutes)
	@$(IN_VENV) python3 -m benchmarks.large_data

bench-long-use: setup  ## watch memory and open files over thousands of steps, trials and requests: reports/benchmarks (10 minutes)
	@$(IN_VENV) python3 -m benchmarks.long_use

bench-startup: setup  ## measure how soon commands answer and stages begin: reports/benchmarks (5 minutes)
	@$(IN_VENV) python3 -m benchmarks.startup

bench-ablation: setup  ## measure what each choice of the training brings to variety and distance: reports/benchmarks (half an hour)
	@$(IN_VENV) python3 -m benchmarks.ablation ablation_demo

bench-seeds: setup  ## measure how far the demo's scores move with the seed: reports/benchmarks (half an hour)
	@$(IN_VENV) python3 -m benchmarks.seeds

tune: setup  ## search for better networks and trainings: make tune [WORKERS=2] [CLASS=normal]
	@$(IN_VENV) python3 -m src.tune --workers $(WORKERS) $(if $(CLASS),--class $(CLASS))
WORKERS ?= 1
CLASS ?=

compare: setup  ## compare all experiments: a table here, a page in reports/experiments.html
	@$(IN_VENV) python3 -m src.compare

promote: setup  ## let the last run's generators be MLflow's champions, if they are better: [CLASS=normal]
	@$(IN_VENV) python3 -m src.promote $(if $(CLASS),--class $(CLASS))

# A request names seeds and numbers of images, see docs/howto/serve.md.
serve: setup  ## draw images on request: make serve CLASS=normal [ALIAS=champion], http://127.0.0.1:5001
	@test -n "$(CLASS)" || { echo 'error: name the class: make serve CLASS=normal' >&2; exit 1; }
	@$(IN_VENV) python3 -m src.serve --class "$(CLASS)" --alias "$(ALIAS)" --port $(SERVE_PORT)
ALIAS ?= candidate
SERVE_PORT ?= 5001

# Not --quiet, which would silence the warnings that --strict counts.
docs: $(VENV)/dev  ## build the documentation as a site, site/index.html, and check its links
	@$(IN_VENV) NO_MKDOCS_2_WARNING=1 python3 -m mkdocs build --strict
	@echo "built: site/index.html"

pictures: $(VENV)/dev  ## take the documentation's pictures of the report and the MLflow UI again (chromium, after make demo)
	@$(IN_VENV) python3 -m docs.pictures

sync: setup  ## deliver to MLflow what was logged while its server was away
	@$(IN_VENV) python3 -m src.sync

ui: setup  ## open the MLflow UI on this machine, http://127.0.0.1:5000
	@$(IN_VENV) python3 -m src.ui --port $(PORT)
PORT ?= 5000

# Real images. NETWORKS names a preset, a file of networks/ without its ending, whose settings replace
# those of params.yaml. The words of SET are split as a shell does, so that values may be quoted.
NETWORKS ?= real
EPOCHS ?=
EPOCHS_NORMAL ?=
EPOCHS_PNEUMONIA ?=
NAME ?=
SET ?=
EXPERIMENTS ?=

real: setup  ## train on real images: make real DATA=chest_xray.zip [EPOCHS=1] [NAME=..] [NETWORKS=..] [EXPERIMENTS=1] [SET="key=value .."]
	@test -n "$$DATA" || { echo 'error: name the real images: make real DATA=<zip or folder>' >&2; exit 1; }
	@set -f; $(IN_VENV) python3 -m src.real "$$DATA" --preset "$(NETWORKS)" \
	  $(if $(EPOCHS),--epochs "$(EPOCHS)") $(if $(EPOCHS_NORMAL),--epochs-normal "$(EPOCHS_NORMAL)") \
	  $(if $(EPOCHS_PNEUMONIA),--epochs-pneumonia "$(EPOCHS_PNEUMONIA)") $(if $(NAME),--name "$(NAME)") \
	  $(if $(EXPERIMENTS),--experiments) $(if $(SET),--set $(SET))

thesis: NETWORKS = thesis
thesis: real  ## the same with the thesis's networks and its 200 epochs

clean:  ## remove models and reports; data, checkpoints, DVC's cache, the tracking store and .venv stay
	rm -rf models reports/index.html reports/experiments.html reports/model-card.md reports/figures reports/fid reports/privacy reports/utility dvc_plots

distclean: clean  ## remove all else that runs and tools left: DVC's cache, MLflow's store, searches, data, .venv
	rm -rf data .checkpoints $(VENV) .dvc/cache .dvc/tmp mlflow.db* mlartifacts .mlflow.lock .tracking
	find . -name '.*-new-*' -not -path './.git/*' -prune -exec rm -rf {} +
	rm -rf tune.journal* reports/tune .coverage .hypothesis .mypy_cache .ruff_cache .pytest_cache site
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
