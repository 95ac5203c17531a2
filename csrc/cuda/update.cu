// The update step on an NVIDIA GPU: two launches for any number of tensors, three with a norm, on the caller's stream.
// The host reads nothing, so nothing waits, and a CUDA graph can hold the step. A C interface: core/optim/cuda.py calls
// it.
#include <cuda_runtime.h>

#include "../plan.h"

namespace {

const int THREADS = 128;  // of a block; with 256 and 512 as fast for floats, slower for codes (benchmarks/LOG.md)

// What a step came to, in device memory; Python reads it late.
struct Outcome {
  double norm, clip, skipped;
};

__device__ bool aligned(const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; }

__device__ bool all_aligned(const TaokeTensor& t) {
  return aligned(t.param) && aligned(t.grad) && aligned(t.remainder) && aligned(t.mean) && aligned(t.square) &&
         aligned(t.start) && aligned(t.average);
}

// Memory that a step reads and writes once is not worth the cache.
template <class T>
__device__ T read(const void* from) {
  const T* p = static_cast<const T*>(from);
  __builtin_assume(__isGlobal(p));  // pointers out of a table are generic to the compiler, which costs a check an access
  return __ldcs(p);
}

template <class T>
__device__ void write(void* to, T x) {
  T* p = static_cast<T*>(to);
  __builtin_assume(__isGlobal(p));
  __stcs(p, x);
}

// The sum of a block's numbers, in a fixed tree; thread 0 has it.
template <int COUNT>
__device__ double summed(double x) {
  __shared__ double sums[COUNT / 32];
  for (int lane = 16; lane > 0; lane /= 2) x += __shfl_xor_sync(0xffffffffu, x, lane);
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = x;
  __syncthreads();
  if (threadIdx.x < 32) {
    x = threadIdx.x < COUNT / 32 ? sums[threadIdx.x] : 0.0;
    for (int lane = 16; lane > 0; lane /= 2) x += __shfl_xor_sync(0xffffffffu, x, lane);
  }
  __syncthreads();
  return x;
}

// Zeros in place of the gradients of a chunk.
__device__ void clear(const TaokeTensor& t, const TaokeChunk& c) {
  for (int64_t i = c.from + threadIdx.x; i < c.to; i += THREADS) {
    if (t.narrow)
      static_cast<uint16_t*>(t.grad)[i] = 0;
    else
      static_cast<float*>(t.grad)[i] = 0.0f;
  }
}

// ------------------------------------------------------------------------------------ where everything is float

// One float, or four at a multiple of 16 bytes.
__device__ void load(float (&to)[1], const void* from, int64_t i) {
  to[0] = read<float>(static_cast<const float*>(from) + i);
}

__device__ void load(float (&to)[4], const void* from, int64_t i) {
  const float4 x = read<float4>(static_cast<const float*>(from) + i);
  to[0] = x.x, to[1] = x.y, to[2] = x.z, to[3] = x.w;
}

__device__ void store(void* to, int64_t i, const float (&from)[1]) { write(static_cast<float*>(to) + i, from[0]); }

__device__ void store(void* to, int64_t i, const float (&from)[4]) {
  write(static_cast<float*>(to) + i, make_float4(from[0], from[1], from[2], from[3]));
}

template <int RULE, bool ANCHOR, bool AVERAGE, int N>
__device__ void floats(const TaokeTensor& t, const TaokeCoefficients& c, int64_t i, bool zero) {
  float p[N], g[N], m[N] = {}, v[N] = {}, start[N] = {}, average[N] = {};
  load(p, t.param, i);
  load(g, t.grad, i);
  if (RULE != TAOKE_PLAIN) load(m, t.mean, i);
  if (RULE == TAOKE_ADAM) load(v, t.square, i);
  if (ANCHOR) load(start, t.start, i);
  if (AVERAGE) load(average, t.average, i);
  for (int k = 0; k < N; ++k)
    taoke_element<RULE, ANCHOR, AVERAGE>(p[k], g[k], m[k], v[k], start[k], average[k], c);
  store(t.param, i, p);
  if (RULE != TAOKE_PLAIN) store(t.mean, i, m);
  if (RULE == TAOKE_ADAM) store(t.square, i, v);
  if (AVERAGE) store(t.average, i, average);
  const float none[N] = {};
  if (zero) store(t.grad, i, none);
}

struct Floats {
  static const int BLOCKS = 1;  // the least on a multiprocessor

