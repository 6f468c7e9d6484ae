// See anemia_tensorrt.h. C++14 and TensorRT, nothing else; one source for TensorRT 8.2 to 11 and TensorRT-RTX.

#include "anemia_tensorrt.h"

#include <NvInfer.h>
#include <NvOnnxParser.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

// TensorRT-RTX counts from 1.0 and has the interface of TensorRT 11.
#ifdef TRT_MAJOR_RTX
#define ATT_IS_RTX 1
#define ATT_API 1100
#else
#define ATT_IS_RTX 0
#define ATT_API (NV_TENSORRT_MAJOR * 100 + NV_TENSORRT_MINOR)
#endif

#if ATT_API < 802
#error "TensorRT 8.2 or newer is needed"
#endif

namespace {

using Severity = nvinfer1::ILogger::Severity;

// An error with the status that goes with it.
struct Failure : std::runtime_error {
    int32_t status;
    Failure(int32_t status_, std::string const& text) : std::runtime_error(text), status(status_) {}
};

// Hands TensorRT's messages on, and keeps the last errors: they are all that says why a null pointer came back.
//
// There is one, and it is never destroyed: TensorRT before 8.4 goes on with the first logger that it was given for as long as
// any of its objects lives, whatever loggers the others came with.
class Logger final : public nvinfer1::ILogger {
public:
    static Logger& one() {
        static Logger* const logger = new Logger;
        return *logger;
    }

    void log(Severity severity, char const* text) noexcept override {
        if (text == nullptr) {
            return;
        }
        if (severity <= Severity::kERROR) {
            try {
                std::lock_guard<std::mutex> lock(mutex_);
                errors_[count_ % kept] = text;
                ++count_;
            } catch (...) {
                // Without memory for the message there is still the one of the caller.
            }
        }
        att_log const told = told_;
        if (told != nullptr) {
            told(static_cast<int32_t>(severity), text);
        }
    }

    void tell(att_log log) { told_ = log; }

    // How many errors there were so far.
    uint64_t count() const { return count_; }

    // The errors since then, the last one last, as far as they were kept.
    std::vector<std::string> since(uint64_t count) {
        std::lock_guard<std::mutex> lock(mutex_);
        std::vector<std::string> errors;
        uint64_t const now = count_;
        for (uint64_t at = now - std::min<uint64_t>(now - count, kept); at < now; ++at) {
            errors.push_back(errors_[at % kept]);
        }
        return errors;
    }

private:
    static constexpr uint64_t kept = 3;
    std::atomic<att_log> told_{nullptr};
    std::atomic<uint64_t> count_{0};
    std::mutex mutex_;
    std::string errors_[kept];
};

bool has(std::string const& text, char const* word) {
    return text.find(word) != std::string::npos;
}

// What went wrong since a call began: `what`, and TensorRT's own words.
Failure failure(uint64_t begin, int32_t status, std::string text) {
    auto const errors = Logger::one().since(begin);
    for (auto const& error : errors) {
        text += ": " + error;
    }
    // The last error decides: a lack of memory before it was one that TensorRT found a way around.
    if (!errors.empty()) {
        // "Error Code 2: OutOfMemory" and "Error Code 1: Cuda Runtime" are how TensorRT writes them.
        if (has(errors.back(), "OutOfMemory") || has(errors.back(), "out of memory")) {
            status = ATT_OUT_OF_MEMORY;
        } else if (has(errors.back(), "Cuda Runtime") || has(errors.back(), "Cuda Driver")) {
            status = ATT_FAILED;
        }
    }
    return Failure(status, text);
}

#if ATT_API >= 1000
// Tells how far a build is, and stops it when nobody wants it any more. TensorRT calls it from several threads.
class Progress final : public nvinfer1::IProgressMonitor {
public:
    Progress(att_progress progress, void* user) : progress_(progress), user_(user) {}

    void phaseStart(char const* phase, char const* parent, int32_t steps) noexcept override {
        // Phases inside of phases come and go by the hundred; the outermost ones tell enough.
        if (parent != nullptr) {
            return;
        }
        std::lock_guard<std::mutex> lock(mutex_);
        std::snprintf(phase_, sizeof(phase_), "%s", phase);
        steps_ = steps;
        tell(0);
    }

