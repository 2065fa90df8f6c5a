// The error texts, and what cu refers to and we never use.
#include <cuda.h>

#define NAMED(code, text) \
  case code: *name = #code, *string = text; return CUDA_SUCCESS

static CUresult describe(CUresult error, const char **name, const char **string) {
  switch (error) {
    NAMED(CUDA_SUCCESS, "no error");
    NAMED(CUDA_ERROR_INVALID_VALUE, "invalid argument");
    NAMED(CUDA_ERROR_OUT_OF_MEMORY, "out of memory");
    NAMED(CUDA_ERROR_NOT_INITIALIZED, "initialization error");
    NAMED(CUDA_ERROR_DEINITIALIZED, "driver shutting down");
    NAMED(CUDA_ERROR_STUB_LIBRARY, "CUDA driver is a stub library");
    NAMED(CUDA_ERROR_NO_DEVICE, "no CUDA-capable device is detected");
    NAMED(CUDA_ERROR_INVALID_DEVICE, "invalid device ordinal");
    NAMED(CUDA_ERROR_INVALID_IMAGE, "device kernel image is invalid");
    NAMED(CUDA_ERROR_INVALID_CONTEXT, "invalid device context");
    NAMED(CUDA_ERROR_ECC_UNCORRECTABLE, "uncorrectable ECC error encountered");
    NAMED(CUDA_ERROR_INVALID_PTX, "a PTX JIT compilation failed");
    NAMED(CUDA_ERROR_UNSUPPORTED_PTX_VERSION, "the provided PTX was compiled with an unsupported toolchain.");
    NAMED(CUDA_ERROR_INVALID_HANDLE, "invalid resource handle");
    NAMED(CUDA_ERROR_ILLEGAL_STATE, "the operation cannot be performed in the present state");
    NAMED(CUDA_ERROR_NOT_FOUND, "named symbol not found");
    NAMED(CUDA_ERROR_NOT_READY, "device not ready");
    NAMED(CUDA_ERROR_ILLEGAL_ADDRESS, "an illegal memory access was encountered");
    NAMED(CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, "too many resources requested for launch");
    NAMED(CUDA_ERROR_LAUNCH_TIMEOUT, "the launch timed out and was terminated");
    NAMED(CUDA_ERROR_CONTEXT_IS_DESTROYED, "context is destroyed");
    NAMED(CUDA_ERROR_ASSERT, "device-side assert triggered");
    NAMED(CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED, "part or all of the requested memory range is already mapped");
    NAMED(CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED, "pointer does not correspond to a registered memory region");
    NAMED(CUDA_ERROR_HARDWARE_STACK_ERROR, "hardware stack error");
    NAMED(CUDA_ERROR_ILLEGAL_INSTRUCTION, "an illegal instruction was encountered");
    NAMED(CUDA_ERROR_MISALIGNED_ADDRESS, "misaligned address");
    NAMED(CUDA_ERROR_INVALID_ADDRESS_SPACE, "operation not supported on global/shared address space");
    NAMED(CUDA_ERROR_INVALID_PC, "invalid program counter");
    NAMED(CUDA_ERROR_LAUNCH_FAILED, "unspecified launch failure");
    NAMED(CUDA_ERROR_NOT_PERMITTED, "operation not permitted");
    NAMED(CUDA_ERROR_NOT_SUPPORTED, "operation not supported");
    NAMED(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "operation not permitted when stream is capturing");
    NAMED(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "operation failed due to a previous error during capture");
    NAMED(CUDA_ERROR_STREAM_CAPTURE_UNMATCHED, "capture was not initiated in this stream");
    NAMED(CUDA_ERROR_STREAM_CAPTURE_UNJOINED, "capturing stream has unjoined work");
    NAMED(CUDA_ERROR_STREAM_CAPTURE_IMPLICIT, "operation would make the legacy stream depend on a capturing blocking stream");
    NAMED(CUDA_ERROR_CAPTURED_EVENT, "operation not permitted on an event last recorded in a capturing stream");
    NAMED(CUDA_ERROR_UNKNOWN, "unknown error");
  default: *name = *string = nullptr; return CUDA_ERROR_INVALID_VALUE;
  }
}

CUresult cuGetErrorName(CUresult error, const char **name) {
  const char *string;
  return name ? describe(error, name, &string) : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGetErrorString(CUresult error, const char **string) {
  const char *name;
  return string ? describe(error, &name, string) : CUDA_ERROR_INVALID_VALUE;
}
