# The commands as they are, but for the names of their main(); argp and exit() come to args_run.c first.
set(wraps "-Wl,--wrap=argp_parse,--wrap=argp_error,--wrap=argp_failure,--wrap=exit")
set(sim "${PROJECT_SOURCE_DIR}/tests/model/sim/main.c")
set_source_files_properties("${sim}" PROPERTIES COMPILE_DEFINITIONS main=farpool_sim_main
    COMPILE_OPTIONS -Wno-missing-prototypes)
far_fuzz(args_sim RUNS 20000 SOURCES args_run.c "${sim}" DEPENDS far_sim LINK "${wraps}")

if(NOT TARGET far_perf)
    return()
endif()
set(tools "${PROJECT_SOURCE_DIR}/tools")
foreach(pair cli/main=farpool_main farpoold/farpoold=farpoold_main perf/main=farpool_perf_main)
    string(REPLACE "=" ";" pair "${pair}")
    list(GET pair 0 file)
    list(GET pair 1 entry)
    set_source_files_properties("${tools}/${file}.c" PROPERTIES
        COMPILE_DEFINITIONS main=${entry} COMPILE_OPTIONS -Wno-missing-prototypes)
endforeach()
set(sources cli/main cli/block cli/common cli/doctor_command cli/replay_command cli/status
    farpoold/farpoold perf/main)
list(TRANSFORM sources PREPEND "${tools}/")
list(TRANSFORM sources APPEND ".c")
far_fuzz(args RUNS 20000 SOURCES args_run.c ${sources}
    DEPENDS far_cli far_perf far_farpoold far_client PkgConfig::JANSSON PkgConfig::UV
    LINK "${wraps}")
