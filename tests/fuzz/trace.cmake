far_fuzz(trace DEPENDS far::cli)
