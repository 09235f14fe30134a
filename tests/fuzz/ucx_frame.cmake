if(FAR_HAVE_UCX)
    far_fuzz(ucx_frame DEPENDS far::transport)
endif()
