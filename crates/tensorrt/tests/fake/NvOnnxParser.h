// What the shim uses of the ONNX parser; see NvInfer.h.
#pragma once

#include "NvInfer.h"

#define NV_ONNX_PARSER_VERSION 1

extern "C" void* createNvOnnxParser_INTERNAL(void* network, void* logger, int version);

namespace nvonnxparser {

class IParserError {
public:
    virtual char const* desc() const = 0;
    virtual int node() const = 0;

protected:
    virtual ~IParserError() = default;
};

class IParser {
public:
    virtual ~IParser() noexcept = default;
    virtual bool parse(void const* model, size_t size, char const* path = nullptr) = 0;
    virtual int getNbErrors() const = 0;
    virtual IParserError const* getError(int index) const = 0;
};

inline IParser* createParser(nvinfer1::INetworkDefinition& network, nvinfer1::ILogger& logger) {
    return static_cast<IParser*>(createNvOnnxParser_INTERNAL(&network, &logger, NV_ONNX_PARSER_VERSION));
}

} // namespace nvonnxparser
