// A TensorRT that runs on the processor and knows one network: the mean of its input.
//
// It reads no ONNX. Names and sizes stand somewhere in the file, as `fake: image 1 3 8 8 -> logit 1 1;`, and before the
// semicolon there may be words that let it fail: build-out-of-memory, tight-memory, build-fails, slow-build, load-out-of-memory,
// run-fails, fails-later, run-hangs, hangs-later, slow-run, adds-seven. FAKE_LIBRARY, at compile time, lets the library be of another version than the headers.

#include "NvOnnxParser.h"

#include <atomic>
#include <cctype>
#include <chrono>
#include <cstdlib>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

using namespace nvinfer1;
using Severity = ILogger::Severity;

namespace {

bool has(std::string const& text, char const* word) {
    return text.find(word) != std::string::npos;
}

// The version is in plans and timing caches, as in the real ones.
std::string magic(char const* kind) {
    return std::string(kind) + " of fake TensorRT " + std::to_string(getInferLibVersion()) + "\n";
}

uint32_t sum_of(std::string const& text) {
    uint32_t sum = 2166136261u;
    for (unsigned char byte : text) {
        sum = (sum ^ byte) * 16777619u;
    }
    return sum;
}

// TensorRT before 8.4 keeps the first logger for as long as any of its objects lives.
std::atomic<int> living{0};
std::atomic<ILogger*> first{nullptr};

struct Alive {
    ILogger& given;
    explicit Alive(ILogger& logger) : given(logger) {
        if (living++ == 0) {
            first = &logger;
        }
    }
    Alive(Alive const&) = delete;
    Alive& operator=(Alive const&) = delete;
    ~Alive() { --living; }
    void log(Severity severity, char const* text) const {
        (FAKE_VERSION < 804 ? *first : given).log(severity, text);
    }
};

struct Bytes final : IHostMemory {
    std::string bytes;
    explicit Bytes(std::string bytes_) : bytes(std::move(bytes_)) {}
    void* data() const noexcept override { return const_cast<char*>(bytes.data()); }
    std::size_t size() const noexcept override { return bytes.size(); }
};

struct Tensor final : ITensor {
    std::string name;
    Dims shape{};
    float amax = 0;
    char const* getName() const noexcept override { return name.c_str(); }
#if FAKE_VERSION < 1100
    bool setDynamicRange(float, float high) noexcept override {
        amax = high;
        return true;
    }
#endif
    int64_t length() const {
        int64_t length = 1;
        for (int32_t at = 0; at < shape.nbDims; ++at) {
            length *= shape.d[at];
        }
        return length;
    }
};

std::istream& operator>>(std::istream& in, Tensor& tensor) {
    std::string word;
    in >> tensor.name;
    while (tensor.shape.nbDims < 8 && in >> word && std::isdigit(static_cast<unsigned char>(word[0])) != 0) {
        tensor.shape.d[tensor.shape.nbDims++] = static_cast<decltype(tensor.shape.d[0] + 0)>(std::atoi(word.c_str()));
    }
    return in;
}

struct Network final : INetworkDefinition, ILayer {
    std::string spec;
    Tensor in;
    Tensor out;

    bool read(std::string const& text) {
        spec = text;
        std::istringstream words(text);
        words >> in >> out;
        return in.shape.nbDims > 0 && out.shape.nbDims > 0;
    }

    int32_t getNbInputs() const noexcept override { return 1; }
    ITensor* getInput(int32_t) const noexcept override { return const_cast<Tensor*>(&in); }
    int32_t getNbLayers() const noexcept override { return 1; }
    ILayer* getLayer(int32_t) const noexcept override { return const_cast<Network*>(this); }
    int32_t getNbOutputs() const noexcept override { return 1; }
    ITensor* getOutput(int32_t) const noexcept override { return const_cast<Tensor*>(&out); }
};

struct Cache final : ITimingCache {
    IHostMemory* serialize() const noexcept override { return new Bytes(magic("timing cache")); }
};

struct Config final : IBuilderConfig {
    Alive logger;
    std::string flags;
    std::size_t workspace = 0;
    // Whether the timing cache came from an earlier build.
    mutable bool has_old_cache = false;
#if FAKE_VERSION >= 1000
    IProgressMonitor* monitor = nullptr;
#endif
    explicit Config(ILogger& logger_) : logger(logger_) {}

