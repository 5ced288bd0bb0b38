// Preloaded into tests under the address sanitizer. The Vulkan loader unloads a driver with its
// last instance, and what the driver had allocated once for the process (lavapipe: 128 bytes) then
// has lost the pointer to it and looks like a leak of ours, in a stack without names.
extern "C" int dlclose(void*) {
    return 0;
}
