/* A CUDA driver on the memory of the processor, with the functions of CUDA 10.2 that the daemon may use, and no others: a call
 * that it lacks fails by its name. FAKE_CUDA holds words that let it fail: no-gpu, no-memory. FAKE_GPU is the compute
 * capability, such as 62; 72 without it. */
#include <stdlib.h>
#include <string.h>

typedef int CUresult;

static int asked(const char* word) {
    const char* words = getenv("FAKE_CUDA");
    return words != 0 && strstr(words, word) != 0;
}

static int capability(void) {
    const char* asked_for = getenv("FAKE_GPU");
    return asked_for != 0 ? atoi(asked_for) : 72;
}

CUresult cuInit(unsigned flags) {
    (void)flags;
    return asked("no-gpu") ? 100 : 0;
}

CUresult cuDriverGetVersion(int* version) {
    *version = 10020;
    return 0;
}

CUresult cuDeviceGet(int* device, int ordinal) {
    *device = ordinal;
    return 0;
}

CUresult cuDeviceGetName(char* name, int size, int device) {
    (void)device;
    strncpy(name, "Fake", (size_t)size);
    return 0;
}

CUresult cuDeviceGetAttribute(int* value, int attribute, int device) {
    (void)device;
    *value = attribute == 75 ? capability() / 10 : attribute == 76 ? capability() % 10 : 0;
    return 0;
}

CUresult cuDevicePrimaryCtxRetain(void** context, int device) {
    (void)device;
    *context = &capability;
    return 0;
}

CUresult cuCtxSetCurrent(void* context) {
    return context == (void*)&capability ? 0 : 201;
}

CUresult cuStreamCreate(void** stream, unsigned flags) {
    (void)flags;
    *stream = malloc(1);
    return 0;
}

CUresult cuStreamDestroy_v2(void* stream) {
    free(stream);
    return 0;
}

/* An event is the number of times that it was recorded. */
CUresult cuEventCreate(int** event, unsigned flags) {
    *event = calloc(1, sizeof(int));
    return flags == 3 ? 0 : 1;
}

CUresult cuEventRecord(int* event, void* stream) {
    *event += 1;
    return stream != 0 ? 0 : 400;
}

CUresult cuEventSynchronize(int* event) {
    return *event > 0 ? 0 : 400;
}

CUresult cuEventDestroy_v2(int* event) {
    free(event);
    return 0;
}

CUresult cuMemHostAlloc(void** memory, size_t bytes, unsigned flags) {
    if (asked("no-memory")) {
        return 2;
    }
    *memory = malloc(bytes);
    return (flags & 2) != 0 ? 0 : 1;
}

CUresult cuMemHostGetDevicePointer_v2(unsigned long long* device, void* memory, unsigned flags) {
    (void)flags;
    *device = (unsigned long long)memory;
    return 0;
}

CUresult cuMemFreeHost(void* memory) {
    free(memory);
    return 0;
}

CUresult cuGetErrorName(CUresult error, const char** name) {
    *name = error == 2 ? "CUDA_ERROR_OUT_OF_MEMORY" : error == 100 ? "CUDA_ERROR_NO_DEVICE" : "CUDA_ERROR_UNKNOWN";
    return 0;
}

CUresult cuGetErrorString(CUresult error, const char** text) {
    *text = error == 2 ? "out of memory" : error == 100 ? "no CUDA-capable device is detected" : "unknown error";
    return 0;
}
