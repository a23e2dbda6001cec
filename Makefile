# make run    sets everything up and shows the four model programs between real processes
# make test   sets everything up and passes the tests
# make model  checks the models of the lock-free protocols
# make soak   tortures ports for a minute: 16 processes, 1,000 ports, random kills
#
# Both work on a fresh Debian 12 or Ubuntu 24.04 with a Swift toolchain. `swift build` and `swift test` work as well,
# once liburing-dev is installed.

SHELL := /bin/bash
.DEFAULT_GOAL := help

.PHONY: help setup build run doctor test model model-quick soak soak-quick clean

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | sed '/^$$/q'

setup:
	@scripts/setup.sh

build: setup
	swift build -c release --product messageports

## The main job.
run: build
	@.build/release/messageports demo

doctor: build
	@.build/release/messageports doctor

## The suite as the machine would have it, then what depends on the machine: the other driver, the other backing, and one
## processor.
test: setup
	swift build --build-tests
	scripts/test.sh

## The models of the lock-free protocols, and their broken variants, which have to fail.
model model-quick:
	@scripts/setup.sh spin gcc
	Tests/Models/run.sh $(if $(filter model-quick,$@),--quick)

## Random work, random deaths, and every message accounted for. Longer: make soak SECONDS=3600
soak: SECONDS ?= 60
soak: build
	.build/release/messageports torture --seconds $(SECONDS) --processes 16 --ports 1000

soak-quick: build
	.build/release/messageports torture --seconds 5 --processes 4 --ports 100

clean:
	rm -rf .build .build-*
