// What the kernels are given: raw pointers, no types of torch or Python.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "update_math.h"

enum TaokeStore : int32_t { TAOKE_FLOAT32 = 0, TAOKE_BFLOAT16 = 1, TAOKE_CODES = 2 };

// One parameter with its gradient and state. `grad` is null where the parameter takes no part in a step.
struct TaokeTensor {
  void* param;         // float or bf16
  void* grad;          // of the same type
  int16_t* remainder;  // bf16 parameters that are exact in 32 bits; null: rounded by chance
  void* mean;          // by `store`: float, bf16, int8
  void* square;        // float, bf16, uint8
  float* mean_scale;   // one a block of 256 where `store` is codes
  float* square_scale;
  const void* start;  // of the parameter's type, or null
  float* average;     // or null
  int64_t size;
  int32_t narrow;  // 1: the parameter is bf16
  TaokeStore store;
  int32_t group;     // its entry in the table of coefficients
  uint64_t number;   // its place in the optimizer: a key of its random bits
  uint64_t step;     // how many steps it has taken, this one included: another
};

// The unit of work: at most CHUNK elements of one tensor. Sums are formed by chunk and added up in order.
static const int64_t TAOKE_CHUNK = 4096;
struct TaokeChunk {
  int64_t tensor, from, to;
};

// The kernels of one instruction set.
struct TaokeKernels {
  // One sum a chunk.
  void (*squares)(const TaokeTensor*, const TaokeChunk*, int64_t chunks, double* partial);
  void (*update)(TaokeRule, const TaokeTensor&, const TaokeCoefficients&, int64_t from, int64_t to, bool zero);
};

extern const TaokeKernels taoke_scalar;
#ifdef TAOKE_X86
extern const TaokeKernels taoke_avx2;
extern const TaokeKernels taoke_avx512;
#endif

// The best instruction set that was compiled and that this machine has, or the one that TAOKE_ISA names; null where it
// names one that cannot run here.
const char* taoke_isa();
const TaokeKernels* taoke_kernels(const char* isa);

// The OpenMP runtime that the process has loaded (torch's): its file, or "" where there is none and one thread works.
const char* taoke_openmp();
void taoke_parallel(void (*work)(void* data, int thread, int threads), void* data);

// The sum of all gradients' squares, in double: not finite exactly where a gradient is not. `partial` has room for one
// number a chunk.
double taoke_squares(const TaokeKernels&, const TaokeTensor*, const TaokeChunk*, int64_t chunks, int64_t elements,
                     double* partial);
void taoke_update(const TaokeKernels&, TaokeRule, const TaokeTensor*, const TaokeCoefficients*, const TaokeChunk*,
                  int64_t chunks, int64_t elements, bool zero);
