far_fuzz(index DEPENDS far::wire far::base)
