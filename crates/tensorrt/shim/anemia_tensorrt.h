/* The C interface between anemiad and TensorRT.
 *
 * TensorRT's own interface is C++ and differs from version to version. This one does not: it is compiled on the board against
 * the headers that are there, and opened with dlopen. Its numbers are its own, sizes have 64 bits, no exception leaves it.
 *
 * Every function that can fail gives a status and fills in `error`, with TensorRT's own words where it said any. Objects are
 * used by one thread at a time; messages may come from other threads, the steps of a build one after the other. A runtime outlives its engines, an engine its
 * contexts. */
#ifndef ANEMIA_TENSORRT_H
#define ANEMIA_TENSORRT_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What is declared here is all that the library shows. */
#pragma GCC visibility push(default)

/* Grows with every change of this file; both sides compare it before anything else. */
#define ATT_ABI 1

enum {
    ATT_OK = 0,
    ATT_FAILED = 1,
    ATT_OUT_OF_MEMORY = 2,
    /* The plan is damaged, or is for another TensorRT or GPU. */
    ATT_BAD_PLAN = 3,
    ATT_CANCELLED = 4,
    /* TensorRT does not read or build this network; the next time neither. */
    ATT_REFUSED = 5
};

/* What the numbers of a tensor are. */
enum { ATT_OTHER = 0, ATT_FLOAT32 = 1, ATT_FLOAT16 = 2, ATT_INT8 = 3, ATT_INT32 = 4 };

/* Flags of att_build_options. They are wishes: TensorRT 11 and TensorRT-RTX take the precision from the network alone. */
enum { ATT_ALLOW_FP16 = 1, ATT_ALLOW_INT8 = 2 };

typedef struct {
    char text[1024];
} att_error;

/* Told of every message: severity 0 internal error, 1 error, 2 warning, 3 information, 4 everything. */
typedef void (*att_log)(int32_t severity, const char* text);
/* Told that step `step` of `steps` of a phase is done; 0 stops the build. TensorRT 10 and newer call it. */
typedef int32_t (*att_progress)(void* user, const char* phase, int32_t step, int32_t steps);

/* Memory of the shim; att_free gives it back. */
typedef struct {
    void* data;
    uint64_t size;
} att_blob;

typedef struct {
    /* major * 10000 + minor * 100 + patch of the headers that the shim was compiled against. */
    int32_t headers;
    /* The same of the library that it is linked with. */
    int32_t library;
    /* 1 for TensorRT-RTX, which counts from 1.0 again. */
    int32_t is_rtx;
} att_versions;

/* 1 yes, 0 no, -1 when this version of TensorRT does not say. */
typedef struct {
    int32_t fast_fp16;
    int32_t fast_int8;
    int32_t dla_cores;
} att_platform;

/* The greatest magnitude of a tensor, for networks without Q/DQ. Ignored by TensorRT 11 and TensorRT-RTX. */
typedef struct {
    const char* tensor;
    float amax;
} att_range;

typedef struct {
    uint32_t flags;
    /* For TensorRT-RTX: build for this compute capability, such as 80, without a GPU; 0 for the GPU of this machine. */
    int32_t compute_capability;
    /* Most memory for an inference beside weights and values. TensorRT 8.2 has none unless it is told. */
    uint64_t workspace_bytes;
    /* What an earlier build has learned; may be empty. One that does not fit is left aside with a warning. */
    const void* timing_cache;
    uint64_t timing_cache_size;
    const att_range* ranges;
    uint64_t range_count;
    att_progress progress;
    void* progress_user;
} att_build_options;

typedef struct {
    char name[256];
    int32_t is_input;
    int32_t type;
    int32_t rank;
    int32_t reserved;
    int64_t shape[8];
} att_tensor;

typedef struct att_runtime att_runtime;
typedef struct att_engine att_engine;
typedef struct att_context att_context;

int32_t att_abi(void);
void att_get_versions(att_versions* versions);
/* One for the whole process: TensorRT before 8.4 knows but one logger, and keeps it as long as any of its objects lives. */
void att_set_log(att_log log);
int32_t att_get_platform(att_platform* platform, att_error* error);

/* Builds a plan from an ONNX file in memory. `timing_cache` is empty where this TensorRT has none. */
int32_t att_build(
    const att_build_options* options,
    const void* onnx,
    uint64_t onnx_size,
    att_blob* plan,
    att_blob* timing_cache,
    att_error* error);
void att_free(att_blob* blob);

int32_t att_runtime_create(att_runtime** runtime, att_error* error);
void att_runtime_destroy(att_runtime* runtime);

int32_t att_engine_load(
    att_runtime* runtime, const void* plan, uint64_t size, att_engine** engine, att_error* error);
void att_engine_destroy(att_engine* engine);
int32_t att_engine_tensor_count(const att_engine* engine);
int32_t att_engine_tensor(const att_engine* engine, int32_t index, att_tensor* tensor, att_error* error);
/* The layers as JSON. */
int32_t att_engine_inspect(att_engine* engine, att_blob* json, att_error* error);

int32_t att_context_create(att_engine* engine, att_context** context, att_error* error);
void att_context_destroy(att_context* context);
/* Tells where a tensor lies on the device. It stays in force until it is told anew. */
int32_t att_context_bind(att_context* context, const char* tensor, void* device, att_error* error);
/* Puts one inference into a CUDA stream; it is done when the stream has come there. */
int32_t att_context_enqueue(att_context* context, void* stream, att_error* error);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#endif