  template <int RULE, bool ANCHOR, bool AVERAGE>
  static __device__ void chunk(const TaokeTensor& t, const TaokeCoefficients& c, const TaokeChunk& at, bool zero) {
    int64_t from = at.from;
    if (all_aligned(t)) {
      from = at.to - (at.to - at.from) % 4;
      for (int64_t i = at.from + threadIdx.x * 4; i < from; i += THREADS * 4)
        floats<RULE, ANCHOR, AVERAGE, 4>(t, c, i, zero);
    }
#pragma unroll 1
    for (int64_t i = from + threadIdx.x; i < at.to; i += THREADS) floats<RULE, ANCHOR, AVERAGE, 1>(t, c, i, zero);
  }
};

// ------------------------------------------------------------------------------------ numbers of 1, 2 and 4 bytes

const int EACH = 8;  // elements of a thread at a time: 16 bytes of bf16
static_assert(TAOKE_CHUNK % (THREADS * EACH) == 0 && 32 * EACH == TAOKE_BLOCK, "a warp has one block of codes");

// EACH numbers of one width, as they lie in memory.
struct Raw {
  uint32_t word[EACH] = {};

  template <int WIDTH>
  __device__ uint32_t get(int k) const {
    return WIDTH == 4 ? word[k] : WIDTH == 2 ? word[k / 2] >> 16 * (k % 2) & 0xffffu : word[k / 4] >> 8 * (k % 4) & 0xffu;
  }

