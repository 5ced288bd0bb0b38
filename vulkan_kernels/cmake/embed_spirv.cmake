# Writes OUT: the SPIR-V files MODULES as arrays of words and the table kernelModules().
set(text "#include \"vulkan_kernels/include/kernel_table.h\"\n\nnamespace nibble::kernels {\nnamespace {\n")
set(rows)
foreach(module ${MODULES})
    get_filename_component(name "${module}" NAME_WE)
    file(READ "${module}" hex HEX)
    file(SHA256 "${module}" hash)
    string(REGEX REPLACE "(..)(..)(..)(..)" "0x\\4\\3\\2\\1," words "${hex}")
    string(APPEND text "const std::uint32_t k_${name}[] = {${words}};\n")
    string(APPEND rows "    {\"${name}\", k_${name}, \"${hash}\"},\n")
endforeach()
string(APPEND text "const KernelModule kModules[] = {\n${rows}};\n} // namespace\n"
    "\nstd::span<const KernelModule> kernelModules() {\n    return kModules;\n}\n\n} // namespace nibble::kernels\n")
file(WRITE "${OUT}" "${text}")
