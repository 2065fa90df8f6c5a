# The two that matter: make test, make bench. The others make what is committed.
PYTHON ?= .venv/bin/python

# How many inputs each fuzz target tries. A count and not a duration: where a duration ends while a worker starts an input,
# Go reports "context deadline exceeded" as a failure of the target.
FUZZTIME ?= 5000x

.PHONY: test race lint fuzz bench golden asm

test:
	go test ./...

race:
	go test -race -short ./internal/cpu ./internal/hostmem ./internal/program ./internal/engine ./offload ./loader ./graphs ./pipeline ./cmd/euryale

lint:
	@test -z "$$(gofmt -l .)" || { gofmt -l .; exit 1; }
	go vet ./...
	GOOS=windows go vet ./...
	GOOS=darwin GOARCH=arm64 go vet ./...

# go test fuzzes one target at a time.
fuzz:
	@grep -rno --include=*_test.go "^func Fuzz[A-Za-z0-9]*" . | while IFS=: read -r file _ target; do \
		echo "$$(dirname $$file) $${target#func }"; \
		go test "$$(dirname $$file)" -run "^$$" -fuzz "^$${target#func }\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 100x || exit 1; \
	done

bench:
	go test -run '^$$' -bench . -timeout 60m ./bench

# Golden files come from diffusers on PyTorch; the versions are pinned in requirements.txt.
golden: .venv
	$(PYTHON) internal/golden/make_golden.py
	$(PYTHON) internal/golden/make_models.py

.venv: internal/golden/requirements.txt
	python3 -m venv .venv
	.venv/bin/pip install -r internal/golden/requirements.txt
	touch .venv

# Assembly is generated; the generator is a module of its own, so that avo is no dependency of ours.
asm:
	go generate ./internal/cpu

# The build for CUDA devices, here on a machine without a toolkit or a driver: cu and our shim compile with our own
# header and link with a stub. With a toolkit, CUDA_INCLUDE names the folder of its cuda.h instead.
CUDA := internal/cuda
CUDA_INCLUDE ?= $(CURDIR)/$(CUDA)/include
GPU_ENV = CGO_ENABLED=1 CGO_CFLAGS="-O2 -g -I$(CUDA_INCLUDE)" CGO_LDFLAGS="-L$(CURDIR)/build/stub"

.PHONY: gpu gpu-headers

gpu: build/stub/libcuda.so
	$(GPU_ENV) go build -tags gpu ./...
	$(GPU_ENV) go vet -tags gpu ./internal/cuda/...
	$(GPU_ENV) go build -tags gpu -o build/euryale ./cmd/euryale
	$(GPU_ENV) go test -tags gpu -c -o build/cuda.test ./internal/cuda
	$(CUDA)/include/check_symbols.sh build/euryale build/cuda.test

# Compares our header with that of a toolkit: make gpu-headers CUDA_INCLUDE=...
gpu-headers:
	$(CUDA)/include/check.sh $(CUDA_INCLUDE)

# What a binary needs to link, and to name libcuda.so.1 as what it needs to run.
build/stub/libcuda.so: $(CUDA)/include/driver_symbols.txt
	mkdir -p $(@D)
	awk '/^cu/ { print "void " $$1 "(void) {}" }' $< | gcc -shared -fPIC -Wl,-soname,libcuda.so.1 -x c -o $@ -

# PTX from the kernels' sources; a test compares what is committed with them.
.PHONY: kernels
kernels:
	python3 -m venv .venv/kernels
	.venv/kernels/bin/pip install -q nvidia-cuda-nvrtc-cu11==11.8.89 nvidia-cuda-nvrtc-cu12==12.0.76
	.venv/kernels/bin/python $(CUDA)/kernels/build.py

# The stand-in driver, for tests of the gpu build without a GPU. With LD_LIBRARY_PATH=build/standin EURYALE_STANDIN=1
# binaries run on it; see internal/cuda/standin/standin.h.
.PHONY: standin standin-asan contract

standin:
	$(MAKE) -s -C $(CUDA)/standin OUT=$(CURDIR)/build/standin all

standin-asan:
	$(MAKE) -s -C $(CUDA)/standin OUT=$(CURDIR)/build/standin asan

# What the driver's documentation promises, asked of the stand-in; build/contract/contract asks a real one.
contract: standin build/contract/contract
	LD_LIBRARY_PATH=build/standin EURYALE_STANDIN=1 EURYALE_STANDIN_SCHEDULE=lazy build/contract/contract

