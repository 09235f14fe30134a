if(TARGET far_perf)
    far_fuzz(text DEPENDS far_perf far::controllers)
endif()
