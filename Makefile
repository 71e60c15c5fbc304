# Everything a developer does here. `make help` lists the targets.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

# Which Python the environment gets: a version, a range or a path, as `uv venv --python` takes it.
PYTHON ?= >=3.11,<3.15
# The published contract, which later versions may add to but not break.
BASELINE := proto/baseline.binpb
# How many processes run the tests side by side; each starts servers of its own and loads PyTorch.
TEST_PROCESSES ?= 2
# For instance --upgrade, or --upgrade-package NAME.
LOCK_FLAGS ?=

PACKAGES := engines clients/python server models/tiny
PROJECTS := $(PACKAGES:%=%/pyproject.toml)
CODE := $(wildcard server engines clients/python models/tiny tests examples bench scripts)
UV := .tools/uv/bin/uv
# uv finds Pythons on the PATH; here it finds those of pyenv that are not the global one, too.
FIND_PYTHON := PATH="$$PATH$$(printf ':%s' "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/3.1[1-9]*/bin)"
BIN := .venv/bin
INSTALLED := .venv/installed
CONTRACT := server/atelier_server/rpc/contract.binpb
SCALER := server/atelier_server/rpc/externalscaler
SDKS := chart checkov readers replicate runpod sbom vastai
GRPCURL := .tools/bin/grpcurl
GRPCURL_VERSION := v1.9.3
GHZ := .tools/bin/ghz
GHZ_VERSION := v0.93.0
VERSITYGW := .tools/bin/versitygw
VERSITYGW_VERSION := v1.8.0
CRDS := .tools/crds
CLUSTER := .tools/cluster
PROMETHEUS := .tools/prometheus
POSTGRES_15 := .tools/postgres-15
# Versions of TensorRT's bindings and of the jar with its libraries, as in runtimes/tensorrt/releases.py.
TENSORRT_PAIRS := 11.2.1.2:11.2-1.5.14 10.15.1.29:10.15-1.5.13
TENSORRT_JAR := 11.2-1.5.14
TYPESCRIPT := clients/typescript
PLAYGROUND := clients/playground
PAGE := server/atelier_server/playground/index.html
GO_TOOLS := .tools/bin/go-client .tools/bin/go-proxy
GO_CLIENT := clients/go
JAVA_CLIENT := clients/java
RUST_CLIENT := clients/rust
RUST_TARGET := .tools/rust
# With their versions in the name, so that others are built when these change.
GO_PLUGINS := .tools/go-plugins/1.36.12-1.6.2

# --- For everybody

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: install
install: $(INSTALLED) playground ## Make .venv with everything a machine without GPU needs, and `atelier` in it

.PHONY: playground
playground: $(PAGE) ## Build the page that the HTTP port shows, if Node is there

.PHONY: demo
demo: install ## Generate out/demo.png and out/demo.wav over gRPC, with a server of its own
	$(BIN)/python examples/demo.py

.PHONY: demo-cluster
demo-cluster: install versitygw ## Draw out/cluster.png with two gateways and three workers, of which one each is killed
	PYTHONPATH=. $(BIN)/python examples/cluster/demo.py

.PHONY: run
run: install ## Serve the embedded engines on this machine
	$(BIN)/atelier serve

# --- For developers

.PHONY: check
check: lint check-proto check-lock test test-dist clients-test ## Everything CI checks

.PHONY: test
test: install grpcurl ghz go-tools versitygw sdks crds prometheus tensorrt ## Run all tests but those that need a GPU
	$(BIN)/pytest -rs --numprocesses $(TEST_PROCESSES) --dist loadfile

.PHONY: test-postgres
test-postgres: install $(POSTGRES_15) ## Run the tests of the store on PostgreSQL 15 of Debian, too
	POSTGRES_PROGRAMS=$(abspath $(POSTGRES_15))/usr/lib/postgresql/15/bin \
		LD_LIBRARY_PATH=$(abspath $(POSTGRES_15))/usr/lib/$$(uname -m)-linux-gnu \
		$(BIN)/pytest -rs tests/store/test_postgres.py tests/store/test_postgres_faults.py tests/store/test_postgres_migrations.py

