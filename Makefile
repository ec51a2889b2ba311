# The verbs of gdn, for people; the build itself is CMakeLists.txt and CMakePresets.json.
# Each verb installs what it lacks (scripts/setup), so it works on a fresh machine.

PREFIX ?= /usr/local
MAKEFLAGS += --no-print-directory
export CTEST_PARALLEL_LEVEL ?= $(shell nproc)

help:
	@echo 'make build      programs in build/bin: gdn, gdn-check'
	@echo 'make demo       build, then ask the small model in models/demo'
	@echo 'make test       all tests; again with sanitizers; 10 s of fuzzing for each target'
	@echo 'make bench      prove and time the kernels'
	@echo 'make gpu-test   prove every op and whole models on an NVIDIA GPU; gpu-bench times them'
	@echo 'make install    library, headers and programs into PREFIX ($(PREFIX))'
	@echo 'make fuzz       10 s of fuzzing for each target (FUZZ_SECONDS=10)'
	@echo 'make check-all  the long matrix: gcc, clang, cuda, sanitizers, 60 s of fuzzing'
	@echo 'make clean      remove build/'

setup:
	@scripts/setup

build: setup
	@cmake --preset release
	@cmake --build --preset release

demo:
	@scripts/demo

# One preset: configured, built and tested. TESTS selects, in the words of ctest.
matrix-%: setup
	@cmake --preset $* $(CONFIGURE)
	@cmake --build --preset $*
	@ctest --preset $* $(TESTS)

FUZZ_SECONDS ?= 10
FUZZ_SEED ?= 0
fuzz:
	@$(MAKE) matrix-fuzz CONFIGURE='-DGDN_FUZZ_SECONDS=$(FUZZ_SECONDS) -DGDN_FUZZ_SEED=$(FUZZ_SEED)'

test:
	@$(MAKE) fuzz FUZZ_SEED=1
	@$(MAKE) matrix-debug TESTS='-LE "slow|rules|mutants"'
	@$(MAKE) matrix-release

check-all:
	@$(MAKE) fuzz FUZZ_SECONDS=60
	@for preset in debug tsan clang cuda release; do $(MAKE) matrix-$$preset || exit 1; done

bench: build
	@build/bin/gdn-check --bench
	@for program in build/bin/gdn-bench-*; do $$program || exit 1; done

# On a machine with an NVIDIA GPU; elsewhere they build, say so and skip. `make gpu-pack` makes
# build/gpu.tar.xz of it, for a machine that has a GPU and no compiler.
gpu-programs: setup
	@cmake --preset gpu
	@cmake --build --preset gpu
	@cp build/gpu/tests/test_golden_forward build/gpu/tests/test_laws_cuda* build/gpu/bin/

gpu-test gpu-bench: gpu-%: gpu-programs
	@scripts/gpu $*

gpu-pack: gpu-programs
	@scripts/gpu pack build/gpu.tar.xz

install: build
	@cmake --install build/release --prefix $(PREFIX)

clean:
	@rm -rf build

.PHONY: help setup build demo fuzz test check-all bench gpu-programs gpu-test gpu-bench gpu-pack \
        install clean
