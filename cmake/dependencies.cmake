# The libraries that farpool uses where they are. Each is wrapped once, in the folder that owns the
# seam; FARPOOL_LIBRARIES=OFF builds with libc alone (portable digests and checksums, no tools).
option(FARPOOL_LIBRARIES "use the distribution's libraries; OFF builds the core with libc alone" ON)
option(FARPOOL_TESTS "build the tests (needs cmocka)" ON)
option(FARPOOL_GPU_TESTS "build tests/gpu, for a real GPU (needs nvcc)" OFF)
option(FARPOOL_FUZZ "build the libFuzzer targets (needs clang)" OFF)

find_package(Threads REQUIRED)

# far_library(NAME PKG): an imported target PkgConfig::NAME and HAVE_NAME, or a clear error.
macro(far_library name pkg)
    if(FARPOOL_LIBRARIES)
        find_package(PkgConfig REQUIRED)
        pkg_check_modules(${name} IMPORTED_TARGET ${pkg})
        if(NOT ${name}_FOUND)
            message(FATAL_ERROR
                "${pkg} was not found: run ./dev setup, or configure with -DFARPOOL_LIBRARIES=OFF "
                "for the core without libraries")
        endif()
        set(FAR_HAVE_${name} ON)
    else()
        set(FAR_HAVE_${name} OFF)
    endif()
endmacro()

far_library(SODIUM libsodium)
far_library(XXHASH libxxhash)
far_library(ISAL libisal)
far_library(YAML yaml-0.1)
far_library(UV libuv)
far_library(JANSSON jansson)
far_library(ZLIB zlib)
if(FARPOOL_TESTS AND FARPOOL_LIBRARIES)
    far_library(CMOCKA cmocka)
else()
    set(FARPOOL_TESTS OFF)
endif()

# The transport between hosts without RDMA hardware: headers alone. libucp is loaded when the first
# ucx: address is opened (docs/decisions/ucx-loaded-at-run-time.md). Benchmarks, which compare with
# UCX, link it.
set(FARPOOL_UCX AUTO CACHE STRING "build transport/ucx: AUTO (where UCX's headers are), ON, OFF")
set_property(CACHE FARPOOL_UCX PROPERTY STRINGS AUTO ON OFF)
set(FAR_HAVE_UCX OFF)
if(FARPOOL_LIBRARIES)
    pkg_check_modules(UCX IMPORTED_TARGET ucx>=1.13)
    if(UCX_FOUND AND FARPOOL_UCX)
        set(FAR_HAVE_UCX ON)
    elseif(FARPOOL_UCX STREQUAL "AUTO")
        message(STATUS "ucx 1.13 was not found: no ucx: addresses (install libucx-dev)")
    elseif(FARPOOL_UCX)
        message(FATAL_ERROR
            "ucx 1.13 was not found: install libucx-dev, or configure with -DFARPOOL_UCX=OFF")
    endif()
elseif(FARPOOL_UCX AND NOT FARPOOL_UCX STREQUAL "AUTO")
    message(FATAL_ERROR "FARPOOL_UCX=ON needs FARPOOL_LIBRARIES=ON")
endif()

# The native RDMA transport: headers alone, as above. The libraries are loaded when the first verbs:
# address is opened (docs/decisions/verbs-loaded-at-run-time.md).
set(FARPOOL_VERBS AUTO CACHE STRING "build transport/verbs: AUTO (where its headers are), ON, OFF")
set_property(CACHE FARPOOL_VERBS PROPERTY STRINGS AUTO ON OFF)
set(FAR_HAVE_VERBS OFF)
if(FARPOOL_LIBRARIES)
    pkg_check_modules(VERBS libibverbs>=1.9 librdmacm>=1.2)
    if(VERBS_FOUND AND FARPOOL_VERBS)
        set(FAR_HAVE_VERBS ON)
    elseif(FARPOOL_VERBS STREQUAL "AUTO")
        message(STATUS "libibverbs and librdmacm were not found: no verbs: addresses (install "
            "libibverbs-dev, librdmacm-dev)")
    elseif(FARPOOL_VERBS)
        message(FATAL_ERROR "libibverbs or librdmacm was not found: install libibverbs-dev and "
            "librdmacm-dev, or configure with -DFARPOOL_VERBS=OFF")
    endif()
elseif(FARPOOL_VERBS AND NOT FARPOOL_VERBS STREQUAL "AUTO")
    message(FATAL_ERROR "FARPOOL_VERBS=ON needs FARPOOL_LIBRARIES=ON")
endif()

# GPU memory: the header of the CUDA Toolkit alone, with or without the libraries above. The driver is
# loaded when an L1 in GPU memory is opened.
set(FARPOOL_CUDA AUTO CACHE STRING "L1 in GPU memory: AUTO (where the CUDA Toolkit is), ON, OFF")
set_property(CACHE FARPOOL_CUDA PROPERTY STRINGS AUTO ON OFF)
set(FAR_HAVE_CUDA OFF)
if(FARPOOL_CUDA)
    find_path(CUDA_INCLUDE_DIR cuda.h
        HINTS ENV CUDA_HOME ENV CUDA_PATH
        PATHS /usr/local/cuda /opt/cuda
        PATH_SUFFIXES include targets/x86_64-linux/include
        NO_CMAKE_SYSTEM_PATH)
    if(NOT CUDA_INCLUDE_DIR)
        find_path(CUDA_INCLUDE_DIR cuda.h)
    endif()
    if(CUDA_INCLUDE_DIR)
        file(STRINGS "${CUDA_INCLUDE_DIR}/cuda.h" version REGEX "^#define CUDA_VERSION ")
        string(REGEX REPLACE "[^0-9]" "" version "${version}")
    endif()
    if(CUDA_INCLUDE_DIR AND version GREATER_EQUAL 12010)
        set(FAR_HAVE_CUDA ON)
    elseif(FARPOOL_CUDA STREQUAL "AUTO")
        message(STATUS "cuda.h of CUDA 12.1 or newer was not found: no L1 in GPU memory (install the "
            "CUDA Toolkit, or set CUDA_HOME)")
    else()
        message(FATAL_ERROR "cuda.h of CUDA 12.1 or newer was not found: install the CUDA Toolkit, set "
            "CUDA_HOME, or configure with -DFARPOOL_CUDA=OFF")
    endif()
endif()
