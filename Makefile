# `make help` lists the targets. Needed: Go, make and git. Further tools are fetched into .tools/ by .ci/tools.

GO       ?= go
DOCKER   ?= docker
FUZZTIME ?= 30s
BENCH    ?= .
ARCHES   ?= amd64 arm64 arm 386 ppc64le s390x riscv64
# Those of the form that can keep leases in etcd as well. Hosts that share ranges are big ones.
ETCD_ARCHES ?= amd64 arm64
# More arguments for `go test`, for example TESTFLAGS='-v -count=1'.
TESTFLAGS ?=

export PATH := $(CURDIR)/.tools/bin:$(PATH)

# The version is the newest one in the changelog. The rest is from git, and nothing from the machine or the clock: one commit
# always builds the same binary.
VERSION    := $(or $(shell sed -n 's/^\#\# \([0-9][^ ]*\).*/\1/p;' CHANGELOG.md 2>/dev/null | head -n 1),unknown)
REVISION   := $(or $(shell git describe --always --abbrev=40 --exclude='*' --dirty=-modified 2>/dev/null),unknown)
BRANCH     := $(or $(shell git rev-parse --abbrev-ref HEAD 2>/dev/null),unknown)
BUILD_USER ?= make@listen_exporter
SOURCE_DATE_EPOCH ?= $(or $(shell git log -1 --format=%ct 2>/dev/null),0)
BUILD_DATE := $(shell date -u -d @$(SOURCE_DATE_EPOCH) +%Y%m%d-%H:%M:%S)

VERSION_PKG := github.com/prometheus/common/version
LDFLAGS     := -s -w \
	-X $(VERSION_PKG).Version=$(VERSION) \
	-X $(VERSION_PKG).Revision=$(REVISION) \
	-X $(VERSION_PKG).Branch=$(BRANCH) \
	-X $(VERSION_PKG).BuildUser=$(BUILD_USER) \
	-X $(VERSION_PKG).BuildDate=$(BUILD_DATE)

# GOARM=6 runs on every Raspberry Pi.
export GOARM ?= 6

BINARIES := $(ARCHES:%=.build/linux-%/listen_exporter) $(ETCD_ARCHES:%=.build/linux-%-etcd/listen_exporter)
# grpcnotrace leaves pages for debugging out of gRPC, and lets the linker drop what only they call.
ETCD_TAGS = etcd,grpcnotrace
MODULES = $(dir $(shell find . -name go.mod -not -path './.[a-z]*'))
# FuzzX of ./internal/y reads ./internal/y:FuzzX here.
FUZZ_TARGETS = $(shell grep -rEo '^func Fuzz[[:alnum:]_]+' --include='*_test.go' --exclude-dir='.[a-z]*' . | \
	sed -E 's|/[^/]+_test\.go:func |:|')
# Runs `go test` and counts; see test/report. With REPORTFLAGS=-may-skip=/dev/null, a skipped test is a failed one.
REPORTFLAGS ?=
REPORT      = $(GO) run ./test/report $(REPORTFLAGS)
# Switches on the tests that take minutes, root, or tools that few machines have: see test/host.
PROGRAM     = LISTEN_EXPORTER_PROGRAM='$(CURDIR)/.build/linux-$(shell $(GO) env GOARCH)/listen_exporter'
# Builds the packages of this machine's architecture for the tests that install them, which read VERSION.
WITH_PACKAGES = export VERSION='$(VERSION)' SOURCE_DATE_EPOCH='$(SOURCE_DATE_EPOCH)' && packaging/build $$($(GO) env GOARCH) &&
# The race detector needs cgo and a C compiler.
RACE = $(shell $(GO) list -race runtime/race >/dev/null 2>&1 && command -v $$($(GO) env CC) >/dev/null && echo -race)

.PHONY: help
help: ## Show this list.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: .build/linux-$(shell $(GO) env GOARCH)/listen_exporter ## Build the binary for this machine into .build/.

.PHONY: build-etcd
build-etcd: .build/linux-$(shell $(GO) env GOARCH)-etcd/listen_exporter ## Build that which can keep leases in etcd as well.

.PHONY: crossbuild
crossbuild: $(BINARIES) ## Build the binaries for every supported architecture.

