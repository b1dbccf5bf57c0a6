# make demo    the main job, visibly, on real input
# make test    every test
# make check   form, lints, house rules
# make crash   every command broken off at every point, and more than 1,000 kills
# make fuzz    40 CPU minutes of invented Dockerfiles and ignore files
# make build   the release binary: target/release/wharf

.PHONY: build check crash demo fuzz test

build:
	cargo build --release --package wharf

check:
	@scripts/check.sh

crash:
	@scripts/crash.sh

demo:
	@scripts/demo.sh

fuzz:
	@scripts/fuzz.sh

test:
	@scripts/test.sh
