# far.cmake - one folder, one target far::<name>; one test, one program; the flags, once.
set(CMAKE_C_STANDARD 11)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS ON) # Linux interfaces (memfd, epoll); the language itself stays C11
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_C_VISIBILITY_PRESET hidden)
if(NOT CMAKE_BUILD_TYPE)
    set(CMAKE_BUILD_TYPE RelWithDebInfo CACHE STRING "" FORCE)
endif()
set(CMAKE_C_FLAGS_RELWITHDEBINFO "-O2 -g") # assertions stay on in every build

# Used where it is, never required.
find_program(FARPOOL_CCACHE ccache)
if(FARPOOL_CCACHE AND NOT CMAKE_C_COMPILER_LAUNCHER)
    set(CMAKE_C_COMPILER_LAUNCHER "${FARPOOL_CCACHE}")
endif()

# Off where the compiler is not one of ours: a newer one may warn of more.
option(FARPOOL_WARNINGS_ARE_ERRORS "-Werror" ON)
set(FARPOOL_SANITIZE "" CACHE STRING "sanitizers, as -fsanitize= takes them")

add_library(far_flags INTERFACE)
target_compile_options(far_flags INTERFACE
    -Wall -Wextra -Wconversion -Wshadow $<$<BOOL:${FARPOOL_WARNINGS_ARE_ERRORS}>:-Werror> -Wstrict-prototypes -Wmissing-prototypes
    -Wpointer-arith -Wvla -fno-common -fstack-protector-strong)
target_compile_definitions(far_flags INTERFACE _GNU_SOURCE FAR_VERSION="${PROJECT_VERSION}")
target_include_directories(far_flags INTERFACE "${PROJECT_SOURCE_DIR}" "${PROJECT_SOURCE_DIR}/include")
# gcc clears a struct of a hundred bytes with "rep stos", which takes as long to start as clearing a
# kilobyte: plain stores, and the library's memset and memcpy beyond them, are what clang uses too.
include(CheckCCompilerFlag)
check_c_compiler_flag("-mmemset-strategy=libcall:-1:noalign" FARPOOL_HAS_MEMSET_STRATEGY)
if(FARPOOL_HAS_MEMSET_STRATEGY)
    target_compile_options(far_flags INTERFACE
        -mmemset-strategy=libcall:-1:noalign -mmemcpy-strategy=libcall:-1:noalign)