# Go finds out what has changed. The texts next to the program go with every copy of it.
define build_program
CGO_ENABLED=0 GOOS=linux GOARCH=$* $(GO) build -trimpath -buildvcs=false $(1) -ldflags '$(LDFLAGS)' -o $@ .
@CGO_ENABLED=0 GOOS=linux GOARCH=$* $(GO) list -deps $(1) -json=Dir,Standard,Module . | \
	CGO_ENABLED=0 SOURCE_DATE_EPOCH='$(SOURCE_DATE_EPOCH)' $(GO) run ./packaging/bill -program $@ -version '$(VERSION)' \
		-sbom $(@D)/bill.cdx.json -licenses $(@D)/THIRD_PARTY_LICENSES
endef

.PHONY: FORCE
.build/linux-%/listen_exporter: FORCE
	$(call build_program)

# Of two patterns that fit, make takes the one that leaves less to the stem.
.build/linux-%-etcd/listen_exporter: FORCE
	$(call build_program,-tags=$(ETCD_TAGS))

.PHONY: test
test: test-tools ## Run the tests that take seconds, as any user.
	@$(REPORT) -about 'The tests that take seconds, as any user. They take 1 to 4 minutes; those that did not change since are not run again.' \
		-- -short $(RACE) -timeout 10m $(TESTFLAGS) ./...

# Packages whose tests wait for minutes: they begin first, and the others are compiled and run meanwhile.
WAITING = ./test/program ./internal/inventory

.PHONY: test-all
test-all: test-tools ## Run all tests; as root, the live tests run too.
	@$(REPORT) -about 'All tests. They take 5 to 10 minutes. Without root, the live tests are skipped.' -- $(RACE) -timeout 20m $(TESTFLAGS) $(WAITING) ./...

.PHONY: test-tools
test-tools:
	@.ci/tools promtool || echo 'The tests that need promtool will be skipped.'
	@.ci/tools jsonnet || echo 'The tests that need jsonnet will be skipped.'
	@.ci/tools sarif-schema || echo 'The tests that need the schema of SARIF will be skipped.'
	@.ci/tools grafana-schema || echo 'The test that needs the types of Grafana will be skipped.'
	@$(if $(RACE),,echo 'No cgo or no C compiler: the tests run without the race detector.')

.PHONY: test-kernels
test-kernels: .build/linux-amd64/listen_exporter ## Run the program on other kernels, emulated; fetches those that are missing.
	@LISTEN_EXPORTER_PROGRAM='$(CURDIR)/$<' $(REPORT) -- -count=1 -timeout 20m ./test/kernels

.PHONY: test-containers
test-containers: build ## Run the program in containers of the DaemonSets' shape; wants root, buildah, podman, runc.
	@.ci/tools kubectl
	@$(PROGRAM) $(REPORT) -- -count=1 -timeout 15m ./test/containers

.PHONY: test-helm
test-helm: ## Render the Helm chart and compare it with examples/kubernetes.
	@.ci/tools kubectl helm jsonnet
	@$(REPORT) -- -count=1 -timeout 10m ./packaging/helm

.PHONY: test-kubernetes
test-kubernetes: ## Give examples/kubernetes and the Helm chart to a real API server, which is built when it is missing.
	@.ci/tools kubernetes helm
	@CGO_ENABLED=0 $(REPORT) -C test/kubernetes -- -trimpath -count=1 -timeout 15m .

.PHONY: test-systemd
test-systemd: build build-etcd ## Install the deb under a real systemd; wants root, debootstrap, podman, runc.
	@.ci/tools nfpm node_exporter
	@$(WITH_PACKAGES) FORM=etcd packaging/build $$($(GO) env GOARCH) && \
		$(PROGRAM) $(REPORT) -- -count=1 -skip=TestPlaybook -timeout 20m ./test/systemd

.PHONY: test-ansible
test-ansible: build ## Run the playbook of examples/ under a real systemd; wants root, debootstrap, podman, runc.
	@.ci/tools nfpm
	@$(WITH_PACKAGES) $(PROGRAM) $(REPORT) -- -count=1 -run=TestPlaybook -timeout 20m ./test/systemd

