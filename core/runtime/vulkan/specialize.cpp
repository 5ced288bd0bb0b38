#include "core/runtime/vulkan/specialize.h"

#include "core/base/error.h"

#ifdef NIBBLE_HAS_SPIRV_OPT
#include <spirv-tools/optimizer.hpp>
#endif

namespace nibble {

#ifdef NIBBLE_HAS_SPIRV_OPT

bool canSpecialize() {
    return true;
}

std::vector<uint32_t> specialize(std::span<const uint32_t> module,
                                 const KernelConstants& constants) {
    std::unordered_map<uint32_t, std::vector<uint32_t>> values;
    for (const auto& [id, value] : constants)
        values[id] = {value};
    spvtools::Optimizer optimizer(SPV_ENV_VULKAN_1_1);
    optimizer.RegisterPass(spvtools::CreateSetSpecConstantDefaultValuePass(values))
        .RegisterPass(spvtools::CreateFreezeSpecConstantValuePass())
        .RegisterPass(spvtools::CreateFoldSpecConstantOpAndCompositePass())
        .RegisterPass(spvtools::CreateCCPPass())
        .RegisterPass(spvtools::CreateDeadBranchElimPass())
        .RegisterPass(spvtools::CreateBlockMergePass())
        .RegisterPass(spvtools::CreateAggressiveDCEPass());
    spvtools::OptimizerOptions options;
    options.set_run_validator(false); // the build validated the module
    std::vector<uint32_t> folded;
    if (!optimizer.Run(module.data(), module.size(), &folded, options))
        fail(ErrorKind::Internal, "A kernel of this build could not be specialized.");
    return folded;
}

#else

bool canSpecialize() {
    return false;
}

std::vector<uint32_t> specialize(std::span<const uint32_t>, const KernelConstants&) {
    fail(ErrorKind::Internal, "This build has no SPIRV-Tools to specialize kernels with.");
}

#endif

} // namespace nibble
