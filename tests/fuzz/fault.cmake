far_fuzz(fault DEPENDS far::l2)