.PHONY: test-openrc
test-openrc: build ## Unpack the apk where a real OpenRC is, and use its service; wants root, debootstrap.
	@.ci/tools nfpm
	@$(WITH_PACKAGES) $(PROGRAM) $(REPORT) -- -count=1 -timeout 20m ./test/openrc

.PHONY: test-install
test-install: build ## Run each command of the README's Install in a fresh Debian with empty caches; wants root, debootstrap, internet.
	@$(PROGRAM) $(REPORT) -- -count=1 -timeout 40m ./test/install

.PHONY: test-leases
test-leases: ## Kill, partition and crowd the stores of leases, in a file and in etcd; wants root, iproute2, etcd.
	@$(REPORT) -- -tags=$(ETCD_TAGS) -count=1 -parallel=8 -timeout=15m $(TESTFLAGS) ./internal/lease

.PHONY: test-leases-full
test-leases-full: ## The same with 10 000 operations of each store, 64 clients for a minute, and partitions for longer.
	@LISTEN_EXPORTER_LEASES=full $(REPORT) -- -tags=$(ETCD_TAGS) -count=1 -parallel=8 -timeout=25m $(TESTFLAGS) ./internal/lease

.PHONY: test-incidents
test-incidents: build ## Play incidents in front of a real Prometheus 2 and 3 and Alertmanager; wants root, iproute2.
	@.ci/tools prometheus prometheus3 alertmanager
	@$(PROGRAM) $(REPORT) -- -count=1 -timeout 20m ./test/incidents

.PHONY: test-incidents-full
test-incidents-full: build ## Play all incidents, and power cuts of more than an hour; STAGES='cuts|loops' plays only these.
	@.ci/tools prometheus prometheus3 alertmanager
	@LISTEN_EXPORTER_INCIDENTS_FULL=1 LISTEN_EXPORTER_INCIDENTS_STAGES='$(STAGES)' $(PROGRAM) $(REPORT) -- -count=1 -timeout 45m ./test/incidents

.PHONY: test-prometheus
test-prometheus: build ## Have a real Prometheus 2 and 3 and VictoriaMetrics scrape in every way that they can, and node_exporter read what list writes; wants root, iproute2.
	@.ci/tools prometheus prometheus3 victoria-metrics node_exporter
	@$(PROGRAM) $(REPORT) -- -count=1 -skip=OpenTelemetry -timeout 10m ./test/prometheus

.PHONY: test-opentelemetry
test-opentelemetry: build ## Have OpenTelemetry's collector scrape, which it builds first; wants root, iproute2.
	@.ci/tools otelcol
	@$(PROGRAM) $(REPORT) -- -count=1 -run=OpenTelemetry -timeout 10m ./test/prometheus

.PHONY: test-pictures
test-pictures: build ## Find out whether the pictures in docs/ are old; wants root, iproute2.
	@$(PROGRAM) $(REPORT) -- -count=1 $(TESTFLAGS) -timeout 5m ./test/pictures

.PHONY: pictures
pictures: build ## Make the pictures in docs/ from the real program, in 10 minutes; wants root, iproute2, chromium.
	@.ci/tools prometheus
	@mkdir -p .build/pictures docs/pictures
	@LISTEN_EXPORTER_PICTURES='$(CURDIR)/.build/pictures' $(PROGRAM) $(GO) test -count=1 -timeout 20m -run TestMakeThePictures ./test/pictures

.PHONY: test-rules
test-rules: ## Play incidents to the alert rules on Prometheus 2, on 3 and on VictoriaMetrics, with each clause left out if MUTANTS=all.
	@.ci/tools promtool promtool3 vmalert-tool jsonnet
	@LISTEN_EXPORTER_ENGINES=all LISTEN_EXPORTER_MUTANTS='$(MUTANTS)' $(REPORT) -- -count=1 $(TESTFLAGS) -timeout 60m ./alerts

.PHONY: generate
generate: rules programs ## Write the rules, the eBPF objects, the help texts, the pages of docs/ that come from the program, and the chart's copies.
	$(GO) test -count=1 -run 'TestHelpIs|TestThePageOf|TestTheChartsFilesAreCopies' . ./collector ./packaging/helm -update

