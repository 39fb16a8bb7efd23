# The rules that every layer follows: one folder is one target with one include folder, so that an include
# which the design does not allow does not compile.

set(CMAKE_C_STANDARD 17)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS ON) # _GNU_SOURCE interfaces: memfd_create, sched_setaffinity, SO_PEERCRED
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_C_VISIBILITY_PRESET hidden)

if(NOT CMAKE_BUILD_TYPE)
    set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()
set(CMAKE_C_FLAGS_RELEASE "-O2 -g -DNDEBUG")

set(TSR_SANITIZE "" CACHE STRING "Sanitizers, as -fsanitize= takes them: address,undefined or thread")
option(TSR_FUZZ "Build the fuzz targets with libFuzzer (clang)" OFF)

add_library(tsr_flags INTERFACE)
target_compile_definitions(tsr_flags INTERFACE _GNU_SOURCE)
target_compile_options(tsr_flags INTERFACE
    -Wall -Wextra -Wpedantic -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wconversion
    $<$<C_COMPILER_ID:GNU>:-Wno-format-truncation> # sentences for people are cut to their buffer on purpose
    -fno-strict-aliasing -ffp-contract=off)
if(TSR_SANITIZE)
    target_compile_options(tsr_flags INTERFACE -fsanitize=${TSR_SANITIZE} -fno-omit-frame-pointer)
    target_link_options(tsr_flags INTERFACE -fsanitize=${TSR_SANITIZE})
    if(TSR_SANITIZE MATCHES "undefined")
        target_compile_options(tsr_flags INTERFACE -fno-sanitize-recover=undefined)
    endif()
endif()

if(TSR_FUZZ)
    if(NOT CMAKE_C_COMPILER_ID STREQUAL "Clang")
        message(FATAL_ERROR "TSR_FUZZ needs clang (CC=clang-14): gcc has no libFuzzer")
    endif()
    target_compile_options(tsr_flags INTERFACE -fsanitize=fuzzer-no-link)
    target_link_options(tsr_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()

# tsr_layer(NAME [DEPS target...] [PRIVATE target...])
# The folder's *.c become the static library tsr_NAME, its include/ the public headers.
function(tsr_layer name)
    cmake_parse_arguments(L "" "" "DEPS;PRIVATE" ${ARGN})
    file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.c)
    if(NOT sources)
        add_library(tsr_${name} INTERFACE)
        target_include_directories(tsr_${name} INTERFACE include)
        target_link_libraries(tsr_${name} INTERFACE ${L_DEPS} tsr_flags)
        return()
    endif()
    add_library(tsr_${name} STATIC ${sources})
    target_include_directories(tsr_${name} PUBLIC include PRIVATE .)
    target_link_libraries(tsr_${name} PUBLIC ${L_DEPS} PRIVATE tsr_flags ${L_PRIVATE})
endfunction()

# tsr_tests(LABEL [LINK target...]): every test_*.c of the folder is one CMocka program and one CTest test.
function(tsr_tests label)
    cmake_parse_arguments(T "" "" "LINK" ${ARGN})
    file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/test_*.c)
    foreach(source ${sources})
        get_filename_component(name ${source} NAME_WE)
        add_executable(${name} ${source})
        target_link_libraries(${name} PRIVATE ${T_LINK} tsr_flags cmocka m)
        add_test(NAME ${name} COMMAND ${name})
        set_tests_properties(${name} PROPERTIES LABELS "${label}" SKIP_RETURN_CODE 77 TIMEOUT 300
            ENVIRONMENT "TESSERA_SOURCE=${PROJECT_SOURCE_DIR};TESSERA_BUILD=${PROJECT_BINARY_DIR}")
    endforeach()
endfunction()
