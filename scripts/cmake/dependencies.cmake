find_package(OpenMP REQUIRED COMPONENTS CXX)

# Debian 12's dnnl package configuration requires OpenCL's headers, which libdnnl-dev only recommends.
find_package(dnnl CONFIG QUIET)
if(NOT TARGET DNNL::dnnl)
  message(FATAL_ERROR "oneDNN was not found; install libdnnl-dev and ocl-icd-opencl-dev")
endif()

find_package(yaml-cpp REQUIRED)
if(NOT TARGET yaml-cpp::yaml-cpp)          # yaml-cpp 0.7 (Debian 12) has no namespace
  add_library(yaml-cpp::yaml-cpp ALIAS yaml-cpp)
endif()

find_package(CLI11 REQUIRED)
find_package(nlohmann_json REQUIRED)

# libxxhash-dev has no CMake configuration.
find_path(XXHASH_INCLUDE_DIR xxhash.h REQUIRED)
find_library(XXHASH_LIBRARY xxhash REQUIRED)
mark_as_advanced(XXHASH_INCLUDE_DIR XXHASH_LIBRARY)
if(NOT TARGET xxhash::xxhash)
  add_library(xxhash::xxhash UNKNOWN IMPORTED)
  set_target_properties(xxhash::xxhash PROPERTIES
    IMPORTED_LOCATION ${XXHASH_LIBRARY} INTERFACE_INCLUDE_DIRECTORIES ${XXHASH_INCLUDE_DIR})
endif()
