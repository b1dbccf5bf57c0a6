# make demo    the main job, visibly, on real input
# make test    every test
# make check   form, lints, house rules
# make build   the release binary: target/release/wharf

.PHONY: build check demo test

build:
	cargo build --release --package wharf

check:
	@scripts/check.sh

demo:
	@scripts/demo.sh

test:
	@scripts/test.sh
