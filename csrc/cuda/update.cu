// The update step on an NVIDIA GPU: three launches for any number of tensors, on the caller's stream. The host reads
// nothing, so nothing waits, and a CUDA graph can hold the step. A C interface: core/optim/cuda.py calls it.
#include <cuda_runtime.h>

#include "../plan.h"

namespace {

const int THREADS = 256;
const int EACH = 8;  // elements of a thread at a time: 16 bytes of bf16, twice 16 bytes of float
const int AT_ONCE = THREADS * EACH;
static_assert(TAOKE_CHUNK % AT_ONCE == 0 && 32 * EACH == TAOKE_BLOCK, "a warp has one block of codes");

// What a step came to, in device memory; Python reads it late.
struct Outcome {
  double norm, clip, scale, skipped;
};

template <class T>
struct alignas(sizeof(T) * EACH < 16 ? sizeof(T) * EACH : 16) Packed {
  T at[EACH];
};

__device__ bool aligned(const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; }

// `n` of EACH elements; whole and aligned groups go in accesses of 16 bytes.
template <class T>
__device__ void load(Packed<T>& to, const T* from, int n, bool whole) {
  if (whole) {
    to = *reinterpret_cast<const Packed<T>*>(from);
  } else {
    for (int k = 0; k < EACH; ++k) to.at[k] = k < n ? from[k] : T(0);
  }
}

template <class T>
__device__ void store(T* to, const Packed<T>& from, int n, bool whole) {
  if (whole) {
    *reinterpret_cast<Packed<T>*>(to) = from;
  } else {
    for (int k = 0; k < EACH; ++k)
      if (k < n) to[k] = from.at[k];
  }
}

__device__ void load(float* to, const void* from, int64_t i, int n, bool narrow) {
  if (narrow) {
    const uint16_t* p = static_cast<const uint16_t*>(from);
    Packed<uint16_t> x;
    load(x, p + i, n, n == EACH && aligned(p));
    for (int k = 0; k < EACH; ++k) to[k] = taoke_from_bf16(x.at[k]);
  } else {
    const float* p = static_cast<const float*>(from);
    Packed<float> x;
    load(x, p + i, n, n == EACH && aligned(p));
    for (int k = 0; k < EACH; ++k) to[k] = x.at[k];
  }
}

__device__ void store(void* to, const float* from, int64_t i, int n, bool narrow, const uint32_t* random, int shift) {
  if (narrow) {
    uint16_t* p = static_cast<uint16_t*>(to);
    Packed<uint16_t> x;
    for (int k = 0; k < EACH; ++k) x.at[k] = taoke_to_bf16(from[k], (random[k] >> shift) & 0xffffu);
    store(p + i, x, n, n == EACH && aligned(p));
  } else {
    float* p = static_cast<float*>(to);
    Packed<float> x;
    for (int k = 0; k < EACH; ++k) x.at[k] = from[k];
    store(p + i, x, n, n == EACH && aligned(p));
  }
}

__device__ float largest_of_warp(const float* x) {
  uint32_t most = 0;
  for (int k = 0; k < EACH; ++k) {
    const uint32_t bits = taoke_bits(x[k]) & 0x7fffffffu;
    most = bits > most ? bits : most;
  }
  for (int lane = 16; lane > 0; lane /= 2) {
    const uint32_t other = __shfl_xor_sync(0xffffffffu, most, lane);
    most = other > most ? other : most;
  }
  return taoke_float(most);
}

// The sum of a block's numbers, in a fixed tree.
template <int COUNT>
__device__ double summed(double x) {
  __shared__ double sums[COUNT];
  sums[threadIdx.x] = x;
  __syncthreads();
  for (int width = COUNT / 2; width > 0; width /= 2) {
    if (threadIdx.x < width) sums[threadIdx.x] += sums[threadIdx.x + width];
    __syncthreads();
  }
  const double sum = sums[0];
  __syncthreads();
  return sum;
}

__global__ void __launch_bounds__(THREADS)
    squares(const TaokeTensor* tensors, const TaokeChunk* chunks, int64_t count, double* partial) {
  for (int64_t chunk = blockIdx.x; chunk < count; chunk += gridDim.x) {
    const TaokeChunk c = chunks[chunk];
    const void* grad = tensors[c.tensor].grad;
    const bool narrow = tensors[c.tensor].narrow;
    double sum = 0.0;
    if (grad) {
      for (int64_t i = c.from + threadIdx.x * EACH; i < c.to; i += AT_ONCE) {
        float g[EACH];
        load(g, grad, i, static_cast<int>(c.to - i < EACH ? c.to - i : EACH), narrow);
        for (int k = 0; k < EACH; ++k) sum += static_cast<double>(g[k]) * static_cast<double>(g[k]);
      }
    }
    sum = summed<THREADS>(sum);
    if (threadIdx.x == 0) partial[chunk] = sum;
  }
}

const int FINISHERS = 1024;

// The norm, the clip factor, whether the step is left out, the step counts, and every tensor's coefficients.
__global__ void __launch_bounds__(FINISHERS)
    finish(TaokeRule rule, const double* partial, int64_t count, TaokeTensor* tensors, int64_t tensor_count,
           const double* hypers, TaokeCoefficients* coefficients, Outcome* outcome, double* skipped,
           const float* grad_scale, const float* found_inf, double max_norm, bool check) {
  double sum = 0.0;
  for (int64_t i = threadIdx.x; i < count; i += FINISHERS) sum += partial[i];
  sum = summed<FINISHERS>(sum);
  const double unscale = grad_scale ? 1.0 / static_cast<double>(*grad_scale) : 1.0;
  const double norm = sqrt(sum) * unscale;
  const bool skip = (check && !isfinite(norm)) || (found_inf && *found_inf != 0.0f);
  double clip = 1.0;
  if (max_norm > 0.0 && max_norm < norm + 1e-6) clip = max_norm / (norm + 1e-6);
  if (threadIdx.x == 0) {
    outcome->norm = norm;
    outcome->clip = skip ? 0.0 : clip;
    outcome->scale = clip * unscale;
    if (skip) *skipped += 1.0;
    outcome->skipped = skip ? 1.0 : 0.0;
  }
  if (skip) return;
  for (int64_t i = threadIdx.x; i < tensor_count; i += FINISHERS) {
    if (!tensors[i].grad) continue;
    tensors[i].step += 1;
    TaokeHyper h;
    memcpy(&h, hypers + 9 * tensors[i].group, sizeof h);
    if (rule != TAOKE_ADAM && tensors[i].step == 1) h.beta2 = 1.0;  // the first time, the gradient enters whole
    coefficients[i] = taoke_coefficients(rule, h, static_cast<double>(tensors[i].step), clip * unscale);
  }
}

template <int RULE, bool ANCHOR, bool AVERAGE>
__device__ void elements(float* p, const float* g, float* m, float* v, const float* start, float* average,
                         const TaokeCoefficients& c) {
  for (int k = 0; k < EACH; ++k)
    taoke_element<RULE, ANCHOR, AVERAGE>(p[k], g[k], m[k], v[k], start[k], average[k], c);
}

template <int RULE>
__device__ void group(const TaokeTensor& t, const TaokeCoefficients& c, int64_t i, int n) {
  const bool has_mean = RULE != TAOKE_PLAIN, has_square = RULE == TAOKE_ADAM;
  const bool codes = t.store == TAOKE_CODES, short_state = t.store == TAOKE_BFLOAT16;
  float p[EACH], g[EACH], m[EACH] = {}, v[EACH] = {}, start[EACH] = {}, average[EACH] = {};
  uint32_t random[EACH] = {};
  const int64_t block = i / TAOKE_BLOCK;
  const bool whole = n == EACH;
  load(p, t.param, i, n, t.narrow);
  load(g, t.grad, i, n, t.narrow);
  if (t.remainder) {
    Packed<uint16_t> near;
    Packed<int16_t> rest;
    load(near, static_cast<const uint16_t*>(t.param) + i, n, whole && aligned(t.param));
    load(rest, t.remainder + i, n, whole && aligned(t.remainder));
    for (int k = 0; k < EACH; ++k) p[k] = taoke_join(near.at[k], rest.at[k]);
  }
  if (t.start) load(start, t.start, i, n, t.narrow);
  if (t.average) load(average, t.average, i, n, false);
  if (codes) {
    if (has_mean && n > 0) {
      Packed<int8_t> code;
      load(code, static_cast<const int8_t*>(t.mean) + i, n, whole && aligned(t.mean));
      for (int k = 0; k < EACH; ++k) m[k] = taoke_mean_of(code.at[k], t.mean_scale[block]);
    }
    if (has_square && n > 0) {
      Packed<uint8_t> code;
      load(code, static_cast<const uint8_t*>(t.square) + i, n, whole && aligned(t.square));
      for (int k = 0; k < EACH; ++k) v[k] = taoke_square_of(code.at[k], t.square_scale[block]);
    }
  } else {
    if (has_mean) load(m, t.mean, i, n, short_state);
    if (has_square) load(v, t.square, i, n, short_state);
  }

  if (t.start && t.average)
    elements<RULE, true, true>(p, g, m, v, start, average, c);
  else if (t.start)
    elements<RULE, true, false>(p, g, m, v, start, average, c);
  else if (t.average)
    elements<RULE, false, true>(p, g, m, v, start, average, c);
  else
    elements<RULE, false, false>(p, g, m, v, start, average, c);

  const uint32_t high = static_cast<uint32_t>(static_cast<uint64_t>(i) >> 32), first = static_cast<uint32_t>(i);
  if (t.remainder) {
    Packed<uint16_t> near;
    Packed<int16_t> rest;
    for (int k = 0; k < EACH; ++k) near.at[k] = taoke_split(p[k], rest.at[k]);
    store(static_cast<uint16_t*>(t.param) + i, near, n, whole && aligned(t.param));
    store(t.remainder + i, rest, n, whole && aligned(t.remainder));
  } else {
    if (t.narrow) {
      const uint32_t key = taoke_key(t.number, t.step, high, 0);
      for (int k = 0; k < EACH; ++k) random[k] = taoke_random(key, first + k);
    }
    store(t.param, p, i, n, t.narrow, random, 0);
  }
  if (t.average) store(t.average, average, i, n, false, random, 0);
  if (!has_mean) return;
  if (codes || short_state) {
    const uint32_t key = taoke_key(t.number, t.step, high, 1);
    for (int k = 0; k < EACH; ++k) random[k] = taoke_random(key, first + k);
  }
  if (codes) {
    for (int k = 0; k < EACH; ++k)
      if (k >= n) m[k] = v[k] = 0.0f;
    const float scale = taoke_scale(largest_of_warp(m), TAOKE_MEAN_TOP), inverse = taoke_inverse(scale);
    Packed<int8_t> code;
    for (int k = 0; k < EACH; ++k)
      code.at[k] = static_cast<int8_t>(taoke_mean_code(m[k], inverse, random[k] >> 16));
    store(static_cast<int8_t*>(t.mean) + i, code, n, whole && aligned(t.mean));
    if (threadIdx.x % 32 == 0 && n > 0) t.mean_scale[block] = scale;
    if (has_square) {
      const float its = taoke_scale(largest_of_warp(v), TAOKE_SQUARE_TOP), its_inverse = taoke_inverse(its);
      Packed<uint8_t> square;
      for (int k = 0; k < EACH; ++k)
        square.at[k] = static_cast<uint8_t>(taoke_square_code(v[k], its_inverse, random[k] & 0xffffu));
      store(static_cast<uint8_t*>(t.square) + i, square, n, whole && aligned(t.square));
      if (threadIdx.x % 32 == 0 && n > 0) t.square_scale[block] = its;
    }
  } else {
    store(t.mean, m, i, n, short_state, random, 16);
    if (has_square) store(t.square, v, i, n, short_state, random, 0);
  }
}

template <int RULE>
__global__ void __launch_bounds__(THREADS)
    update(const TaokeTensor* tensors, const TaokeChunk* chunks, int64_t count, const TaokeCoefficients* coefficients,
           const Outcome* outcome, bool zero) {
  const bool skip = outcome->skipped != 0.0;
  if (skip && !zero) return;
  for (int64_t chunk = blockIdx.x; chunk < count; chunk += gridDim.x) {
    const TaokeChunk c = chunks[chunk];
    const TaokeTensor t = tensors[c.tensor];
    if (!t.grad) continue;
    const TaokeCoefficients mine = coefficients[c.tensor];
    for (int64_t from = c.from; from < c.to; from += AT_ONCE) {  // whole warps: they exchange their largest values
      const int64_t i = from + threadIdx.x * EACH;
      const int64_t left = c.to - i;
      const int n = static_cast<int>(left < 0 ? 0 : left < EACH ? left : EACH);
      if (!skip) group<RULE>(t, mine, i, n);
      if (zero) {
        if (t.narrow)
          store(static_cast<uint16_t*>(t.grad) + i, Packed<uint16_t>{}, n, n == EACH && aligned(t.grad));
        else
          store(static_cast<float*>(t.grad) + i, Packed<float>{}, n, n == EACH && aligned(t.grad));
      }
    }
  }
}

}  // namespace

