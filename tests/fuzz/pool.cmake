# A history takes a millisecond: fewer of them on every run.
far_fuzz(pool RUNS 4000 SOURCES pool_world.c DEPENDS far_fuzz_small)