    void setFlag(BuilderFlag flag) noexcept override {
        static_cast<void>(flag);
#if FAKE_VERSION < 1100
        flags += flag == BuilderFlag::kFP16 ? " fp16" : flag == BuilderFlag::kINT8 ? " int8" : "";
#endif
    }
    void setProfilingVerbosity(ProfilingVerbosity) noexcept override {}
    ITimingCache* createTimingCache(void const* blob, std::size_t size) const noexcept override {
        if (size > 0 && std::string(static_cast<char const*>(blob), size) != magic("timing cache")) {
            logger.log(Severity::kERROR, "1: [timingCache] Serialization assertion failed");
            return nullptr;
        }
        has_old_cache = size > 0;
        return new Cache;
    }
    bool setTimingCache(ITimingCache const&, bool) noexcept override { return true; }
#if FAKE_VERSION < 1000
    void setMaxWorkspaceSize(std::size_t bytes) noexcept override { workspace = bytes; }
#endif
#if FAKE_VERSION >= 804
    void setMemoryPoolLimit(MemoryPoolType, std::size_t bytes) noexcept override { workspace = bytes; }
#endif
#if FAKE_VERSION >= 1000
    void setProgressMonitor(IProgressMonitor* monitor_) noexcept override { monitor = monitor_; }
#endif
};

struct Builder final : IBuilder {
    Alive logger;
    explicit Builder(ILogger& logger_) : logger(logger_) {}

#if FAKE_VERSION < 1100
    bool platformHasFastFp16() const noexcept override { return true; }
    bool platformHasFastInt8() const noexcept override { return true; }
#endif
    int32_t getNbDLACores() const noexcept override { return 2; }
    INetworkDefinition* createNetworkV2(uint32_t flags) noexcept override {
        // The flag of explicit batches, which TensorRT 8 needs and 10 does away with.
        return flags == (FAKE_VERSION < 1000 ? 1u : 0u) ? new Network : nullptr;
    }
    IBuilderConfig* createBuilderConfig() noexcept override { return new Config(logger.given); }

    IHostMemory* buildSerializedNetwork(INetworkDefinition& network, IBuilderConfig& config) noexcept override {
        auto const& own = static_cast<Network const&>(network);
        auto const& how = static_cast<Config const&>(config);
        if (has(own.spec, "build-out-of-memory")) {
            logger.log(Severity::kERROR, "2: [virtualMemoryBuffer.cpp] Error Code 2: OutOfMemory (no further information)");
            return nullptr;
        }
        if (has(own.spec, "tight-memory")) {
            // A tactic is left out, and the build goes on.
            logger.log(Severity::kERROR, "2: [virtualMemoryBuffer.cpp] Error Code 2: OutOfMemory (tactic skipped)");
        }
        if (has(own.spec, "build-fails")) {
            logger.log(Severity::kERROR, "10: [optimizer.cpp] Error Code 10: Internal Error (no implementation for node 7)");
            return nullptr;
        }
#if FAKE_VERSION >= 1000
        if (how.monitor != nullptr) {
            how.monitor->phaseStart("Building", nullptr, 3);
            for (int32_t step = 0; step < 3; ++step) {
                // From a thread of its own, as the real one may.
                std::thread([&how] {
                    how.monitor->phaseStart("Tactics", "Building", 5);
                    how.monitor->stepComplete("Tactics", 0);
                    how.monitor->phaseFinish("Tactics");
                }).join();
                if (!how.monitor->stepComplete("Building", step)) {
                    break;
                }
            }
            how.monitor->phaseFinish("Building");
        }
#endif
        if (has(own.spec, "slow-build")) {
            std::this_thread::sleep_for(std::chrono::seconds(3));
        }
        logger.log(Severity::kINFO, "Engine built");
        std::ostringstream content;
        content << own.spec << "\n" << how.flags << "\namax " << own.in.amax << "\nworkspace " << how.workspace
                << (how.has_old_cache ? "\nwith a timing cache\n" : "\n");
        return new Bytes(magic("plan") + std::to_string(sum_of(content.str())) + "\n" + content.str());
    }
};

struct Inspector final : IEngineInspector {
    std::string json;
    explicit Inspector(std::string const& flags) : json("{\"Layers\": [\"mean\"], \"Flags\": \"" + flags + "\"}") {}
    AsciiChar const* getEngineInformation(LayerInformationFormat) const noexcept override { return json.c_str(); }
};

struct Engine;

struct Context final : IExecutionContext {
    Engine const& engine;
    float const* in = nullptr;
    float* out = nullptr;
    explicit Context(Engine const& engine_) : engine(engine_) {}
    bool run() noexcept;
#if FAKE_VERSION >= 805
    bool setTensorAddress(char const* name, void* address) noexcept override;
    bool enqueueV3(cudaStream_t) noexcept override { return run(); }
#endif
#if FAKE_VERSION < 1000
    bool enqueueV2(void* const* bindings, cudaStream_t, cudaEvent_t*) noexcept override {
        in = static_cast<float const*>(bindings[0]);
        out = static_cast<float*>(bindings[1]);
        return run();
    }
#endif
};

struct Engine final : ICudaEngine {
    Alive logger;
    Network network;
    std::string flags;
    explicit Engine(ILogger& logger_) : logger(logger_) {}