  template <int WIDTH>
  __device__ void set(int k, uint32_t x) {  // once, from zeros
    if (WIDTH == 4) word[k] = x;
    if (WIDTH == 2) word[k / 2] |= (x & 0xffffu) << 16 * (k % 2);
    if (WIDTH == 1) word[k / 4] |= (x & 0xffu) << 8 * (k % 4);
  }
};

template <int WIDTH>
__device__ void load(Raw& to, const void* from, int64_t i, int n, bool whole) {
  const char* p = static_cast<const char*>(from) + i * WIDTH;
  if (whole && WIDTH == 1) {
    const uint2 x = read<uint2>(p);
    to.word[0] = x.x, to.word[1] = x.y;
  } else if (whole) {
    const uint4 x = read<uint4>(p);
    to.word[0] = x.x, to.word[1] = x.y, to.word[2] = x.z, to.word[3] = x.w;
    if (WIDTH == 4) {
      const uint4 y = read<uint4>(p + 16);
      to.word[4] = y.x, to.word[5] = y.y, to.word[6] = y.z, to.word[7] = y.w;
    }
  } else {
    for (int k = 0; k < EACH; ++k) {
      if (k >= n) continue;
      if (WIDTH == 4) to.set<WIDTH>(k, read<uint32_t>(p + 4 * k));
      if (WIDTH == 2) to.set<WIDTH>(k, read<uint16_t>(p + 2 * k));
      if (WIDTH == 1) to.set<WIDTH>(k, read<uint8_t>(p + k));
    }
  }
}

template <int WIDTH>
__device__ void store(void* to, const Raw& x, int64_t i, int n, bool whole) {
  char* p = static_cast<char*>(to) + i * WIDTH;
  if (whole && WIDTH == 1) {
    write(p, make_uint2(x.word[0], x.word[1]));
  } else if (whole) {
    write(p, make_uint4(x.word[0], x.word[1], x.word[2], x.word[3]));
    if (WIDTH == 4) write(p + 16, make_uint4(x.word[4], x.word[5], x.word[6], x.word[7]));
  } else {
    for (int k = 0; k < EACH; ++k) {
      if (k >= n) continue;
      if (WIDTH == 4) write(p + 4 * k, x.get<WIDTH>(k));
      if (WIDTH == 2) write(p + 2 * k, static_cast<uint16_t>(x.get<WIDTH>(k)));
      if (WIDTH == 1) write(p + k, static_cast<uint8_t>(x.get<WIDTH>(k)));
    }
  }
}

__device__ void load(Raw& to, const void* from, int64_t i, int n, bool whole, bool narrow) {
  if (narrow)
    load<2>(to, from, i, n, whole);
  else
    load<4>(to, from, i, n, whole);
}

__device__ void widen(float (&to)[EACH], const Raw& from, bool narrow) {
  for (int k = 0; k < EACH; ++k)
    to[k] = narrow ? taoke_from_bf16(static_cast<uint16_t>(from.get<2>(k))) : taoke_float(from.word[k]);
}

__device__ void store(void* to, const float (&from)[EACH], int64_t i, int n, bool whole, bool narrow,
                      const uint32_t (&random)[EACH], int shift) {
  Raw x;
  if (narrow) {
    for (int k = 0; k < EACH; ++k) x.set<2>(k, taoke_to_bf16(from[k], random[k] >> shift & 0xffffu));
    store<2>(to, x, i, n, whole);
  } else {
    for (int k = 0; k < EACH; ++k) x.word[k] = taoke_bits(from[k]);
    store<4>(to, x, i, n, whole);
  }
}

__device__ void draw(uint32_t (&random)[EACH], const TaokeTensor& t, int64_t i, uint32_t use) {
  const uint32_t key = taoke_key(t.number, t.step, static_cast<uint32_t>(static_cast<uint64_t>(i) >> 32), use);
  for (int k = 0; k < EACH; ++k) random[k] = taoke_random(key, static_cast<uint32_t>(i) + k);
}

__device__ float largest_of_warp(const float (&x)[EACH]) {
  uint32_t most = 0;
  for (int k = 0; k < EACH; ++k) most = max(most, taoke_bits(x[k]) & 0x7fffffffu);
  for (int lane = 16; lane > 0; lane /= 2) most = max(most, __shfl_xor_sync(0xffffffffu, most, lane));
  return taoke_float(most);
}

// `n` elements from `i` on, EACH but at a tensor's end; all of a warp come here together.
template <int RULE, bool ANCHOR, bool AVERAGE>
__device__ void mixed(const TaokeTensor& t, const TaokeCoefficients& c, int64_t i, int n, bool whole, bool zero) {
  const bool has_mean = RULE != TAOKE_PLAIN, has_square = RULE == TAOKE_ADAM;
  const bool narrow = t.narrow, codes = t.store == TAOKE_CODES, short_state = t.store == TAOKE_BFLOAT16;
  const int64_t block = i / TAOKE_BLOCK;
  // Everything is asked for before anything is looked at.
  Raw raw_p, raw_rest, raw_g, raw_m, raw_v, raw_start, raw_average;
  float mean_scale = 0.0f, square_scale = 0.0f;
  load(raw_p, t.param, i, n, whole, narrow);
  load(raw_g, t.grad, i, n, whole, narrow);
  if (t.remainder) load<2>(raw_rest, t.remainder, i, n, whole);
  if (ANCHOR) load(raw_start, t.start, i, n, whole, narrow);
  if (AVERAGE) load<4>(raw_average, t.average, i, n, whole);
  if (has_mean && codes) {
    load<1>(raw_m, t.mean, i, n, whole);
    if (n > 0) mean_scale = t.mean_scale[block];
  } else if (has_mean) {
    load(raw_m, t.mean, i, n, whole, short_state);
  }
  if (has_square && codes) {
    load<1>(raw_v, t.square, i, n, whole);
    if (n > 0) square_scale = t.square_scale[block];
  } else if (has_square) {
    load(raw_v, t.square, i, n, whole, short_state);
  }

  float p[EACH], g[EACH], m[EACH] = {}, v[EACH] = {}, start[EACH] = {}, average[EACH] = {};
  if (t.remainder) {
    for (int k = 0; k < EACH; ++k)
      p[k] = taoke_join(static_cast<uint16_t>(raw_p.get<2>(k)), static_cast<int16_t>(raw_rest.get<2>(k)));
  } else {
    widen(p, raw_p, narrow);
  }
  widen(g, raw_g, narrow);
  if (ANCHOR) widen(start, raw_start, narrow);
  if (AVERAGE) widen(average, raw_average, false);
  if (codes) {
    for (int k = 0; k < EACH; ++k) {
      if (has_mean) m[k] = taoke_mean_of(static_cast<int8_t>(raw_m.get<1>(k)), mean_scale);
      if (has_square) v[k] = taoke_square_of(static_cast<int>(raw_v.get<1>(k)), square_scale);
    }
  } else {
    if (has_mean) widen(m, raw_m, short_state);
    if (has_square) widen(v, raw_v, short_state);
  }

  for (int k = 0; k < EACH; ++k)
    taoke_element<RULE, ANCHOR, AVERAGE>(p[k], g[k], m[k], v[k], start[k], average[k], c);

  uint32_t random[EACH] = {};
  if (t.remainder) {
    Raw near, rest;
    for (int k = 0; k < EACH; ++k) {
      int16_t missing;
      near.set<2>(k, taoke_split(p[k], missing));
      rest.set<2>(k, static_cast<uint16_t>(missing));
    }
    store<2>(t.param, near, i, n, whole);
    store<2>(t.remainder, rest, i, n, whole);
  } else {
    if (narrow) draw(random, t, i, 0);
    store(t.param, p, i, n, whole, narrow, random, 0);
  }
  if (AVERAGE) store(t.average, average, i, n, whole, false, random, 0);
  if (has_mean && (codes || short_state)) draw(random, t, i, 1);
  if (has_mean && codes) {
    for (int k = 0; k < EACH; ++k)
      if (k >= n) m[k] = v[k] = 0.0f;
    const float scale = taoke_scale(largest_of_warp(m), TAOKE_MEAN_TOP), inverse = taoke_inverse(scale);
    Raw code;
    for (int k = 0; k < EACH; ++k)
      code.set<1>(k, static_cast<uint32_t>(taoke_mean_code(m[k], inverse, random[k] >> 16)));
    store<1>(t.mean, code, i, n, whole);
    if (threadIdx.x % 32 == 0 && n > 0) t.mean_scale[block] = scale;
    if (has_square) {
      const float its = taoke_scale(largest_of_warp(v), TAOKE_SQUARE_TOP), its_inverse = taoke_inverse(its);
      Raw square;
      for (int k = 0; k < EACH; ++k)
        square.set<1>(k, static_cast<uint32_t>(taoke_square_code(v[k], its_inverse, random[k] & 0xffffu)));
      store<1>(t.square, square, i, n, whole);
      if (threadIdx.x % 32 == 0 && n > 0) t.square_scale[block] = its;
    }
  } else {
    if (has_mean) store(t.mean, m, i, n, whole, short_state, random, 16);
    if (has_square) store(t.square, v, i, n, whole, short_state, random, 0);
  }
  if (!zero) return;
  if (narrow)
    store<2>(t.grad, Raw{}, i, n, whole);
  else
    store<4>(t.grad, Raw{}, i, n, whole);
}

struct Mixed {
  static const int BLOCKS = 6;  // so fewer registers: int8 takes 1.25 ms for 100 M, 1.39 with 4 (benchmarks/LOG.md)

