far_fuzz(shm_frame DEPENDS far::transport)