endif()
if(FARPOOL_SANITIZE)
    target_compile_options(far_flags INTERFACE
        -fsanitize=${FARPOOL_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
    target_link_options(far_flags INTERFACE -fsanitize=${FARPOOL_SANITIZE})
    # The expensive assertions; clang has no macro that says which sanitizer is on.
    target_compile_definitions(far_flags INTERFACE FAR_DEBUG)
    if(CMAKE_C_COMPILER_ID STREQUAL "GNU" AND FARPOOL_SANITIZE MATCHES "thread")
        # gcc warns that it does not model fences; every fence here pairs with atomics that it does.
        target_compile_options(far_flags INTERFACE -Wno-tsan)
    endif()
endif()

if(FARPOOL_FUZZ)
    # A fuzzer sees only what is instrumented: the modules too, not just its own file.
    target_compile_options(far_flags INTERFACE -fsanitize=fuzzer-no-link)
    target_link_options(far_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()

# far_module(NAME SOURCES ... DEPENDS far::lower ... [LIBS external ...]) -> far::NAME, static
function(far_module name)
    cmake_parse_arguments(M "" "" "SOURCES;DEPENDS;LIBS" ${ARGN})
    string(REPLACE "/" "_" target "far_${name}")
    add_library(${target} STATIC ${M_SOURCES})
    target_link_libraries(${target} PUBLIC far_flags ${M_DEPENDS} PRIVATE ${M_LIBS} Threads::Threads)
    string(REPLACE "/" "::" alias "${name}")
    add_library(far::${alias} ALIAS ${target})
endfunction()

# GCC 12's TSan takes a thread's TLS of a library that was loaded with dlopen for glibc 2.19's, with a
# header before it, whenever its address ends in 010, and dies of what it reads there ("failed to
# allocate", google/sanitizers#1322). glibc allocates that TLS with malloc, which TSan sees anyway.
set(FAR_TSAN_OPTIONS "halt_on_error=1 intercept_tls_get_addr=0")

# far_test(kind/path/name DEPENDS far::... [SOURCES extra ...] [ARGS ...] [TIMEOUT s]): one program
# from tests/kind/path/name.c, label = kind; exit status 77 is a skip.
function(far_test path)
    cmake_parse_arguments(T "" "TIMEOUT" "DEPENDS;SOURCES;ARGS;LABELS" ${ARGN})
    string(REPLACE "/" "-" target "${path}")
    string(REGEX MATCH "^[^/]+" kind "${path}")
    add_executable(test-${target} "${PROJECT_SOURCE_DIR}/tests/${path}.c" ${T_SOURCES})
    target_link_libraries(test-${target} PRIVATE ${T_DEPENDS} far_flags PkgConfig::CMOCKA)
    add_test(NAME ${path} COMMAND test-${target} ${T_ARGS})
    if(NOT T_TIMEOUT)
        set(T_TIMEOUT 120)
    endif()
    set_tests_properties(${path} PROPERTIES
        LABELS "${kind};${T_LABELS}" SKIP_RETURN_CODE 77 TIMEOUT ${T_TIMEOUT}
        ENVIRONMENT "TSAN_OPTIONS=${FAR_TSAN_OPTIONS};UBSAN_OPTIONS=print_stacktrace=1")
endfunction()

# far_fuzz(name DEPENDS far::... [SOURCES extra ...] [RUNS n] [LINK options]): tests/fuzz/<name>.c over
# its corpus tests/fuzz/corpus/<name>, with tests/fuzz/<name>.dict where there is one: a fixed number of
# executions as a test, and a line of the list that ./dev fuzz reads.
function(far_fuzz name)
    if(NOT FARPOOL_FUZZ)
        return()
    endif()
    cmake_parse_arguments(F "" "RUNS" "DEPENDS;SOURCES;LINK" ${ARGN})
    if(NOT F_RUNS)
        set(F_RUNS 100000)
    endif()
    add_executable(fuzz-${name} "${PROJECT_SOURCE_DIR}/tests/fuzz/${name}.c" ${F_SOURCES})
    target_link_libraries(fuzz-${name} PRIVATE ${F_DEPENDS} far_flags)
    target_compile_options(fuzz-${name} PRIVATE -fsanitize=fuzzer)
    target_link_options(fuzz-${name} PRIVATE -fsanitize=fuzzer ${F_LINK})
    file(GLOB corpus "${PROJECT_SOURCE_DIR}/tests/fuzz/corpus/${name}")
    set(options -max_len=65536 -timeout=10)
    if(EXISTS "${PROJECT_SOURCE_DIR}/tests/fuzz/${name}.dict")
        list(APPEND options "-dict=${PROJECT_SOURCE_DIR}/tests/fuzz/${name}.dict")
    endif()
    add_test(NAME fuzz/${name}
        COMMAND fuzz-${name} -runs=${F_RUNS} -seed=1 ${options}
            -artifact_prefix=${CMAKE_BINARY_DIR}/ ${CMAKE_BINARY_DIR}/corpus-${name} ${corpus})
    file(MAKE_DIRECTORY "${CMAKE_BINARY_DIR}/corpus-${name}")
    # Large blocks come and go in each execution: kept for long, they cost more than all else.
    set_tests_properties(fuzz/${name} PROPERTIES LABELS "fuzz" TIMEOUT 300
        ENVIRONMENT "ASAN_OPTIONS=quarantine_size_mb=8:clear_shadow_mmap_threshold=100000000")
    list(JOIN options " " options)
    set_property(GLOBAL APPEND PROPERTY FAR_FUZZERS fuzz-${name})
    set_property(GLOBAL APPEND_STRING PROPERTY FAR_FUZZER_LINES "${name} ${F_RUNS} ${options}\n")
endfunction()
