# Each target is one short line; what it does in full stands in the file it calls.
.PHONY: demo test fuzz check package mutations soak

# All programs at once, as the tests build them: one alone has other features of what it depends on, and all that is built anew.
bins = cargo build --locked --workspace --bins
built = $(or $(CARGO_TARGET_DIR),target)

demo: ## show the whole thing working on this machine; ONCE=1 exits, STS=aws uses your own AWS identity
	$(bins) && $(built)/debug/demo $(if $(ONCE),--once) $(if $(filter aws,$(STS)),--sts aws)

test: ## run every test; prints at its end what it skipped because a tool is missing
	tests/run

fuzz: ## feed every parser made-up input, SECONDS=60 each
	tests/run-fuzz $(or $(SECONDS),60)

check: ## formatting, lints, documentation, licences, known vulnerabilities
	tests/check

package: ## the Lambda function as a zip for x86-64, and for arm64 where its Rust target is installed
	tests/package

mutations: ## break a copy of the source in ten places, and demand that a test sees each; some minutes, and not a part of `test`
	tests/mutations/run

soak: ## the released broker under good and bad requests at once; MINUTES=10
	$(bins) --release && $(built)/release/soak --minutes $(or $(MINUTES),10)
