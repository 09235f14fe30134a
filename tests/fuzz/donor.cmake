# A history takes a millisecond: fewer of them on every run.
far_fuzz(donor RUNS 3000 SOURCES donor_ops.c donor_peer.c DEPENDS far_fuzz_small)
