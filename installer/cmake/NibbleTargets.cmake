# Compiler flags and the helper functions that every folder's CMakeLists.txt uses.

add_library(nibble_options INTERFACE)
target_include_directories(nibble_options INTERFACE "${CMAKE_SOURCE_DIR}")
target_compile_options(nibble_options INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wconversion
                       -Wno-sign-conversion -Wnon-virtual-dtor -Woverloaded-virtual
                       -ffp-contract=off)
if(NIBBLE_WERROR)
    target_compile_options(nibble_options INTERFACE -Werror)
endif()
if(NIBBLE_SANITIZE)
    target_compile_options(nibble_options INTERFACE -fsanitize=${NIBBLE_SANITIZE}
                           -fno-omit-frame-pointer -fno-sanitize-recover=all)
    target_link_options(nibble_options INTERFACE -fsanitize=${NIBBLE_SANITIZE})
endif()

# Headers parsed once for each library save nearly half of a build from nothing; a cache of compiled files saves all but
# the changed ones. Not both: a precompiled header that a cache brought from another folder makes GCC take all memory.
option(NIBBLE_PRECOMPILE "Precompile common headers, instead of using ccache" OFF)
find_program(NIBBLE_CCACHE ccache)
if(NOT NIBBLE_PRECOMPILE)
    set(CMAKE_DISABLE_PRECOMPILE_HEADERS ON)
    if(NIBBLE_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
        set(CMAKE_CXX_COMPILER_LAUNCHER "${NIBBLE_CCACHE}")
        set(CMAKE_C_COMPILER_LAUNCHER "${NIBBLE_CCACHE}")
    endif()
endif()

set(NIBBLE_COMMON_HEADERS <algorithm> <cmath> <filesystem> <functional> <map> <memory> <optional> <span> <string>
    <vector> <fmt/format.h>)

# nibble_library(NAME [LINK targets...]): a static library of every source in the calling folder.
# The link list is the layering: a folder can only include what it links.
function(nibble_library name)
    cmake_parse_arguments(ARG "RECURSE" "" "LINK" ${ARGN})
    if(ARG_RECURSE)
        file(GLOB_RECURSE sources CONFIGURE_DEPENDS "*.cpp" "*.h")
    else()
        file(GLOB sources CONFIGURE_DEPENDS "*.cpp" "*.h")
    endif()
    if(NOT sources MATCHES "\\.cpp") # a layer of headers alone still is a library to link
        file(WRITE "${CMAKE_BINARY_DIR}/empty.cpp" "")
        list(APPEND sources "${CMAKE_BINARY_DIR}/empty.cpp")
    endif()
    add_library(${name} STATIC ${sources})
    set_target_properties(${name} PROPERTIES LINKER_LANGUAGE CXX)
    target_link_libraries(${name} PUBLIC nibble_options ${ARG_LINK})
    list(LENGTH sources count)
    if(count GREATER 8)
        target_precompile_headers(${name} PRIVATE ${NIBBLE_COMMON_HEADERS})
    endif()
endfunction()

# Sanitizers take several times as long: neither ctest nor Qt Test (300 s a function) shall stop them.
function(nibble_patience test)
    if(NIBBLE_SANITIZE)
        set_tests_properties(${test} PROPERTIES TIMEOUT 3600)
        set_property(TEST ${test} APPEND PROPERTY ENVIRONMENT_MODIFICATION "QTEST_FUNCTION_TIMEOUT=set:3600000")
    endif()
endfunction()

# nibble_tests(FOLDER LABEL label LINK targets...): one Qt Test executable per tests/FOLDER/test_*.cpp.
# A source may carry its own ctest settings in lines of the form "// ctest: KEY=VALUE ...", where
# KEY is LABELS, TIMEOUT, ENVIRONMENT, RUN_SERIAL, FIXTURES_REQUIRED or COST (some seconds: long tests start first).
function(nibble_tests folder)
    cmake_parse_arguments(ARG "" "" "LINK" ${ARGN})
    string(REPLACE "/" "_" prefix ${folder})
    file(GLOB sources CONFIGURE_DEPENDS "${CMAKE_SOURCE_DIR}/tests/${folder}/test_*.cpp")
    foreach(source ${sources})
        get_filename_component(stem ${source} NAME_WE)
        string(REPLACE "test_" "" stem ${stem})
        set(target test_${prefix}_${stem})
        add_executable(${target} ${source})
        set_target_properties(${target} PROPERTIES AUTOMOC ON)
        target_link_libraries(${target} PRIVATE nibble_test_support ${ARG_LINK} Qt6::Test)
        add_test(NAME ${prefix}.${stem} COMMAND ${target})
        set_tests_properties(${prefix}.${stem} PROPERTIES LABELS quick TIMEOUT 300)
        if(NIBBLE_SANITIZE MATCHES "address") # see tests/support/keep_libraries.cpp
            set_tests_properties(
                ${prefix}.${stem} PROPERTIES ENVIRONMENT_MODIFICATION
                "ASAN_OPTIONS=set:verify_asan_link_order=0:malloc_context_size=8:quarantine_size_mb=64:max_malloc_fill_size=0;\
LSAN_OPTIONS=set:suppressions=${CMAKE_SOURCE_DIR}/tests/support/leaks.txt:print_suppressions=0;\
LD_PRELOAD=set:${CMAKE_BINARY_DIR}/tests/support/libnibble_keep_libraries.so")
        endif()
        # Nothing is read from or kept in the user's cache: each run computes what it tests. (Drivers keep their
        # compiled shaders elsewhere.)
        set_property(TEST ${prefix}.${stem} APPEND PROPERTY ENVIRONMENT_MODIFICATION
            "XDG_CACHE_HOME=set:/dev/null" "NIBBLE_TEST_CACHE=set:${CMAKE_BINARY_DIR}/test_cache" "NIBBLE_VULKAN_PROBE=set:0"
            "MESA_SHADER_CACHE_DIR=set:${CMAKE_BINARY_DIR}/shader_cache")
        file(STRINGS ${source} settings REGEX "^// ctest: ")
        foreach(line ${settings})
            string(REGEX REPLACE "^// ctest: " "" line "${line}")
            string(REPLACE " " ";" pairs "${line}")
            foreach(pair ${pairs})
                string(REGEX MATCH "^([A-Z_]+)=(.*)$" ok "${pair}")
                set_property(TEST ${prefix}.${stem} PROPERTY ${CMAKE_MATCH_1} "${CMAKE_MATCH_2}")
            endforeach()
        endforeach()
        nibble_patience(${prefix}.${stem})
    endforeach()
endfunction()