build/contract/contract: $(wildcard $(CUDA)/contract/*) build/stub/libcuda.so
	mkdir -p $(@D)
	g++ -std=c++17 -O1 -Wall -Wextra -I$(CUDA)/include $(CUDA)/contract/*.cc -o $@ -static-libstdc++ -static-libgcc -Lbuild/stub -lcuda -ldl -pthread

# go test with the tag gpu, on the stand-in: without a device it fails, and does not skip. PKG and ARGS narrow it down.
.PHONY: test-gpu
PKG ?= ./...

test-gpu: standin build/stub/libcuda.so
	LD_LIBRARY_PATH=$(CURDIR)/build/standin EURYALE_STANDIN=1 GPU=1 $(GPU_ENV) go test -count=1 -timeout 30m -tags gpu $(ARGS) $(PKG)

# The loops of which test-gpu takes samples, whole: every driver call of a picture fails, every call of a pipeline that goes
# on, 2,000 schedules. As many processes as processors share them; what each says is in build/every.
.PHONY: test-gpu-every
EVERY ?= EveryDriverCall|AtEveryCall|OutlivesEvery|Schedules

test-gpu-every: standin build/stub/libcuda.so
	mkdir -p build/every
	$(GPU_ENV) go test -tags gpu -c -o build/every/pipeline.test ./pipeline
	@cd pipeline && n=$$(nproc) && for i in $$(seq $$n); do \
		LD_LIBRARY_PATH=$(CURDIR)/build/standin EURYALE_STANDIN=1 GPU=1 EURYALE_EVERY=1 EURYALE_SHARD=$$i/$$n \
			../build/every/pipeline.test -test.v -test.timeout 3h -test.run '$(EVERY)' >../build/every/$$i.log 2>&1 & \
		all="$$all $$!"; \
	done; bad=0; for p in $$all; do wait $$p || bad=1; done; \
	grep -hE '^ *(---|[a-z_]*_test.go)' ../build/every/*.log; exit $$bad

# The stand-in's own test: it sees mistakes made on purpose, and none in 2,000 schedules of a right program.
.PHONY: standin-test
standin-test: standin build/standin/selftest
	LD_LIBRARY_PATH=build/standin EURYALE_STANDIN=1 build/standin/selftest

build/standin/selftest: $(wildcard $(CUDA)/standin/selftest/*) $(CUDA)/standin/standin.h
	g++ -std=c++17 -O1 -Wall -Wextra -I$(CUDA)/include $(CUDA)/standin/selftest/*.cc -o $@ -Lbuild/standin -lcuda -pthread

# Kernels under the address and undefined-behaviour sanitizers, from the tests of ops.
.PHONY: test-gpu-asan
test-gpu-asan: standin-asan build/contract/contract
	mkdir -p build/asan
	LD_PRELOAD=$$(gcc -print-file-name=libasan.so) ASAN_OPTIONS=detect_leaks=0 EURYALE_STANDIN=1 \
		LD_LIBRARY_PATH=build/standin/asan build/contract/contract
	$(GPU_ENV) go test -tags gpu -c -o build/asan/ops.test ./internal/ops
	cd internal/ops && LD_PRELOAD=$$(gcc -print-file-name=libasan.so) ASAN_OPTIONS=detect_leaks=0 EURYALE_STANDIN=1 \
		LD_LIBRARY_PATH=$(CURDIR)/build/standin/asan ../../build/asan/ops.test -test.run Device

# Everything a run on a GPU needs, in one folder under 64 MiB for a bare machine with a driver: gpu-bundle/run.sh. The
# binaries share most of what they are made of, so they are packed together. The wheel of diffusers is for the comparison
# with it; without pip the folder is made without.
.PHONY: gpu-bundle
gpu-bundle: build/stub/libcuda.so build/contract/contract
	rm -rf gpu-bundle build/bundle
	mkdir -p gpu-bundle build/bundle/wheels
	$(GPU_ENV) go build -tags gpu -ldflags=-s -o build/bundle/euryale ./cmd/euryale
	for p in internal/ops graphs pipeline bench; do \
		$(GPU_ENV) go test -tags gpu -c -ldflags=-s -o build/bundle/$${p##*/}.test ./$$p || exit 1; done
	CGO_ENABLED=0 go build -ldflags=-s -o build/bundle/mkmodel ./bench/mkmodel
	cp build/contract/contract build/bundle
	cp -r internal/golden/testdata build/bundle/golden
	cp -r bench/peers build/bundle/peers
	python3 -m pip download -q --no-deps -d build/bundle/wheels diffusers==0.34.0 || echo "no wheel of diffusers"
	tar -C build/bundle -cf - . | xz -T1 --lzma2=preset=6,dict=192MiB >gpu-bundle/parts.tar.xz
	cp bench/gpu/run.sh gpu-bundle
	du -sm gpu-bundle

# Cases by the ten thousand through Euryale and through diffusers; see the script. ARGS narrows it down.
.PHONY: differential
differential: .venv
	$(PYTHON) bench/differential/differential.py $(ARGS)