    Tensor const& tensor(int32_t index) const { return index == 0 ? network.in : network.out; }
    int32_t find(char const* name) const {
        return name == network.in.name ? 0 : name == network.out.name ? 1 : -1;
    }

    IExecutionContext* createExecutionContext() noexcept override { return new Context(*this); }
    IEngineInspector* createEngineInspector() const noexcept override { return new Inspector(flags); }
#if FAKE_VERSION >= 805
    int32_t getNbIOTensors() const noexcept override { return 2; }
    char const* getIOTensorName(int32_t index) const noexcept override { return tensor(index).getName(); }
    TensorIOMode getTensorIOMode(char const* name) const noexcept override {
        return find(name) == 0 ? TensorIOMode::kINPUT : TensorIOMode::kOUTPUT;
    }
    Dims getTensorShape(char const* name) const noexcept override { return tensor(find(name)).shape; }
    DataType getTensorDataType(char const*) const noexcept override { return DataType::kFLOAT; }
#endif
#if FAKE_VERSION < 1000
    int32_t getNbBindings() const noexcept override { return 2; }
    int32_t getBindingIndex(char const* name) const noexcept override { return find(name); }
    char const* getBindingName(int32_t index) const noexcept override { return tensor(index).getName(); }
    bool bindingIsInput(int32_t index) const noexcept override { return index == 0; }
    Dims getBindingDimensions(int32_t index) const noexcept override { return tensor(index).shape; }
    DataType getBindingDataType(int32_t) const noexcept override { return DataType::kFLOAT; }
#endif
};

bool Context::run() noexcept {
    if (has(engine.network.spec, "run-fails")) {
        engine.logger.log(Severity::kERROR, "1: [convolutionRunner.cpp] Error Code 1: Cuda Runtime (an illegal memory access)");
        return false;
    }
    static std::atomic<int> runs{0};
    bool const is_late = ++runs > 20;
    bool const late = is_late && has(engine.network.spec, "hangs-later");
    if (is_late && has(engine.network.spec, "fails-later")) {
        engine.logger.log(Severity::kERROR, "1: [checkMacros.cpp] Error Code 1: Cuda Runtime (an illegal memory access)");
        return false;
    }
    while (late || has(engine.network.spec, "run-hangs")) {
        std::this_thread::sleep_for(std::chrono::seconds(1));
    }
    if (in == nullptr || out == nullptr) {
        engine.logger.log(Severity::kERROR, "3: [executionContext.cpp] Error Code 3: API Usage Error (an address is missing)");
        return false;
    }
    double sum = 0;
    for (int64_t at = 0; at < engine.network.in.length(); ++at) {
        sum += in[at];
    }
    if (has(engine.network.spec, "slow-run")) {
        std::this_thread::sleep_for(std::chrono::milliseconds(3));
    }
    double const more = has(engine.network.spec, "adds-seven") ? 7 : 0;
    for (int64_t at = 0; at < engine.network.out.length(); ++at) {
        out[at] = static_cast<float>(sum / static_cast<double>(engine.network.in.length()) + more);
    }
    return true;
}

#if FAKE_VERSION >= 805
bool Context::setTensorAddress(char const* name, void* address) noexcept {
    int32_t const index = engine.find(name);
    if (index == 0) {
        in = static_cast<float const*>(address);
    } else if (index == 1) {
        out = static_cast<float*>(address);
    }
    return index >= 0;
}
#endif

struct Runtime final : IRuntime {
    Alive logger;
    explicit Runtime(ILogger& logger_) : logger(logger_) {}

