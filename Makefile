# The two that matter: make test, make bench. The others make what is committed.
PYTHON ?= .venv/bin/python

# How long each fuzz target runs.
FUZZTIME ?= 5s

.PHONY: test race lint fuzz bench golden asm

test:
	go test ./...

race:
	go test -race -short ./internal/cpu ./internal/hostmem ./internal/program ./loader ./graphs ./cmd/euryale

lint:
	@test -z "$$(gofmt -l .)" || { gofmt -l .; exit 1; }
	go vet ./...
	GOOS=windows go vet ./...
	GOOS=darwin GOARCH=arm64 go vet ./...

# go test fuzzes one target at a time.
fuzz:
	@grep -rno --include=*_test.go "^func Fuzz[A-Za-z0-9]*" . | while IFS=: read -r file _ target; do \
		echo "$$(dirname $$file) $${target#func }"; \
		go test "$$(dirname $$file)" -run "^$$" -fuzz "^$${target#func }\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1s || exit 1; \
	done

bench:
	go test -run '^$$' -bench . -timeout 60m ./bench

# Golden files come from diffusers on PyTorch; the versions are pinned in requirements.txt.
golden: .venv
	$(PYTHON) internal/golden/make_golden.py

.venv: internal/golden/requirements.txt
	python3 -m venv .venv
	.venv/bin/pip install -r internal/golden/requirements.txt
	touch .venv

# Assembly is generated; the generator is a module of its own, so that avo is no dependency of ours.
asm:
	go generate ./internal/cpu
