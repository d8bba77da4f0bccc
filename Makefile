# SPDX-License-Identifier: Apache-2.0
# Every verb installs what it needs first; run as root on Debian 12. `make help` lists them.
SHELL := /bin/bash
export PATH := $(CURDIR)/.tools/bin:$(PATH)
.DEFAULT_GOAL := help
.PHONY: help setup generate build demo test test-kernel lint bench simulate acceptance mutate up down compose-up compose-demo compose-down test-compose clean

help: ## list the verbs
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

setup: ## install what is missing: Debian packages, Node, pnpm, the workspace
	@tools/setup.sh

build: setup ## compile the services and the datapath
	@tools/build.sh

demo: build ## raise the lab and tell the story, every step measured (KEEP=1 leaves it running)
	@node packages/lab/dist/demo/main.js $(if $(KEEP),--keep) $(if $(ACT),--act $(ACT))

test: build ## run every test: lint, arrows, generated code, unit, integration, end to end, the demo
	@tools/test.sh

test-kernel: build ## run the datapath's tests on Debian 12's own kernel 6.1, emulated
	@tools/kernel/test.sh

lint: setup ## format and lint, arrows between packages, generated code up to date
	@tools/lint.sh

generate: setup ## make generated code again: messages, ABI, JSON Schema
	@tools/generate.sh

bench: build ## measure; ONLY=name for one part, FLOWS=1,100k for some flow counts, ROUNDS=n
	@node bench/dist/main.js $(if $(ONLY),--only $(ONLY)) $(if $(FLOWS),--flows $(FLOWS)) $(if $(ROUNDS),--rounds $(ROUNDS))

simulate: build ## turn a day of 1,000 nodes, 10,000 paths and 10 million flows by a clock; SIZE=small for some seconds, SEED=n
	@node bench/dist/simulate/main.js $(if $(SIZE),--size $(SIZE)) $(if $(SEED),--seed $(SEED))

acceptance: build ## run the acceptance tests and write docs/acceptance.md and build/acceptance.json
	@tools/acceptance.sh

mutate: build ## break the code in named ways; each must be noticed by its test
	@node tools/mutate.mjs $(if $(ONLY),--only $(ONLY))

compose-up: ## the stack in containers; installs and starts Docker where there is none (LAB=1 with client, server, firewalls)
	@tools/docker/compose.sh up

compose-demo: build ## the stack in containers with its lab: an intent applied, a packet steered, a trace shown
	@tools/docker/compose.sh demo

compose-down: ## take the containers down: networks, volumes, programs and all; stops the Docker that compose-up started
	@tools/docker/compose.sh down

test-compose: build ## test the stack in containers; base images are made from Debian's packages
	@tools/test-compose.sh

up: build ## run the stack on this machine's own devices: make up INTENT=my.yaml GATEWAY=edge1
	@node tools/up.mjs "$(INTENT)" "$(GATEWAY)"

down: ## stop what `make up` started, and take the programs off the devices
	@node tools/down.mjs

clean: ## remove what was built
	@rm -rf build datapath/build packages/*/dist services/*/dist cli/dist bench/dist tests/*/dist