    ICudaEngine* deserializeCudaEngine(void const* blob, std::size_t size) noexcept override {
        std::string const plan(static_cast<char const*>(blob), size);
        if (has(plan, "load-out-of-memory")) {
            logger.log(Severity::kERROR, "2: [defaultAllocator.cpp] Error Code 2: OutOfMemory (cudaMalloc)");
            return nullptr;
        }
        std::string const start = magic("plan");
        if (plan.compare(0, start.size(), start) != 0) {
            logger.log(Severity::kERROR, "6: The engine plan file is not compatible with this version of TensorRT");
            return nullptr;
        }
        auto const line = plan.find('\n', start.size());
        std::string const content = line == std::string::npos ? "" : plan.substr(line + 1);
        auto const* engine_spec = content.c_str();
        if (std::to_string(sum_of(content)) != plan.substr(start.size(), line - start.size())) {
            logger.log(Severity::kERROR, "1: [stdArchiveReader.cpp] Error Code 1: Serialization (checksum)");
            return nullptr;
        }
        auto* const engine = new Engine(logger.given);
        std::istringstream lines(engine_spec);
        std::string spec;
        std::getline(lines, spec);
        std::getline(lines, engine->flags);
        engine->network.read(spec);
        return engine;
    }
};

struct ParserError final : nvonnxparser::IParserError {
    char const* desc() const override { return "the metadata has no line `fake: …`"; }
    int node() const override { return 0; }
};

struct Parser final : nvonnxparser::IParser {
    Network& network;
    ParserError error;
    bool failed = false;
    explicit Parser(Network& network_) : network(network_) {}

    bool parse(void const* model, size_t size, char const*) override {
        std::string const bytes(static_cast<char const*>(model), size);
        auto const at = bytes.find("fake: ");
        auto const end = bytes.find(';', at);
        failed = at == std::string::npos || end == std::string::npos || !network.read(bytes.substr(at + 6, end - at - 6));
        return !failed;
    }
    int getNbErrors() const override { return failed ? 1 : 0; }
    nvonnxparser::IParserError const* getError(int) const override { return &error; }
};

} // namespace

extern "C" int32_t getInferLibVersion() noexcept {
#ifdef FAKE_LIBRARY
    return FAKE_LIBRARY;
#else
    return NV_TENSORRT_VERSION;
#endif
}

extern "C" void* createInferBuilder_INTERNAL(void* logger, int32_t) noexcept {
    return static_cast<IBuilder*>(new Builder(*static_cast<ILogger*>(logger)));
}

extern "C" void* createInferRuntime_INTERNAL(void* logger, int32_t) noexcept {
    return static_cast<IRuntime*>(new Runtime(*static_cast<ILogger*>(logger)));
}

extern "C" void* createNvOnnxParser_INTERNAL(void* network, void*, int) {
    auto* const own = static_cast<INetworkDefinition*>(network);
    return static_cast<nvonnxparser::IParser*>(new Parser(static_cast<Network&>(*own)));
}