  template <int RULE, bool ANCHOR, bool AVERAGE>
  static __device__ void chunk(const TaokeTensor& t, const TaokeCoefficients& c, const TaokeChunk& at, bool zero) {
    const bool is_aligned = all_aligned(t);
    for (int64_t from = at.from; from < at.to; from += THREADS * EACH) {
      const int64_t i = from + threadIdx.x * EACH, left = at.to - i;
      const int n = static_cast<int>(left < 0 ? 0 : left < EACH ? left : EACH);
      mixed<RULE, ANCHOR, AVERAGE>(t, c, i, n, is_aligned && n == EACH, zero);
    }
  }
};

// ------------------------------------------------------------------------------------ the three launches

__device__ double squared(float g) { return static_cast<double>(g) * static_cast<double>(g); }

__global__ void __launch_bounds__(THREADS)
    squares(const TaokeTensor* tensors, const TaokeChunk* chunks, int64_t count, double* partial) {
  for (int64_t chunk = blockIdx.x; chunk < count; chunk += gridDim.x) {
    const TaokeChunk c = chunks[chunk];
    const void* grad = tensors[c.tensor].grad;
    const bool narrow = tensors[c.tensor].narrow;
    double sum = 0.0;
    if (grad && !narrow && c.to - c.from == TAOKE_CHUNK && aligned(grad)) {
      const int rounds = TAOKE_CHUNK / (4 * THREADS);
      float g[rounds][4];
      for (int k = 0; k < rounds; ++k) load(g[k], grad, c.from + 4 * (k * THREADS + threadIdx.x));
      for (int k = 0; k < 4 * rounds; ++k) sum += squared(g[k / 4][k % 4]);
    } else if (grad) {
      for (int64_t i = c.from + threadIdx.x * EACH; i < c.to; i += THREADS * EACH) {
        const int n = static_cast<int>(c.to - i < EACH ? c.to - i : EACH);
        Raw raw;
        float g[EACH];
        load(raw, grad, i, n, n == EACH && aligned(grad), narrow);
        widen(g, raw, narrow);
        for (int k = 0; k < EACH; ++k) sum += squared(g[k]);
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
  __shared__ double whole;
  sum = summed<FINISHERS>(sum);
  if (threadIdx.x == 0) whole = sum;
  __syncthreads();
  sum = whole;
  const double unscale = grad_scale ? 1.0 / static_cast<double>(*grad_scale) : 1.0;
  const double norm = sqrt(sum) * unscale;
  const bool skip = (check && !isfinite(norm)) || (found_inf && *found_inf != 0.0f);
  double clip = 1.0;
  if (max_norm > 0.0 && max_norm < norm + 1e-6) clip = max_norm / (norm + 1e-6);
  if (threadIdx.x == 0) {
    outcome->norm = norm;
    outcome->clip = skip ? 0.0 : clip;
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

template <int RULE, class Kind>
__device__ void chunk_of(const TaokeTensor& t, const TaokeCoefficients& c, const TaokeChunk& at, bool zero) {
  if (t.start && t.average)
    Kind::template chunk<RULE, true, true>(t, c, at, zero);
  else if (t.start)
    Kind::template chunk<RULE, true, false>(t, c, at, zero);
  else if (t.average)
    Kind::template chunk<RULE, false, true>(t, c, at, zero);
  else
    Kind::template chunk<RULE, false, false>(t, c, at, zero);
}

template <int RULE, class Kind>
__global__ void __launch_bounds__(THREADS, Kind::BLOCKS)
    update(const TaokeTensor* tensors, const TaokeChunk* chunks, int64_t count, const TaokeCoefficients* coefficients,
           const Outcome* outcome, bool zero) {
  const bool skip = outcome->skipped != 0.0;
  if (skip && !zero) return;
  for (int64_t chunk = blockIdx.x; chunk < count; chunk += gridDim.x) {
    const TaokeChunk c = chunks[chunk];
    const TaokeTensor& t = tensors[c.tensor];
    if (!t.grad) continue;
    if (skip)
      clear(t, c);
    else
      chunk_of<RULE, Kind>(t, coefficients[c.tensor], c, zero);
  }
}

template <class Kind>
decltype(&update<TAOKE_ADAM, Kind>) update_by(int rule) {
  return rule == TAOKE_ADAM ? update<TAOKE_ADAM, Kind>
         : rule == TAOKE_MOMENTUM ? update<TAOKE_MOMENTUM, Kind> : update<TAOKE_PLAIN, Kind>;
}

}  // namespace

#define TAOKE_EXPORT extern "C" __attribute__((visibility("default")))

// What Python has to make room for, and the version of this interface.
TAOKE_EXPORT void taoke_cuda_sizes(int64_t* sizes) {
  sizes[0] = sizeof(TaokeTensor);
  sizes[1] = sizeof(TaokeChunk);
  sizes[2] = sizeof(TaokeCoefficients);
  sizes[3] = sizeof(Outcome);
  sizes[4] = TAOKE_CHUNK;
  sizes[5] = 2;
}

// All pointers are the device's; `mixed`: not everything is float; `max_norm` at or below 0 clips nothing. Returns a
// cudaError_t.
TAOKE_EXPORT int taoke_cuda_step(int rule, int mixed, void* tensors, int64_t tensor_count, const void* chunks,
                                 int64_t count, const double* hypers, void* coefficients, double* partial,
                                 void* outcome, double* skipped, const float* grad_scale, const float* found_inf,
                                 double max_norm, int check, int zero, int device, void* stream_handle) {
  int before = 0;
  cudaError_t error = cudaGetDevice(&before);
  if (error == cudaSuccess) error = cudaSetDevice(device);
  if (error != cudaSuccess) return error;
  cudaStream_t stream = static_cast<cudaStream_t>(stream_handle);
  const unsigned blocks = static_cast<unsigned>(count < 1 ? 1 : count < 0x7fffffff ? count : 0x7fffffff);
  TaokeTensor* const t = static_cast<TaokeTensor*>(tensors);
  const TaokeChunk* const c = static_cast<const TaokeChunk*>(chunks);
  TaokeCoefficients* const k = static_cast<TaokeCoefficients*>(coefficients);
  Outcome* const o = static_cast<Outcome*>(outcome);
  const bool norm = check || max_norm > 0.0;
  if (norm) squares<<<blocks, THREADS, 0, stream>>>(t, c, count, partial);
  finish<<<1, FINISHERS, 0, stream>>>(static_cast<TaokeRule>(rule), partial, norm ? count : 0, t, tensor_count, hypers,
                                      k, o, skipped, grad_scale, found_inf, max_norm, check != 0);
  const auto kernel = mixed ? update_by<Mixed>(rule) : update_by<Floats>(rule);
  kernel<<<blocks, THREADS, 0, stream>>>(t, c, count, k, o, zero != 0);
  error = cudaGetLastError();
  cudaSetDevice(before);
  return error;
}
