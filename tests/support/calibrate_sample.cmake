# Makes the sample's calibration anew in FOLDER, a cache of its own, with the command line CLI.
file(REMOVE_RECURSE "${FOLDER}")
file(MAKE_DIRECTORY "${FOLDER}")
set(ENV{XDG_CACHE_HOME} "${FOLDER}")
execute_process(COMMAND "${CLI}" quantize sample -o "${FOLDER}/gptq" --level gptq --export gptq
                RESULT_VARIABLE failed)
file(GLOB layers "${FOLDER}/nibble/calibrations/*/layer-*")
if(failed OR NOT layers)
    message(FATAL_ERROR "no calibration was kept: ${failed}")
endif()
