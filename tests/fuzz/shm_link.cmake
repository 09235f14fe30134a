# A link is made and ended in each execution, by system calls: fewer of them on every run.
far_fuzz(shm_link RUNS 5000 DEPENDS far::transport)