    bool stepComplete(char const* phase, int32_t step) noexcept override {
        std::lock_guard<std::mutex> lock(mutex_);
        if (std::strncmp(phase, phase_, sizeof(phase_) - 1) == 0) {
            tell(step + 1);
        }
        return !cancelled_;
    }

    void phaseFinish(char const*) noexcept override {}

    bool cancelled() const {
        std::lock_guard<std::mutex> lock(mutex_);
        return cancelled_;
    }

private:
    void tell(int32_t step) {
        if (progress_ != nullptr && !cancelled_ && progress_(user_, phase_, step, steps_) == 0) {
            cancelled_ = true;
        }
    }

    att_progress progress_;
    void* user_;
    mutable std::mutex mutex_;
    char phase_[128] = {};
    int32_t steps_ = 0;
    bool cancelled_ = false;
};
#endif

void write(att_error* error, char const* text) {
    if (error != nullptr) {
        std::snprintf(error->text, sizeof(error->text), "%s", text);
    }
}

// Runs `work`, which is told how many errors there were before it; whatever it throws becomes a status and a text.
template <typename Work>
int32_t guarded(att_error* error, Work work) noexcept {
    try {
        write(error, "");
        work(Logger::one().count());
        return ATT_OK;
    } catch (Failure const& failure) {
        write(error, failure.what());
        return failure.status;
    } catch (std::bad_alloc const&) {
        write(error, "out of memory");
        return ATT_OUT_OF_MEMORY;
    } catch (std::exception const& exception) {
        write(error, exception.what());
        return ATT_FAILED;
    } catch (...) {
        write(error, "an exception of an unknown kind");
        return ATT_FAILED;
    }
}

void copy(void const* data, size_t size, att_blob* blob) {
    blob->data = std::malloc(size > 0 ? size : 1);
    if (blob->data == nullptr) {
        throw std::bad_alloc();
    }
    std::memcpy(blob->data, data, size);
    blob->size = size;
}

std::unique_ptr<nvinfer1::IBuilder> create_builder(uint64_t begin) {
    std::unique_ptr<nvinfer1::IBuilder> builder(nvinfer1::createInferBuilder(Logger::one()));
    if (!builder) {
        throw failure(begin, ATT_FAILED, "TensorRT gives no builder");
    }
    return builder;
}

void set_precision(nvinfer1::IBuilderConfig& config, uint32_t flags) {
#if ATT_API < 1100
    if ((flags & ATT_ALLOW_FP16) != 0) {
        config.setFlag(nvinfer1::BuilderFlag::kFP16);
    }
    if ((flags & ATT_ALLOW_INT8) != 0) {
        config.setFlag(nvinfer1::BuilderFlag::kINT8);
    }
#else
    static_cast<void>(config);
    static_cast<void>(flags);
#endif
}

void set_workspace(nvinfer1::IBuilderConfig& config, uint64_t bytes) {
#if ATT_API >= 804
    config.setMemoryPoolLimit(nvinfer1::MemoryPoolType::kWORKSPACE, bytes);
#else
    config.setMaxWorkspaceSize(bytes);
#endif
}

void set_ranges(nvinfer1::INetworkDefinition& network, att_build_options const& options) {
#if ATT_API < 1100
    auto const set = [&options](nvinfer1::ITensor* tensor) {
        for (uint64_t at = 0; tensor != nullptr && at < options.range_count; ++at) {
            if (std::strcmp(tensor->getName(), options.ranges[at].tensor) == 0) {
                tensor->setDynamicRange(-options.ranges[at].amax, options.ranges[at].amax);
            }
        }
    };
    for (int32_t at = 0; at < network.getNbInputs(); ++at) {
        set(network.getInput(at));
    }
    for (int32_t layer = 0; layer < network.getNbLayers(); ++layer) {
        for (int32_t at = 0; at < network.getLayer(layer)->getNbOutputs(); ++at) {
            set(network.getLayer(layer)->getOutput(at));
        }
    }
#else
    static_cast<void>(network);
    static_cast<void>(options);
#endif
}

// For a build without a GPU. Only TensorRT-RTX can do that.
void set_target(nvinfer1::IBuilderConfig& config, int32_t compute_capability) {
    if (compute_capability == 0) {
        return;
    }
#if ATT_IS_RTX
    auto const target = static_cast<nvinfer1::ComputeCapability>(compute_capability);
    if (!config.setNbComputeCapabilities(1) || !config.setComputeCapability(target, 0)) {
        throw Failure(ATT_FAILED, "TensorRT-RTX does not build for this compute capability");
    }
#else
    static_cast<void>(config);
    throw Failure(ATT_FAILED, "TensorRT builds for the GPU of this machine only");
#endif
}

#if !ATT_IS_RTX
using TimingCache = std::unique_ptr<nvinfer1::ITimingCache>;

// The timing cache of an earlier build, or an empty one.
TimingCache timing_cache_of(nvinfer1::IBuilderConfig& config, att_build_options const& options) {
    if (options.timing_cache_size > 0) {
        TimingCache cache(config.createTimingCache(options.timing_cache, options.timing_cache_size));
        if (cache && config.setTimingCache(*cache, false)) {
            return cache;
        }
        Logger::one().log(Severity::kWARNING, "the timing cache does not fit and is left aside");
    }
    TimingCache cache(config.createTimingCache(nullptr, 0));
    if (cache) {
        config.setTimingCache(*cache, false);
    }
    return cache;
}
#endif

void parse(nvonnxparser::IParser& parser, void const* onnx, uint64_t size) {
    if (parser.parse(onnx, size)) {
        return;
    }
    std::string text = "TensorRT does not read the network";
    for (int32_t at = 0; at < parser.getNbErrors(); ++at) {
        auto const* error = parser.getError(at);
        text += "; node " + std::to_string(error->node()) + ": " + error->desc();
    }
    throw Failure(ATT_REFUSED, text);
}

int32_t number_of(nvinfer1::DataType type) {
    switch (type) {
    case nvinfer1::DataType::kFLOAT: return ATT_FLOAT32;
    case nvinfer1::DataType::kHALF: return ATT_FLOAT16;
    case nvinfer1::DataType::kINT8: return ATT_INT8;
    case nvinfer1::DataType::kINT32: return ATT_INT32;
    default: return ATT_OTHER;
    }
}

} // namespace

