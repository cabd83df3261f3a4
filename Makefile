# Each target is one short line. The file that it calls explains the details.
.PHONY: demo test conformance fuzz check package mutations soak bench

# All programs at once, as the tests build them. A build of one program selects other features of its dependencies,
# and so builds them again.
bins = cargo build --locked --workspace --bins
built = $(or $(CARGO_TARGET_DIR),target)

demo: ## show Stile from end to end on this machine; ONCE=1 exits after it, STS=aws uses your own AWS identity
	$(bins) && $(built)/debug/demo $(if $(ONCE),--once) $(if $(filter aws,$(STS)),--sts aws)

test: ## run every test, and list the tests that were skipped because a tool is missing
	tests/run

conformance: ## test the store on a second emulator of AWS, and Renovate against the registry; Renovate takes minutes and 330 MB to install, so `test` does not include it
	tests/conformance

fuzz: ## feed generated input to every parser, SECONDS=60 each
	tests/run-fuzz $(or $(SECONDS),60)

check: ## check formatting, lints, documentation, licences and known vulnerabilities
	tests/check

package: ## build the Lambda function as a zip for x86-64, and for arm64 if its Rust target is installed
	tests/package

mutations: ## break a copy of the source in twenty-six places, and check that a test fails for each; takes some minutes, and `test` does not include it
	tests/mutations/run

soak: ## run the released broker under good and bad requests at once; MINUTES=10
	$(bins) --release && $(built)/release/soak --minutes $(or $(MINUTES),10)

bench: ## measure the search over 5,000 modules next to a read of `versions`, on both stores
	$(bins) --release && $(built)/release/bench
