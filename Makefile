SHELL := /bin/bash
PORT ?= 5000
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export DVC_NO_ANALYTICS := 1

.PHONY: help setup setup-dev run test test-faults ui bench lint types check docs reference sbom lock clean

help: ## show this
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

setup: ## make .venv from requirements.lock; repairs an interrupted installation
	@scripts/setup.sh

setup-dev:
	@scripts/setup.sh dev

run: setup ## train, evaluate and export every recipe in params.yaml, then say where to look
	@trainyard repair --wait
	@trainyard check
	@dvc repro
	@trainyard report

# Tests share their machine with whatever else runs there. What failed is tried once more, alone, and both are shown.
# What starts clusters has the machine to itself; the rest runs in as many processes as there are processors, of one thread each.
BESIDE := --numprocesses=auto --maxprocesses=8 --dist=loadfile
FAULTS := (cluster or pipeline or faults or browser)
once-more = pytest -m "$(1)" $(2) || { echo "Once more, what failed:"; pytest -m "$(1)" --last-failed --last-failed-no-failures=none; }

test: setup-dev ## pass all tests that this machine can run
	@OMP_NUM_THREADS=1 $(call once-more,not long and not $(FAULTS),$(BESIDE))
	@$(call once-more,not long and $(FAULTS))

test-faults: setup-dev ## the faults that take minutes each, which `make test` leaves out
	@pytest -m long

ui: setup ## serve the runs' pages on 127.0.0.1; PORT=5001 chooses another port
	@trainyard ui --port $(PORT)

bench: setup ## training speed, start-up and memory beside what one would write instead, in a quarter of an hour; DATA=folder
	@python benchmarks/bench.py $(if $(DATA),--data $(DATA)) $(BENCH) --json bench.json --chart bench.svg

lint: setup-dev ## ruff, the import directions, and the Dockerfiles
	@ruff check . && ruff format --check . && lint-imports --no-logo && hadolint $(shell git ls-files '*Dockerfile')

types: setup-dev ## mypy, strict
	@mypy

check: lint types docs test ## all of them

docs: setup-dev ## build the pages of docs/ as a site, into site/
	@NO_MKDOCS_2_WARNING=1 mkdocs build --strict --quiet && echo "site/index.html; with search: python -m http.server 8080 --bind 127.0.0.1 -d site"

reference: setup ## write docs/reference/ anew from the code
	@python scripts/reference.py

sbom: setup ## say what .venv is made of, in CycloneDX: sbom.cdx.json
	@scripts/sbom.sh .venv/bin/python sbom.cdx.json && echo sbom.cdx.json

lock: ## write the locks anew, from what pip resolves today
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && \
	  python3.11 -m venv "$$folder" && "$$folder/bin/python" scripts/lock.py

clean: ## delete .venv
	@rm -rf .venv
