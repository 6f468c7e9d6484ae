// What the shim uses of TensorRT, as each version declares it: a stand-in for headers that cannot be had here.
//
// FAKE_VERSION is major * 100 + minor. What a version lacks is not declared, so that a shim that asks for it does not compile.
// Sources: the version table in docs/design/tensorrt.md.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda_runtime_api.h"

#define NV_TENSORRT_MAJOR (FAKE_VERSION / 100)
#define NV_TENSORRT_MINOR (FAKE_VERSION % 100)
#define NV_TENSORRT_PATCH 1
#if FAKE_VERSION >= 1000
#define NV_TENSORRT_VERSION (NV_TENSORRT_MAJOR * 10000 + NV_TENSORRT_MINOR * 100 + NV_TENSORRT_PATCH)
#else
#define NV_TENSORRT_VERSION (NV_TENSORRT_MAJOR * 1000 + NV_TENSORRT_MINOR * 100 + NV_TENSORRT_PATCH)
#endif

extern "C" int32_t getInferLibVersion() noexcept;
extern "C" void* createInferBuilder_INTERNAL(void* logger, int32_t version) noexcept;
extern "C" void* createInferRuntime_INTERNAL(void* logger, int32_t version) noexcept;

namespace nvinfer1 {

using AsciiChar = char;

enum class DataType : int32_t { kFLOAT = 0, kHALF = 1, kINT8 = 2, kINT32 = 3, kBOOL = 4 };

struct Dims {
    int32_t nbDims;
#if FAKE_VERSION >= 1000
    int64_t d[8];
#else
    int32_t d[8];
#endif
};

class ILogger {
public:
    enum class Severity : int32_t { kINTERNAL_ERROR = 0, kERROR = 1, kWARNING = 2, kINFO = 3, kVERBOSE = 4 };
    virtual void log(Severity severity, AsciiChar const* text) noexcept = 0;
    virtual ~ILogger() = default;
};

class IHostMemory {
public:
    virtual ~IHostMemory() noexcept = default;
    virtual void* data() const noexcept = 0;
    virtual std::size_t size() const noexcept = 0;
};

class ITensor {
public:
    virtual char const* getName() const noexcept = 0;
#if FAKE_VERSION < 1100
    virtual bool setDynamicRange(float low, float high) noexcept = 0;
#endif
protected:
    virtual ~ITensor() noexcept = default;
};

class ILayer {
public:
    virtual int32_t getNbOutputs() const noexcept = 0;
    virtual ITensor* getOutput(int32_t index) const noexcept = 0;

protected:
    virtual ~ILayer() noexcept = default;
};

#if FAKE_VERSION < 1100
enum class NetworkDefinitionCreationFlag : int32_t { kEXPLICIT_BATCH = 0 };
#endif

class INetworkDefinition {
public:
    virtual ~INetworkDefinition() noexcept = default;
    virtual int32_t getNbInputs() const noexcept = 0;
    virtual ITensor* getInput(int32_t index) const noexcept = 0;
    virtual int32_t getNbLayers() const noexcept = 0;
    virtual ILayer* getLayer(int32_t index) const noexcept = 0;
};

class ITimingCache {
public:
    virtual ~ITimingCache() noexcept = default;
    virtual IHostMemory* serialize() const noexcept = 0;
};

enum class BuilderFlag : int32_t {
#if FAKE_VERSION < 1100
    kFP16 = 0,
    kINT8 = 1,
#endif
    kDEBUG = 2
};

enum class ProfilingVerbosity : int32_t { kLAYER_NAMES_ONLY = 0, kNONE = 1, kDETAILED = 2 };

#if FAKE_VERSION >= 804
enum class MemoryPoolType : int32_t { kWORKSPACE = 0 };
#endif

#if FAKE_VERSION >= 1000
class IProgressMonitor {
public:
    virtual ~IProgressMonitor() noexcept = default;
    virtual void phaseStart(char const* phase, char const* parent, int32_t steps) noexcept = 0;
    virtual bool stepComplete(char const* phase, int32_t step) noexcept = 0;
    virtual void phaseFinish(char const* phase) noexcept = 0;
};
#endif

class IBuilderConfig {
public:
    virtual ~IBuilderConfig() noexcept = default;
    virtual void setFlag(BuilderFlag flag) noexcept = 0;
    virtual void setProfilingVerbosity(ProfilingVerbosity verbosity) noexcept = 0;
    virtual ITimingCache* createTimingCache(void const* blob, std::size_t size) const noexcept = 0;
    virtual bool setTimingCache(ITimingCache const& cache, bool ignoreMismatch) noexcept = 0;
#if FAKE_VERSION < 1000
    virtual void setMaxWorkspaceSize(std::size_t bytes) noexcept = 0;
#endif
#if FAKE_VERSION >= 804
    virtual void setMemoryPoolLimit(MemoryPoolType pool, std::size_t bytes) noexcept = 0;
#endif
#if FAKE_VERSION >= 1000
    virtual void setProgressMonitor(IProgressMonitor* monitor) noexcept = 0;
#endif
};

class IBuilder {
public:
    virtual ~IBuilder() noexcept = default;
#if FAKE_VERSION < 1100
    virtual bool platformHasFastFp16() const noexcept = 0;
    virtual bool platformHasFastInt8() const noexcept = 0;
#endif
    virtual int32_t getNbDLACores() const noexcept = 0;
    virtual INetworkDefinition* createNetworkV2(uint32_t flags) noexcept = 0;
    virtual IBuilderConfig* createBuilderConfig() noexcept = 0;
    virtual IHostMemory* buildSerializedNetwork(INetworkDefinition& network, IBuilderConfig& config) noexcept = 0;
};

enum class LayerInformationFormat : int32_t { kONELINE = 0, kJSON = 1 };

class IEngineInspector {
public:
    virtual ~IEngineInspector() noexcept = default;
    virtual AsciiChar const* getEngineInformation(LayerInformationFormat format) const noexcept = 0;
};

class IExecutionContext {
public:
    virtual ~IExecutionContext() noexcept = default;
#if FAKE_VERSION >= 805
    virtual bool setTensorAddress(char const* name, void* address) noexcept = 0;
    virtual bool enqueueV3(cudaStream_t stream) noexcept = 0;
#endif
#if FAKE_VERSION < 1000
    virtual bool enqueueV2(void* const* bindings, cudaStream_t stream, cudaEvent_t* consumed) noexcept = 0;
#endif
};

#if FAKE_VERSION >= 805
enum class TensorIOMode : int32_t { kNONE = 0, kINPUT = 1, kOUTPUT = 2 };
#endif

class ICudaEngine {
public:
    virtual ~ICudaEngine() noexcept = default;
    virtual IExecutionContext* createExecutionContext() noexcept = 0;
    virtual IEngineInspector* createEngineInspector() const noexcept = 0;
#if FAKE_VERSION >= 805
    virtual int32_t getNbIOTensors() const noexcept = 0;
    virtual char const* getIOTensorName(int32_t index) const noexcept = 0;
    virtual TensorIOMode getTensorIOMode(char const* name) const noexcept = 0;
    virtual Dims getTensorShape(char const* name) const noexcept = 0;
    virtual DataType getTensorDataType(char const* name) const noexcept = 0;
#endif
#if FAKE_VERSION < 1000
    virtual int32_t getNbBindings() const noexcept = 0;
    virtual int32_t getBindingIndex(char const* name) const noexcept = 0;
    virtual char const* getBindingName(int32_t index) const noexcept = 0;
    virtual bool bindingIsInput(int32_t index) const noexcept = 0;
    virtual Dims getBindingDimensions(int32_t index) const noexcept = 0;
    virtual DataType getBindingDataType(int32_t index) const noexcept = 0;
#endif
};

class IRuntime {
public:
    virtual ~IRuntime() noexcept = default;
    virtual ICudaEngine* deserializeCudaEngine(void const* blob, std::size_t size) noexcept = 0;
};

inline IBuilder* createInferBuilder(ILogger& logger) noexcept {
    return static_cast<IBuilder*>(createInferBuilder_INTERNAL(&logger, NV_TENSORRT_VERSION));
}

inline IRuntime* createInferRuntime(ILogger& logger) noexcept {
    return static_cast<IRuntime*>(createInferRuntime_INTERNAL(&logger, NV_TENSORRT_VERSION));
}

} // namespace nvinfer1