.PHONY: test-gpu
test-gpu: install ## Run the tests that need a GPU
	$(BIN)/pytest -m gpu

.PHONY: test-tensorrt
test-tensorrt: install ## Run the tests of TensorRT without a driver with every version that it is used in: a GB is downloaded
	for pair in $(TENSORRT_PAIRS); do \
		$(MAKE) tensorrt TENSORRT_JAR="$${pair#*:}"; \
		$(UV) pip install --quiet --python $(BIN)/python --no-deps --target .tools/tensorrt/"$${pair%:*}" tensorrt-cu13-bindings=="$${pair%:*}"; \
		PYTHONPATH=.tools/tensorrt/"$${pair%:*}" $(BIN)/pytest -rs tests/engines/diffusion/test_tensorrt_driverless.py; \
	done

.PHONY: test-dist
test-dist: install .tools/sdk/sbom/installed ## Build all distributions, and use them in empty environments
	$(BIN)/pytest -m dist

.PHONY: clients-test
clients-test: install $(TYPESCRIPT)/dist/conformance.js .tools/bin/go-conformance .tools/bin/java-conformance $(RUST_TARGET)/debug/atelier-conformance ## Build the clients in other languages, and run the cases that all must meet
	$(BIN)/pytest -rs -m clients tests/clients

.PHONY: stubs-test
stubs-test: ## On Debian: make stubs for languages without a client here, and compile what a compiler is there for
	scripts/try_stubs.sh .tools/stubs

.PHONY: lint
lint: install ## Check format, style, types and who imports whom
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy $(CODE)
	$(BIN)/lint-imports --no-logo

.PHONY: format
format: install ## Format the code, and fix what ruff can fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: proto
proto: install | $(GO_PLUGINS) ## Make the generated code and the server's copy of the contract
	$(call generate,.)

.PHONY: check-proto
check-proto: install | $(GO_PLUGINS) ## Check the contract: style, breaking changes, generated code
	$(BIN)/buf lint proto
	$(BIN)/buf lint server/proto
	@fresh=$$(mktemp -d); trap 'rm -rf "$$fresh"' EXIT; \
	$(call generate,"$$fresh"); \
	echo 'buf breaking against $(BASELINE)'; \
	$(BIN)/buf breaking "$$fresh/$(CONTRACT)" --against $(BASELINE); \
	diff -rq -x __init__.py -x __pycache__ -x py.typed "$$fresh/clients/python/atelier" clients/python/atelier \
		&& if [[ -d "$$fresh/clients/go" ]]; then diff -rq "$$fresh/clients/go/atelier" clients/go/atelier; fi \
		&& diff -rq -x __init__.py -x __pycache__ "$$fresh/$(SCALER)" $(SCALER) \
		&& cmp "$$fresh/$(CONTRACT)" $(CONTRACT) \
		|| { echo 'The generated code is out of date: run `make proto`.'; exit 1; }

.PHONY: check-lock
check-lock: install ## Check that every Python and platform has wheels of all that is locked
	$(BIN)/python scripts/check_lock.py $(UV)

.PHONY: proto-baseline
proto-baseline: proto ## Make the contract of this commit the one that later versions may not break
	cp $(CONTRACT) $(BASELINE)

DIST ?= dist
.PHONY: dist
dist: install sbom ## Build wheels and sdists of all distributions, the contract for other languages, bills of materials
	rm -f $(DIST)/atelier_* $(DIST)/atelier-proto.tar.gz
	for package in $(PACKAGES); do $(BUILD) ./$$package; done
	$(BIN)/buf build proto --as-file-descriptor-set --output $(DIST)/atelier-descriptors.binpb
	tar --create --gzip --file $(DIST)/atelier-proto.tar.gz --exclude '*.binpb' --exclude buf.gen.yaml proto
