if(TARGET far_farpoold)
    far_fuzz(settings RUNS 10000 SOURCES "${PROJECT_SOURCE_DIR}/tools/cli/common.c"
        DEPENDS far_farpoold far_cli far_client)
endif()
