# make run    sets everything up and shows the four model programs between real processes
# make test   sets everything up and passes the tests
# make lint   checks labels, links, names, code in documents, and public documentation; make format formats the code
# make docs   builds the documentation
# make bench  measures, beside what the machine can do at best; make bench-peers measures others as well
# make bench-tail  measures the slowest of many messages at a fixed rate, and counts what may hold one up
# make model  checks the models of the lock-free protocols
# make crash  kills a process at each step of the library
# make soak   tortures ports for a minute: 16 processes, 1,000 ports, random kills
# make examples  builds and runs ports in event loops of others: poll, SwiftNIO
# make macros    builds swift-syntax, and tests what the macro `@MessageValue` derives
# make fuzz   feeds everything that reads what a peer wrote
# make attack  lets processes attack another in each way; make attack MODE=requeue SECONDS=60, MODE=random SECONDS=600
# make mutants   puts small faults in, and sees that a test notices each; make mutants SAMPLE=5 for some of them
# make sanitize  passes the tests under the address, leak, thread and undefined-behaviour sanitizers
#
# Everything works on a fresh Debian 12 or Ubuntu 24.04 with a Swift toolchain. `swift build` and `swift test` work as
# well, once liburing-dev is installed.

SHELL := /bin/bash
.DEFAULT_GOAL := help

.PHONY: help setup build run doctor torture test model model-quick soak soak-others soak-quick soak-planted crash \
	crash-random fuzz fuzz-quick attack sanitize sanitize-quick mutants bench bench-peers bench-tail \
	check-instructions examples macros lint docs format check-format clean

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
	@scripts/setup.sh bubblewrap
	swift build --build-tests
	scripts/test.sh

## What no compiler checks: labels of orderings, names in the models, links, code in documents, documentation.
lint: setup
	@scripts/setup.sh python3
	swift build --build-tests
	@scripts/lint.sh

docs: setup
	@scripts/setup.sh python3
	swift build
	@scripts/docs.sh

format:
	@scripts/format.sh

check-format:
	@scripts/format.sh --check

## The models of the lock-free protocols, and their broken variants, which have to fail.
model model-quick:
	@scripts/setup.sh spin gcc
	Tests/Models/run.sh $(if $(filter model-quick,$@),--quick)

## Needs the machine for itself. Options: Benchmarks/README.md.
bench: setup
	@scripts/setup.sh make gcc g++ binutils valgrind python3-venv
	Benchmarks/run.sh

## The same with the peers, which are installed.
bench-peers: setup
	@scripts/setup.sh make gcc g++ binutils valgrind python3-venv
	Benchmarks/run.sh --peers

## Needs the machine for itself, half a minute. More: Benchmarks/tail.sh --seconds 20 --rate 100000 --repetitions 3
bench-tail: setup
	Benchmarks/tail.sh

## Ports in event loops that are not the library's.
examples: setup
	swift build --package-path Examples
	Examples/.build/debug/PollLoop
	Examples/.build/debug/NIOLoop

## What is derived, beside what the compiler derives for Codable.
macros: setup
	scripts/macros.sh

## The instructions that a message costs: repeatable where a time is not.
check-instructions: setup
	@scripts/setup.sh binutils valgrind
	Benchmarks/check-instructions.sh --quiet

torture: setup
	swift build -c release --product Torture

## Random work, random deaths, and every message accounted for. Longer: make soak SECONDS=3600
soak: SECONDS ?= 60
soak: torture
	.build/release/Torture --seconds $(SECONDS) --processes 16 --ports 1000

## The same on the other driver, then in the other kind of memory.
soak-others: SECONDS ?= 60
soak-others: torture
	MESSAGEPORTS_DRIVER=epoll .build/release/Torture --seconds $(SECONDS) --processes 16 --ports 1000
	MESSAGEPORTS_BACKING=posixSharedMemory .build/release/Torture --seconds $(SECONDS) --processes 16 --ports 1000

## Plants bugs, and shows that the torture finds them.
soak-planted: setup
	scripts/soak-planted.sh

soak-quick: torture
	.build/release/Torture --seconds 5 --processes 4 --ports 100

## Dies at every step of the library, in every situation of the other side, on both drivers and in both kinds of memory.
crash: setup
	scripts/crash.sh steps

## And at random moments; a fifth as often on the other driver, and in the other kind of memory: make crash-random KILLS=100
crash-random: KILLS ?= 10000
crash-random: setup
	scripts/crash.sh random $(KILLS)

## Coverage-guided: RUNS executions for each target with inputs of up to LENGTH bytes, or a few seconds.
fuzz: setup
	scripts/fuzz.sh --runs $(or $(RUNS),10000000) --length $(or $(LENGTH),1024)

fuzz-quick: setup
	scripts/fuzz.sh --quick

## Processes that do their worst to another, on both drivers: each mode alone, or MODE=random, or MODE=requeue+files. Fails
## if that was harmed, or an honest answer took EXCESS ms longer than a plain echo. See Tests/Attack/README.md.
attack: setup
	scripts/attack.sh $(or $(MODE),all) --seconds $(or $(SECONDS),60) --excess $(or $(EXCESS),50)

sanitize sanitize-quick: setup
	scripts/sanitize.sh $(if $(filter sanitize-quick,$@),--quick)

## Small faults in a scratch copy, one at a time: a test that is named with each has to fail. See scripts/mutants.py.
mutants: setup
	scripts/mutants.py $(if $(SAMPLE),--sample $(SAMPLE))

clean:
	rm -rf .build .build-*