#define TAOKE_EXPORT extern "C" __attribute__((visibility("default")))

// What Python has to make room for.
TAOKE_EXPORT void taoke_cuda_sizes(int64_t* sizes) {
  sizes[0] = sizeof(TaokeTensor);
  sizes[1] = sizeof(TaokeChunk);
  sizes[2] = sizeof(TaokeCoefficients);
  sizes[3] = sizeof(Outcome);
  sizes[4] = TAOKE_CHUNK;
}

// All pointers are the device's; `max_norm` at or below 0 clips nothing. Returns a cudaError_t.
TAOKE_EXPORT int taoke_cuda_step(int rule, void* tensors, int64_t tensor_count, const void* chunks, int64_t count,
                                 const double* hypers, void* coefficients, double* partial, void* outcome,
                                 double* skipped, const float* grad_scale, const float* found_inf, double max_norm,
                                 int check, int zero, int device, void* stream_handle) {
  int before = 0;
  cudaError_t error = cudaGetDevice(&before);
  if (error == cudaSuccess) error = cudaSetDevice(device);
  int processors = 0;
  if (error == cudaSuccess) error = cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
  if (error != cudaSuccess) return error;
  cudaStream_t stream = static_cast<cudaStream_t>(stream_handle);
  const int64_t most = static_cast<int64_t>(processors) * 16;
  const unsigned blocks = static_cast<unsigned>(count < most ? (count < 1 ? 1 : count) : most);
  TaokeTensor* const t = static_cast<TaokeTensor*>(tensors);
  const TaokeChunk* const c = static_cast<const TaokeChunk*>(chunks);
  TaokeCoefficients* const k = static_cast<TaokeCoefficients*>(coefficients);
  Outcome* const o = static_cast<Outcome*>(outcome);
  const bool norm = check || max_norm > 0.0;
  if (norm) squares<<<blocks, THREADS, 0, stream>>>(t, c, count, partial);
  finish<<<1, FINISHERS, 0, stream>>>(static_cast<TaokeRule>(rule), partial, norm ? count : 0, t, tensor_count, hypers,
                                      k, o, skipped, grad_scale, found_inf, max_norm, check != 0);
  if (rule == TAOKE_ADAM)
    update<TAOKE_ADAM><<<blocks, THREADS, 0, stream>>>(t, c, count, k, o, zero != 0);
  else if (rule == TAOKE_MOMENTUM)
    update<TAOKE_MOMENTUM><<<blocks, THREADS, 0, stream>>>(t, c, count, k, o, zero != 0);
  else
    update<TAOKE_PLAIN><<<blocks, THREADS, 0, stream>>>(t, c, count, k, o, zero != 0);
  error = cudaGetLastError();
  cudaSetDevice(before);
  return error;
}
