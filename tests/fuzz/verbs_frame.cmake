far_fuzz(verbs_frame DEPENDS far::transport)