struct att_runtime {
    std::unique_ptr<nvinfer1::IRuntime> runtime;
};

struct att_engine {
    std::unique_ptr<nvinfer1::ICudaEngine> engine;
};

struct att_context {
    nvinfer1::ICudaEngine& engine;
    std::unique_ptr<nvinfer1::IExecutionContext> context;
    // For enqueueV2, which wants the addresses in the order of the tensors.
    std::vector<void*> addresses;
};

extern "C" {

int32_t att_abi(void) {
    return ATT_ABI;
}

void att_get_versions(att_versions* versions) {
    versions->headers = NV_TENSORRT_MAJOR * 10000 + NV_TENSORRT_MINOR * 100 + NV_TENSORRT_PATCH;
    int32_t const library = getInferLibVersion();
    // Before TensorRT 10 it is major * 1000 + minor * 100 + patch.
    versions->library = library < 10000 && ATT_IS_RTX == 0
        ? library / 1000 * 10000 + library % 1000
        : library;
    versions->is_rtx = ATT_IS_RTX;
}

void att_set_log(att_log log) {
    Logger::one().tell(log);
}

int32_t att_get_platform(att_platform* platform, att_error* error) {
    return guarded(error, [&](uint64_t begin) {
        *platform = att_platform{-1, -1, -1};
        static_cast<void>(begin);
#if !ATT_IS_RTX
        auto const builder = create_builder(begin);
#if ATT_API < 1100
        platform->fast_fp16 = builder->platformHasFastFp16() ? 1 : 0;
        platform->fast_int8 = builder->platformHasFastInt8() ? 1 : 0;
#endif
        platform->dla_cores = builder->getNbDLACores();
#endif
    });
}

int32_t att_build(
    att_build_options const* options,
    void const* onnx,
    uint64_t onnx_size,
    att_blob* plan,
    att_blob* timing_cache,
    att_error* error) {
    *plan = att_blob{};
    *timing_cache = att_blob{};
    return guarded(error, [&](uint64_t begin) {
        // Both must outlive builder and configuration, so they come first.
#if ATT_API >= 1000
        Progress progress(options->progress, options->progress_user);
#endif
#if !ATT_IS_RTX
        TimingCache cache;
#endif
        auto const builder = create_builder(begin);
#if ATT_API < 1000
        uint32_t const explicit_batch =
            1U << static_cast<uint32_t>(nvinfer1::NetworkDefinitionCreationFlag::kEXPLICIT_BATCH);
#else
        uint32_t const explicit_batch = 0;
#endif
        std::unique_ptr<nvinfer1::INetworkDefinition> network(builder->createNetworkV2(explicit_batch));
        std::unique_ptr<nvinfer1::IBuilderConfig> config(builder->createBuilderConfig());
        if (!network || !config) {
            throw failure(begin, ATT_FAILED, "TensorRT gives no network");
        }
        std::unique_ptr<nvonnxparser::IParser> parser(nvonnxparser::createParser(*network, Logger::one()));
        if (!parser) {
            throw failure(begin, ATT_FAILED, "TensorRT gives no parser");
        }
        parse(*parser, onnx, onnx_size);

        set_target(*config, options->compute_capability);
        set_precision(*config, options->flags);
        set_workspace(*config, options->workspace_bytes);
        set_ranges(*network, *options);
        config->setProfilingVerbosity(nvinfer1::ProfilingVerbosity::kDETAILED);
#if !ATT_IS_RTX
        cache = timing_cache_of(*config, *options);
#endif
#if ATT_API >= 1000
        config->setProgressMonitor(&progress);
#endif
        begin = Logger::one().count();
        std::unique_ptr<nvinfer1::IHostMemory> const built(builder->buildSerializedNetwork(*network, *config));
#if ATT_API >= 1000
        if (progress.cancelled()) {
            throw Failure(ATT_CANCELLED, "the build was stopped");
        }
#endif
        if (!built || built->size() == 0) {
            throw failure(begin, ATT_REFUSED, "TensorRT built no plan");
        }
        copy(built->data(), built->size(), plan);
#if !ATT_IS_RTX
        // A plan without its timing cache is as good; the next build takes longer.
        if (cache) {
            std::unique_ptr<nvinfer1::IHostMemory> const learned(cache->serialize());
            if (learned) {
                copy(learned->data(), learned->size(), timing_cache);
            }
        }
#endif
    });
}

void att_free(att_blob* blob) {
    std::free(blob->data);
    *blob = att_blob{};
}

int32_t att_runtime_create(att_runtime** runtime, att_error* error) {
    *runtime = nullptr;
    return guarded(error, [&](uint64_t begin) {
        std::unique_ptr<nvinfer1::IRuntime> made(nvinfer1::createInferRuntime(Logger::one()));
        if (!made) {
            throw failure(begin, ATT_FAILED, "TensorRT gives no runtime");
        }
        *runtime = new att_runtime{std::move(made)};
    });
}

void att_runtime_destroy(att_runtime* runtime) {
    delete runtime;
}

int32_t att_engine_load(
    att_runtime* runtime, void const* plan, uint64_t size, att_engine** engine, att_error* error) {
    *engine = nullptr;
    return guarded(error, [&](uint64_t begin) {
        std::unique_ptr<nvinfer1::ICudaEngine> loaded(runtime->runtime->deserializeCudaEngine(plan, size));
        if (!loaded) {
            throw failure(begin, ATT_BAD_PLAN, "TensorRT does not accept the plan");
        }
        *engine = new att_engine{std::move(loaded)};
    });
}

void att_engine_destroy(att_engine* engine) {
    delete engine;
}

int32_t att_engine_tensor_count(att_engine const* engine) {
#if ATT_API >= 805
    return engine->engine->getNbIOTensors();
#else
    return engine->engine->getNbBindings();
#endif
}

int32_t att_engine_tensor(att_engine const* engine, int32_t index, att_tensor* tensor, att_error* error) {
    *tensor = att_tensor{};
    return guarded(error, [&](uint64_t begin) {
        static_cast<void>(begin);
        nvinfer1::ICudaEngine const& own = *engine->engine;
#if ATT_API >= 805
        char const* const name = own.getIOTensorName(index);
#else
        char const* const name = own.getBindingName(index);
#endif
        if (name == nullptr || std::strlen(name) >= sizeof(tensor->name)) {
            throw Failure(ATT_FAILED, "the plan has no tensor of this number, or one with an endless name");
        }
#if ATT_API >= 805
        bool const is_input = own.getTensorIOMode(name) == nvinfer1::TensorIOMode::kINPUT;
        auto const shape = own.getTensorShape(name);
        auto const type = own.getTensorDataType(name);
#else
        bool const is_input = own.bindingIsInput(index);
        auto const shape = own.getBindingDimensions(index);
        auto const type = own.getBindingDataType(index);
#endif
        std::memcpy(tensor->name, name, std::strlen(name) + 1);
        tensor->is_input = is_input ? 1 : 0;
        tensor->type = number_of(type);
        if (shape.nbDims < 0 || shape.nbDims > 8) {
            throw Failure(ATT_FAILED, std::string("the plan does not say how large ") + name + " is");
        }
        tensor->rank = shape.nbDims;
        for (int32_t at = 0; at < tensor->rank; ++at) {
            tensor->shape[at] = shape.d[at];
        }
    });
}

int32_t att_engine_inspect(att_engine* engine, att_blob* json, att_error* error) {
    *json = att_blob{};
    return guarded(error, [&](uint64_t begin) {
        std::unique_ptr<nvinfer1::IEngineInspector> inspector(engine->engine->createEngineInspector());
        char const* const text =
            inspector ? inspector->getEngineInformation(nvinfer1::LayerInformationFormat::kJSON) : nullptr;
        if (text == nullptr) {
            throw failure(begin, ATT_FAILED, "TensorRT says nothing of the layers");
        }
        copy(text, std::strlen(text), json);
    });
}

int32_t att_context_create(att_engine* engine, att_context** context, att_error* error) {
    *context = nullptr;
    return guarded(error, [&](uint64_t begin) {
        std::unique_ptr<nvinfer1::IExecutionContext> made(engine->engine->createExecutionContext());
        if (!made) {
            throw failure(begin, ATT_FAILED, "TensorRT gives no context");
        }
        std::vector<void*> addresses(static_cast<size_t>(att_engine_tensor_count(engine)), nullptr);
        *context = new att_context{*engine->engine, std::move(made), std::move(addresses)};
    });
}

void att_context_destroy(att_context* context) {
    delete context;
}

int32_t att_context_bind(att_context* context, char const* tensor, void* device, att_error* error) {
    return guarded(error, [&](uint64_t begin) {
#if ATT_API >= 805
        bool const bound = context->context->setTensorAddress(tensor, device);
#else
        int32_t const index = context->engine.getBindingIndex(tensor);
        bool const bound = index >= 0;
        if (bound) {
            context->addresses[static_cast<size_t>(index)] = device;
        }
#endif
        if (!bound) {
            throw failure(begin, ATT_FAILED, std::string("the plan has no tensor ") + tensor);
        }
    });
}

int32_t att_context_enqueue(att_context* context, void* stream, att_error* error) {
    return guarded(error, [&](uint64_t begin) {
        auto const queue = static_cast<cudaStream_t>(stream);
#if ATT_API >= 805
        bool const queued = context->context->enqueueV3(queue);
#else
        bool const queued = context->context->enqueueV2(context->addresses.data(), queue, nullptr);
#endif
        if (!queued) {
            throw failure(begin, ATT_FAILED, "TensorRT does not run the plan");
        }
    });
}

} // extern "C"