BUILD = $(UV) build --quiet --no-build-isolation --offline --python $(BIN)/python --out-dir $(DIST)

.PHONY: sbom
sbom: install .tools/sdk/sbom/installed ## Write what is in each image, as CycloneDX
	mkdir -p $(DIST)
	for image in gateway gpu; do $(BIN)/python scripts/write_sbom.py .tools/sdk/sbom/bin/cyclonedx-py \
		requirements/image-$$image.txt $(DIST)/atelier-$$image.cdx.json; done

.PHONY: images
images: DIST = dist
images: dist ## Build both images of the server, with Docker or what ENGINE names; BASE=…@sha256:… pins what they stand on
	$(IMAGE) --target gateway --tag atelier:0.1.0-gateway .
	$(IMAGE) --target gpu --tag atelier:0.1.0-gpu .
IMAGE = $(ENGINE) build --file images/Dockerfile --build-arg VERSION=0.1.0 \
	--build-arg REVISION=$$(git rev-parse HEAD) $(BASE:%=--build-arg PYTHON=%)
ENGINE ?= docker
BASE ?=

.PHONY: image-root
image-root: dist ## As root on Debian: install the gateway's image into a clean root, and run it there read-only as a user
	images/prove.sh $(DIST) requirements/image-gateway.txt

.PHONY: docs
docs: install ## Write docs/configuration.md anew
	$(BIN)/atelier config reference > docs/configuration.md

.PHONY: chart-files
chart-files: install .tools/sdk/chart/installed ## Write README.md, values.schema.json and the golden renders of the chart anew
	$(BIN)/python -m scripts.write_dashboards
	$(BIN)/python scripts/write_chart_files.py
	$(BIN)/python -m tests.chart.write_golden

.PHONY: chart-test
chart-test: install .tools/sdk/chart/installed .tools/sdk/checkov/installed crds prometheus ## Test the chart alone, which `make test` does, too
	$(BIN)/pytest -rs tests/chart

.PHONY: chart-test-cluster
chart-test-cluster: .tools/sdk/chart/installed crds $(CLUSTER) ## Install the chart into a real API server; the first time, build it
	.tools/sdk/chart/bin/python tests/chart/cluster/try_cluster.py $(CLUSTER) $(CRDS)

.PHONY: screenshots
screenshots: install ## Draw docs/cli.svg anew, from commands that run, and with Chromium the images of the playground
	$(BIN)/python -m tests.client.screenshot
	$(BIN)/python -m tests.clients.playground_screenshots || echo 'The images of the playground stay as they are'

.PHONY: bench
bench: install ## Measure the service and the diffusion engine
	$(BIN)/python -m bench

KIT ?= out/gpu-kit
.PHONY: gpu-kit
gpu-kit: install ## Gather the wheels that bench/gpu/run.sh needs on a machine with a GPU and without registries
	$(BIN)/python scripts/gather_gpu_kit.py $(UV) $(KIT)

.PHONY: soak
soak: install ## Send the diffusion engine a thousand requests of all kinds, and compare every image
	$(BIN)/python -m bench soak

# For instance SEED=7, to repeat a siege or a run of the fuzzer.
SEED ?=
.PHONY: siege
siege: install ## Send 2,000 generations through kills, drains, full disks and lost callers, and compare (SEED=N repeats)
	$(BIN)/python -m tests.siege --generations 2000 $(SEED:%=--seed %)

.PHONY: fuzz
fuzz: install ## Fire a million mutated requests at a server, over all calls (SEED=N repeats)
	$(BIN)/python -m tests.fuzz --messages 1000000 $(SEED:%=--seed %)

