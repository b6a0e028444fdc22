# Programs that measure: `make bench` builds and runs BENCHES without arguments,
# and the scripts of tools/bench.sh besides.
