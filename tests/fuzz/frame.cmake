far_fuzz(frame DEPENDS far::wire far::base)