.PHONY: lock
lock: $(UV) ## Write the locks anew (LOCK_FLAGS=--upgrade for newer versions)
	$(call lock,uv,requirements/uv.in)
	$(call lock,gateway,server/pyproject.toml)
	$(call lock,image-gateway,--extra postgres --extra s3 --extra tracing server/pyproject.toml)
	$(call lock,image-gpu,--all-extras $(PROJECTS))
	$(call lock,readers,--override requirements/readers.override requirements/readers.in)
	$(call lock,chart,requirements/chart.in)
	$(call lock,checkov,requirements/checkov.in)
	$(call lock,replicate,requirements/replicate.in)
	$(call lock,runpod,requirements/runpod.in)
	$(call lock,sbom,requirements/sbom.in)
	$(call lock,vastai,requirements/vastai.in)
	$(call lock,dev,--all-extras $(PROJECTS) requirements/dev.in)
	$(MAKE) check-lock

.PHONY: clean
clean: ## Remove what was made, but for .venv and .tools
	rm -rf out dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -path ./.venv -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

# --- The tiny model: its data, its training, its evaluation

.PHONY: tiny-data tiny-train tiny-eval
tiny-data: install ## Render the training images of the tiny model
tiny-train: install ## Train the tiny model
tiny-eval: install ## Evaluate the tiny model
tiny-data tiny-train tiny-eval: tiny-%:
	$(MAKE) -C models/tiny $* PYTHON=$(abspath $(BIN)/python)

# --- What the targets above stand on

$(UV): requirements/uv.txt
	@python3 -m venv --clear .tools/uv || { \
		echo 'python3 -m venv does not work here; on Debian or Ubuntu: apt-get install python3-venv'; exit 1; }
	.tools/uv/bin/python -m pip install --quiet --require-hashes --requirement requirements/uv.txt
	@touch $@

