# make demo    the main job, visibly, on real input
# make test    every test
# make check   form, lints, house rules
# make crash   every command broken off at every point, and more than 1,000 kills
# make fuzz    40 CPU minutes of invented Dockerfiles and ignore files
# make build   the release binary: target/release/wharf
# make bench   what wharf and its peers cost, as root; BENCH="--peers wharf,docker w2 w7" chooses

.PHONY: bench build check crash demo fuzz test

build:
	cargo build --release --package wharf

bench: build
	cargo run --release --package wharf-benches -- $(BENCH)

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
