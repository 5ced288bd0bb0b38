# Installed layout and the Debian package (cpack in a release build folder).
include(GNUInstallDirs)
install(FILES "${CMAKE_SOURCE_DIR}/installer/nibble.desktop" DESTINATION "${CMAKE_INSTALL_DATADIR}/applications")
install(FILES "${CMAKE_SOURCE_DIR}/installer/nibble-mime.xml" DESTINATION "${CMAKE_INSTALL_DATADIR}/mime/packages"
        RENAME nibble.xml)
install(DIRECTORY "${CMAKE_SOURCE_DIR}/resources/sample_model" "${CMAKE_SOURCE_DIR}/resources/text"
        "${CMAKE_SOURCE_DIR}/resources/recipes"
        DESTINATION "${CMAKE_INSTALL_DATADIR}/nibble" OPTIONAL
        FILES_MATCHING PATTERN "*.gguf" PATTERN "*.z" PATTERN "*.json" PATTERN "*.jsonl" PATTERN "*.md")
install(FILES "${CMAKE_SOURCE_DIR}/LICENSE" DESTINATION "${CMAKE_INSTALL_DOCDIR}")

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME nibble)
set(CPACK_PACKAGE_VERSION "${PROJECT_VERSION}")
set(CPACK_PACKAGE_CONTACT "The Nibble project")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "${PROJECT_DESCRIPTION}")
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_DEPENDS "libvulkan1")
set(CPACK_DEBIAN_PACKAGE_RECOMMENDS "mesa-vulkan-drivers, fonts-dejavu-core")
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
include(CPack)