# Without dependencies and isolation, nothing is fetched that the lock does not name.
# A PYTHON that is asked for replaces an environment of another one.
$(INSTALLED): requirements/dev.txt $(PROJECTS) $(if $(filter-out file,$(origin PYTHON)),python-asked-for) | $(UV)
	@[[ $$($(FIND_PYTHON) $(UV) python find '$(PYTHON)' 2>/dev/null) == $(CURDIR)/.venv/* ]] \
		|| $(FIND_PYTHON) $(UV) venv --clear --python '$(PYTHON)' .venv
	$(UV) pip sync --quiet --python $(BIN)/python --require-hashes requirements/dev.txt
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --offline $(PACKAGES:%=-e ./%)
	@touch $@

.PHONY: python-asked-for
python-asked-for:

# Half a GB, for the tests of TensorRT without a driver; without Maven, or where it is slow, they are skipped.
.PHONY: tensorrt
tensorrt: .tools/tensorrt/$(TENSORRT_JAR)
.tools/tensorrt/$(TENSORRT_JAR):
	@mkdir -p $(@D)
	@if [[ "$$(uname -sm)" != 'Linux x86_64' ]] || ! command -v mvn >/dev/null; then \
		echo 'No Maven here, or no libraries for this platform: tests of TensorRT will be skipped'; \
	elif ! timeout 180 mvn --quiet --batch-mode dependency:get -Dtransitive=false \
		-Dartifact=org.bytedeco:tensorrt:$(TENSORRT_JAR):jar:linux-x86_64-redist; then \
		echo 'The libraries of TensorRT could not be fetched: its tests will be skipped'; \
	else \
		touch $@; \
	fi

# SDKs that want other versions than we do live apart; tests run them against our stand-ins. So do readers of images.
.PHONY: sdks
sdks: $(SDKS:%=.tools/sdk/%/installed)

.tools/sdk/%/installed: requirements/%.txt | $(UV)
	$(FIND_PYTHON) $(UV) venv --quiet --clear --python '$(PYTHON)' $(@D)
	$(UV) pip sync --quiet --python $(@D)/bin/python --require-hashes $<
	@touch $@

.PHONY: grpcurl
grpcurl: | $(GRPCURL)

# Some tests call the service with it and are skipped without; they need no Go otherwise.
$(GRPCURL):
	@if ! command -v go >/dev/null; then \
		echo 'No Go here: the tests that call the service with grpcurl will be skipped'; \
	elif ! GOBIN=$(abspath $(@D)) go install github.com/fullstorydev/grpcurl/cmd/grpcurl@$(GRPCURL_VERSION); then \
		echo 'grpcurl could not be built: the tests that call the service with it will be skipped'; \
	fi

.PHONY: ghz
ghz: | $(GHZ)

# The load that a page shows is put on with it.
$(GHZ):
	@if ! command -v go >/dev/null; then \
		echo 'No Go here: the commands with ghz that a page shows will be skipped'; \
	elif ! GOBIN=$(abspath $(@D)) go install -trimpath -ldflags '-s -w' github.com/bojand/ghz/cmd/ghz@$(GHZ_VERSION); then \
		echo 'ghz could not be built: the commands with it that a page shows will be skipped'; \
	fi

.PHONY: versitygw
versitygw: | $(VERSITYGW)

# An S3-compatible server. Tests of artifacts in a bucket fail without it.
$(VERSITYGW):
	CGO_ENABLED=0 GOBIN=$(abspath $(@D)) go install -trimpath -ldflags '-s -w' \
		github.com/versity/versitygw/cmd/versitygw@$(VERSITYGW_VERSION) \
		|| echo 'The S3 server could not be built (it needs Go 1.26): the tests that need it will fail'

# Definitions of the objects that the chart makes for others, from their Go modules; tests are skipped without.
.PHONY: crds
crds: $(CRDS)

$(CRDS): tests/chart/definitions.txt
	@rm -rf $@ $@.new; if ! command -v go >/dev/null; then \
		echo 'No Go here: objects of extensions of Kubernetes are not validated'; \
	else ( mkdir -p $@.new && while read -r module file; do \
		folder=$$(go mod download -json $$module | sed -n 's/^\t"Dir": "\(.*\)",$$/\1/p') \
			&& install -m 644 $$folder/$$file $@.new || exit 1; \
	done <$< && mv $@.new $@ ) || echo 'They could not be fetched: objects of extensions of Kubernetes are not validated'; fi

.PHONY: prometheus
prometheus: | $(PROMETHEUS)

# Prometheus and promtool of Debian, unpacked and not installed; tests are skipped without.
$(PROMETHEUS):
	@mkdir -p $@.new; if ! (cd $@.new && apt-get download --quiet=2 prometheus && dpkg --extract prometheus_*.deb . \
		&& rm prometheus_*.deb) 2>/dev/null; then rm -r $@.new; echo 'No package of Prometheus here: alerts and queries are not evaluated'; \
	else mv $@.new $@; fi

# A server of Debian, unpacked and not installed.
$(POSTGRES_15):
	mkdir -p $@.new
	cd $@.new && apt-get download --quiet=2 postgresql-15 libpq5 && for file in *.deb; do dpkg --extract $$file .; done && rm *.deb
	mv $@.new $@

# etcd, API server and scheduler; with Go, and about 12 minutes of CPU time.
$(CLUSTER):
	tests/chart/cluster/build.sh $@.new && mv $@.new $@

.PHONY: go-tools
go-tools: $(GO_TOOLS)

# The standard Go client with its retry policy, and a proxy; tests that need them are skipped without.
$(GO_TOOLS): .tools/bin/go-%: tests/go_%/main.go tests/go_%/go.mod
	@if ! command -v go >/dev/null; then \
		echo 'No Go here: the tests with the Go $* will be skipped'; \
	elif ! go build -C $(<D) -trimpath -o $(abspath $@) .; then \
		echo 'The Go $* could not be built: the tests that need it will be skipped'; \
	fi

# Of the stubs for Go. Without them, those stay as they are, and are not checked.
$(GO_PLUGINS):
	@if ! command -v go >/dev/null; then \
		echo 'No Go here: its stubs are neither made nor checked'; \
	else \
		export GOBIN=$(abspath $@.new) GOFLAGS=-trimpath; \
		go install google.golang.org/protobuf/cmd/protoc-gen-go@v$(firstword $(subst -, ,$(@F))) \
			&& go install google.golang.org/grpc/cmd/protoc-gen-go-grpc@v$(lastword $(subst -, ,$(@F))) \
			&& mv $@.new $@ || echo 'The plugins could not be built: the stubs for Go are neither made nor checked'; \
	fi

# Tests of this client are skipped without Go.
.tools/bin/go-conformance: $(shell find $(GO_CLIENT) -name '*.go' -o -name 'go.*')
	@if ! command -v go >/dev/null; then \
		echo 'No Go here: the cases of the client in Go will be skipped'; \
	elif ! go mod download -C $(GO_CLIENT); then \
		echo 'The modules of the client in Go could not be fetched: its cases will be skipped'; \
	else \
		cd $(GO_CLIENT) && test -z "$$(gofmt -l . | tee /dev/stderr)" && go vet ./... && go test ./... \
			&& go build -trimpath -o $(abspath $(@D))/go-draw ./examples/draw \
			&& go build -trimpath -o $(abspath $@) ./internal/conformance; \
	fi

# Tests of this client are skipped without Maven and Java.
.tools/bin/java-conformance: $(shell find $(JAVA_CLIENT) -path '*/atelier/v1' -prune -o -name target -prune -o -name generators -prune -o -type f -print) $(wildcard proto/atelier/v1/*.proto) | $(INSTALLED)
	@platform=$$(uname -sm | sed -E 's/Linux /linux-/; s/Darwin /osx-/; s/arm64|aarch64/aarch_64/'); \
	if ! command -v mvn >/dev/null || ! javac --release 17 -version >/dev/null 2>&1; then \
		echo 'No Maven with a JDK from 17 here: the cases of the client in Java will be skipped'; \
	elif ! mvn -q -B -f $(JAVA_CLIENT) -Dplatform=$$platform dependency:copy@generators; then \
		echo 'The packages of the client in Java could not be fetched: its cases will be skipped'; \
	else \
		chmod +x $(JAVA_CLIENT)/generators/*; \
		$(BIN)/buf generate --template $(JAVA_CLIENT)/buf.gen.yaml; \
		mvn -q -B -f $(JAVA_CLIENT) package; \
		cd $(JAVA_CLIENT)/target; \
		javac -d examples -cp 'classes:dependency/*' ../examples/*.java; \
		mkdir -p $(abspath $(@D)); \
		printf '#!/bin/sh\nexec java -cp "%s/classes:%s/test-classes:%s/dependency/*" atelier.client.Conformance "$$@"\n' \
			"$$PWD" "$$PWD" "$$PWD" > $(abspath $@); \
		chmod +x $(abspath $@); \
	fi

# Tests of this client are skipped without Rust. --workspace everywhere, or shared crates are built twice.
$(RUST_TARGET)/debug/atelier-conformance: export CARGO_TARGET_DIR = $(abspath $(RUST_TARGET))
$(RUST_TARGET)/debug/atelier-conformance: $(shell find $(RUST_CLIENT) -name gen -prune -o -type f -print) $(wildcard proto/atelier/v1/*.proto) | $(INSTALLED)
	@if ! command -v cargo >/dev/null; then \
		echo 'No Rust here: the cases of the client in Rust will be skipped'; \
	elif ! (cd $(RUST_CLIENT) && cargo fetch --quiet); then \
		echo 'The crates of the client in Rust could not be fetched (it needs Rust 1.88): its cases will be skipped'; \
	else \
		mkdir -p $(RUST_TARGET); \
		$(BIN)/buf build proto --as-file-descriptor-set --output $(RUST_TARGET)/descriptors.binpb; \
		cd $(RUST_CLIENT); \
		cargo build --quiet --workspace --bin atelier-codegen; \
		$(abspath $(RUST_TARGET))/debug/atelier-codegen $(abspath $(RUST_TARGET))/descriptors.binpb src/gen; \
		cargo build --quiet --workspace --all-targets; \
		cargo test --quiet --workspace; \
		touch $(abspath $@); \
	fi

# Where there is no Node, or no registry of packages, the page and tests of this client are missing, and the rest works.
NODE_WORKS = node --version 2>/dev/null | grep -qE '^v(2[0-9]|[3-9][0-9])\.' && command -v npm >/dev/null
NPM_CI = timeout 180 npm ci --no-progress --loglevel=error --prefix

$(TYPESCRIPT)/node_modules: $(TYPESCRIPT)/package-lock.json
	@if ! { $(NODE_WORKS); }; then \
		echo 'No Node of version 20 or later here: no client in TypeScript, and no playground'; \
	elif ! $(NPM_CI) $(@D); then \
		echo 'The packages of the client in TypeScript could not be fetched: no such client, and no playground'; \
	else touch $@; fi

$(TYPESCRIPT)/dist/conformance.js: $(wildcard $(TYPESCRIPT)/src/*.ts $(TYPESCRIPT)/*.json $(TYPESCRIPT)/*.yaml proto/atelier/v1/*.proto) $(TYPESCRIPT)/node_modules | $(INSTALLED)
	@if [[ -d $(TYPESCRIPT)/node_modules ]]; then \
		$(BIN)/buf generate --template $(TYPESCRIPT)/buf.gen.yaml; \
		protos=$$($(BIN)/python -c 'import google.rpc, pathlib; print(pathlib.Path(google.rpc.__path__[0]).parents[1])'); \
		$(BIN)/python -m grpc_tools.protoc --proto_path="$$protos" --es_out=$(TYPESCRIPT)/src/gen \
			--plugin=protoc-gen-es=$(TYPESCRIPT)/node_modules/.bin/protoc-gen-es --es_opt=target=ts,import_extension=js \
			google/rpc/error_details.proto; \
		cd $(TYPESCRIPT) && node_modules/.bin/tsc; \
	fi

$(PLAYGROUND)/node_modules: $(PLAYGROUND)/package-lock.json $(TYPESCRIPT)/node_modules
	@if [[ -d $(TYPESCRIPT)/node_modules ]]; then \
		$(NPM_CI) $(@D) && touch $@ || echo 'The packages of the playground could not be fetched: it is missing'; \
	fi

$(PAGE): $(wildcard $(PLAYGROUND)/*.* $(PLAYGROUND)/public/* $(PLAYGROUND)/src/* $(PLAYGROUND)/src/*/*) $(TYPESCRIPT)/dist/conformance.js $(PLAYGROUND)/node_modules
	@if [[ -d $(PLAYGROUND)/node_modules ]]; then \
		cd $(PLAYGROUND) && node_modules/.bin/tsc && node_modules/.bin/vite build --logLevel warn; \
	fi

# $(call generate,FOLDER): the generated code and the server's contract, in a tree under FOLDER.
define generate
$(BIN)/buf generate --template proto/buf.gen.yaml --output $(1); \
if [[ -d $(GO_PLUGINS) ]]; then PATH=$(abspath $(GO_PLUGINS)):$$PATH $(BIN)/buf generate --template clients/go/buf.gen.yaml --output $(1); fi; \
$(BIN)/buf generate --template server/proto/buf.gen.yaml --output $(1); \
mkdir -p $(1)/$(dir $(CONTRACT)); \
$(BIN)/buf build proto --as-file-descriptor-set --exclude-source-info --output $(1)/$(CONTRACT)
endef

# $(call lock,NAME,SOURCES): requirements/NAME.txt, the same for every Python and platform.
define lock
$(UV) pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest \
	--generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' \
	$(PACKAGE_NAMES:%=--no-emit-package %) $(LOCK_FLAGS) --output-file requirements/$(1).txt $(2)
endef
PACKAGE_NAMES := atelier-client atelier-engines atelier-server atelier-tiny