.PHONY: programs
programs: ## Compile the eBPF programs of internal/event, for both byte orders; wants clang-14 and llvm-14.
	internal/event/programs/compile internal/event/programs

.PHONY: rules
rules: ## Write the alert rules, for Prometheus, its operator and the Helm chart, from the mixin in alerts/.
	@.ci/tools jsonnet
	jsonnet -S -o alerts/listen_exporter.rules.yml alerts/rules.jsonnet
	jsonnet -S -o examples/kubernetes/prometheus-operator/prometheusrule.yaml alerts/prometheusrule.jsonnet
	jsonnet -S -o packaging/helm/listen-exporter/files/rules.yml packaging/helm/rules.jsonnet

.PHONY: fuzz
fuzz: ## Run each fuzz target for FUZZTIME (30s).
	$(if $(FUZZ_TARGETS),,$(error no fuzz target was found))
	@set -e; $(foreach target,$(FUZZ_TARGETS),\
		echo '$(subst :, ,$(target))'; \
		$(GO) test -run '^$$' -fuzz '^$(lastword $(subst :, ,$(target)))$$' -fuzztime $(FUZZTIME) \
			$(firstword $(subst :, ,$(target)));)

.PHONY: bench
bench: ## Run the Go benchmarks that match BENCH (all). The figures of BENCHMARKS.md: see bench/.
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem $(TESTFLAGS) ./...

.PHONY: bench-smoke
bench-smoke: ## Run each program of bench/ once with a small load; wants root, iproute2, lsof.
	@cd bench && $(GO) run . -small all

.PHONY: bench-full
bench-full: ## Measure the figures of BENCHMARKS.md; wants root, 12 GB and half an hour.
	@cd bench && $(GO) run . -lenient all

.PHONY: check
check: lint vet check-modules check-yaml check-scripts check-names check-rules check-metrics ## Run every check that is no test.

# With the flags of the builds, which then find the packages compiled.
.PHONY: lint
lint: ## Check the Go code with golangci-lint and gofumpt.
	@.ci/tools golangci-lint gofumpt
	golangci-lint config verify
	@set -e; for module in $(MODULES); do \
		echo "golangci-lint run in $$module"; \
		(cd $$module && CGO_ENABLED=0 GOFLAGS=-trimpath golangci-lint run --config '$(CURDIR)/.golangci.yml' ./...); \
	done
	golangci-lint run --build-tags=$(ETCD_TAGS) . ./internal/lease/...
	@unformatted=$$(gofumpt -l .) && [ -z "$$unformatted" ] || { echo "gofumpt is needed on: $$unformatted"; exit 1; }

# The second time where an int has 32 bits, with the flags of the crossbuild, which then finds its packages compiled.
.PHONY: vet
vet: ## Check the Go code with go vet, for 64 and for 32 bits.
	$(GO) vet ./...
	$(GO) vet -tags=$(ETCD_TAGS) ./...
	GOFLAGS=-trimpath GOARCH=386 CGO_ENABLED=0 $(GO) vet ./...

.PHONY: check-modules
check-modules: ## Check that go.mod and go.sum of every module are tidy and the modules unaltered.
	@set -e; for module in $(MODULES); do \
		echo "go mod tidy and verify in $$module"; \
		$(GO) -C $$module mod tidy -diff; \
		$(GO) -C $$module mod verify; \
	done

.PHONY: check-yaml
check-yaml: ## Check all YAML with yamllint.
	yamllint --strict .

.PHONY: check-scripts
check-scripts: ## Check all shell scripts with shellcheck.
	shellcheck -x $$(grep -rlIE --exclude-dir='.[bgt]*' '^#!.*\b(ba)?sh$$' .)
	shellcheck --shell=sh packaging/apk/listen_exporter.initd

.PHONY: check-names
check-names: ## Check that nothing names this machine, or the mirrors and registries used on it.
	@.ci/check-names

.PHONY: check-rules
check-rules: ## Check the alert and recording rules with promtool and run their tests.
	@.ci/tools promtool jsonnetfmt
	jsonnetfmt --test $(wildcard alerts/*.*sonnet alerts/*/*.*sonnet packaging/*/*.jsonnet)
	promtool check rules --lint-fatal $(wildcard alerts/*.rules.yml examples/*/*.rules.yml)
	promtool test rules $(wildcard alerts/*.test.yml examples/*/*.test.yml)

.PHONY: check-metrics
check-metrics: build ## Check a page of the real program with promtool.
	@.ci/tools promtool
	@.ci/check-metrics .build/linux-$$($(GO) env GOARCH)/listen_exporter

.PHONY: vulnerabilities
vulnerabilities: ## Check what is built against Go's vulnerability database, which is on the internet.
	@.ci/tools govulncheck
	govulncheck -tags=$(ETCD_TAGS) ./...

.PHONY: soak
soak: ## Scrape 10 000 times, and take 10 000 snapshots under churn; wants root, takes hours.
	@LISTEN_EXPORTER_SOAK_SCRAPES=10000 LISTEN_EXPORTER_CHURN=full \
		$(REPORT) -- -count=1 -timeout 5h -run 'ThousandsOfScrapes|NoListenerThatStays' ./...

.PHONY: fetch
fetch: ## Fetch what test-kubernetes and test-systemd need, which takes minutes the first time.
	@.ci/tools kubernetes helm
	@$(PROGRAM) $(GO) test -count=1 -timeout 20m -run '^TestFetch$$' ./test/systemd

.PHONY: address
address: ## Change the project's address everywhere: make address ADDRESS=example.org/you/listen_exporter.
	@.ci/address '$(ADDRESS)'

.PHONY: tools
tools: ## Fetch every tool into .tools/.
	@.ci/tools

# `make docker FORM=etcd` builds the other form.
.PHONY: docker
docker: build$(FORM:%=-%) ## Build the container image for this machine.
	$(DOCKER) build -t listen_exporter:$(VERSION)$(FORM:%=-%) \
		--build-arg FORM=$(FORM:%=-%) \
		--build-arg ARCH=$$($(GO) env GOARCH) \
		--build-arg VERSION=$(VERSION) \
		--build-arg REVISION=$(REVISION) \
		--build-arg CREATED=$$(date -u -d @$(SOURCE_DATE_EPOCH) +%Y-%m-%dT%H:%M:%SZ) .

.PHONY: version
version: ## Print the version that is built: the newest one in the changelog.
	@echo '$(VERSION)'

.PHONY: packages
packages: build crossbuild ## Build an archive, a deb, an rpm and an apk for every supported architecture into .build/packages/.
	@.ci/tools nfpm
	@export VERSION='$(VERSION)' SOURCE_DATE_EPOCH='$(SOURCE_DATE_EPOCH)' && \
		packaging/build $(ARCHES) && FORM=etcd packaging/build $(ETCD_ARCHES)

.PHONY: release
release: build crossbuild ## Build all files of a release into .build/release/; wants root, buildah.
	@.ci/tools nfpm
	@rm -rf .build/release
	@export VERSION='$(VERSION)' REVISION='$(REVISION)' SOURCE_DATE_EPOCH='$(SOURCE_DATE_EPOCH)' OUT=.build/release && \
		packaging/build $(ARCHES) && packaging/image $(ARCHES) && \
		FORM=etcd packaging/build $(ETCD_ARCHES) && FORM=etcd packaging/image $(ETCD_ARCHES) && packaging/release-notes >.build/release-notes.md
	@cd .build/release && sha256sum -- * >../SHA256SUMS && mv ../SHA256SUMS .

.PHONY: check-release
check-release: ## Check that a tag may become a release: make check-release TAG=v1.2.3.
	@packaging/check-release '$(TAG)'

.PHONY: release-dry-run
release-dry-run: release ## Build a release and do with it what can be done offline; publishes nothing.
	@.ci/tools cyclonedx-schema
	@LISTEN_EXPORTER_RELEASE='$(CURDIR)/.build/release' LISTEN_EXPORTER_VERSION='$(VERSION)' \
		LISTEN_EXPORTER_REVISION='$(REVISION)' LISTEN_EXPORTER_BRANCH='$(BRANCH)' SOURCE_DATE_EPOCH='$(SOURCE_DATE_EPOCH)' \
		$(REPORT) -- -count=1 -timeout 20m $(TESTFLAGS) ./test/release

.PHONY: clean
clean: ## Remove what was built; the fetched tools stay.
	rm -rf .build
