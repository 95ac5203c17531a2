// The kernels of one instruction set: included once by each file that is compiled for one, so that nothing of it is
// shared between them. Plain loops that the compiler turns into vectors; update_math.h has the arithmetic.
#pragma once
#include "../plan.h"

namespace {

// As many doubles at a time as a register has; the sums below are the same whatever that is.
#ifdef __AVX512F__
enum { WIDE = 8 };
#else
enum { WIDE = 4 };
#endif
typedef double Doubles __attribute__((vector_size(8 * WIDE)));
typedef float Floats __attribute__((vector_size(4 * WIDE)));
typedef uint32_t Words __attribute__((vector_size(4 * WIDE)));
typedef uint16_t Halves __attribute__((vector_size(2 * WIDE)));

inline __attribute__((always_inline)) Doubles load_wide(const float* from) {
  Floats x;
  memcpy(&x, from, sizeof x);
  return __builtin_convertvector(x, Doubles);
}

inline __attribute__((always_inline)) Doubles load_wide(const uint16_t* from) {
  Halves x;
  memcpy(&x, from, sizeof x);
  const Words wide = __builtin_convertvector(x, Words) << 16;
  Floats y;
  memcpy(&y, &wide, sizeof y);
  return __builtin_convertvector(y, Doubles);
}

inline double number(float x) { return x; }
inline double number(uint16_t x) { return taoke_from_bf16(x); }

// 32 sums, element i into the one of i mod 32, added up in a fixed tree. A float's square is exact in double.
struct Sums {
  Doubles wide[32 / WIDE] = {};

  template <class T>
  void add(const T* g, int64_t n) {  // n is a multiple of 32
    for (int64_t i = 0; i < n; i += 32) {
#pragma GCC unroll 8
      for (int k = 0; k < 32 / WIDE; ++k) {
        const Doubles x = load_wide(g + i + WIDE * k);
        wide[k] += x * x;
      }
    }
  }

  template <class T>
  double total(const T* rest, int64_t n) const {  // fewer than 32
    double sums[32];
    memcpy(sums, wide, sizeof wide);
    if (!MUTANT(14))
      for (int64_t i = 0; i < n; ++i) {
        const double x = number(rest[i]);
        sums[i] += x * x;
      }
    for (int width = 16; width > 0; width /= 2)
      for (int lane = 0; lane < width; ++lane) sums[lane] += sums[lane + width];
    return sums[0];
  }
};

// Whole chunks are read some at a time, a piece of one after a piece of the other: memory brings eight streams in half
// of the time that it takes for one after the other.
enum { STREAMS = 8, PIECE = 128 };

template <class T>
void squares_of(const T* const* g, int count, double* partial) {
  Sums sums[STREAMS];
  for (int64_t at = 0; at < TAOKE_CHUNK; at += PIECE)
    for (int k = 0; k < count; ++k) sums[k].add(g[k] + at, PIECE);
  for (int k = 0; k < count; ++k) partial[k] = sums[k].total(g[k], 0);
}

template <class T>
double squares_of(const T* g, int64_t n) {
  Sums sums;
  sums.add(g, n & ~int64_t{31});
  return sums.total(g + (n & ~int64_t{31}), n & 31);
}

template <class T>
int64_t squares_from(const TaokeTensor* tensors, const TaokeChunk* chunks, int64_t count, double* partial) {
  const T* g[STREAMS];
  int together = 0;
  for (; together < STREAMS && together < count; ++together) {
    const TaokeChunk& chunk = chunks[together];
    const TaokeTensor& t = tensors[chunk.tensor];
    if (!t.grad || t.narrow != (sizeof(T) == 2) || chunk.to - chunk.from != TAOKE_CHUNK) break;
    g[together] = static_cast<const T*>(t.grad) + chunk.from;
  }
  if (together) {
    squares_of(g, together, partial);
    return together;
  }
  const TaokeTensor& t = tensors[chunks->tensor];
  *partial = t.grad ? squares_of(static_cast<const T*>(t.grad) + chunks->from, chunks->to - chunks->from) : 0.0;
  return 1;
}

void squares(const TaokeTensor* tensors, const TaokeChunk* chunks, int64_t count, double* partial) {
  for (int64_t i = 0; i < count;)
    i += tensors[chunks[i].tensor].narrow ? squares_from<uint16_t>(tensors, chunks + i, count - i, partial + i)
                                          : squares_from<float>(tensors, chunks + i, count - i, partial + i);
}

template <int RULE, bool ANCHOR, bool AVERAGE>
void loop(float* __restrict p, const float* __restrict g, float* __restrict m, float* __restrict v,
          const float* __restrict start, float* __restrict average, int64_t n, const TaokeCoefficients coefficients) {
  const TaokeCoefficients c = coefficients;
  float none = 0.0f;
  const int64_t end = MUTANT(2) ? n & ~int64_t{15} : n;
  for (int64_t i = MUTANT(3) ? n & ~int64_t{15} : 0; i < end; ++i) {
    float m_i = RULE == TAOKE_PLAIN ? 0.0f : m[i];
    float v_i = RULE == TAOKE_ADAM ? v[i] : 0.0f;
    float p_i = p[i];
    float average_i = AVERAGE ? average[i] : none;
    taoke_element<RULE, ANCHOR, AVERAGE>(p_i, g[i], m_i, v_i, ANCHOR ? start[i] : 0.0f, average_i, c);
    p[i] = p_i;
    if (RULE != TAOKE_PLAIN) m[i] = m_i;
    if (RULE == TAOKE_ADAM) v[i] = v_i;
    if (AVERAGE) average[i] = average_i;
  }
}

template <int RULE>
void run(float* p, const float* g, float* m, float* v, const float* start, float* average, int64_t n,
         const TaokeCoefficients& c) {
  if (start && average) return loop<RULE, true, true>(p, g, m, v, start, average, n, c);
  if (start) return loop<RULE, true, false>(p, g, m, v, start, average, n, c);
  if (average) return loop<RULE, false, true>(p, g, m, v, start, average, n, c);
  return loop<RULE, false, false>(p, g, m, v, start, average, n, c);
}

void run(TaokeRule rule, float* p, const float* g, float* m, float* v, const float* start, float* average, int64_t n,
         const TaokeCoefficients& c) {
  if (rule == TAOKE_ADAM) return run<TAOKE_ADAM>(p, g, m, v, start, average, n, c);
  if (rule == TAOKE_MOMENTUM) return run<TAOKE_MOMENTUM>(p, g, m, v, start, average, n, c);
  return run<TAOKE_PLAIN>(p, g, m, v, start, average, n, c);
}

void widen(float* __restrict to, const uint16_t* __restrict from, int n) {
  for (int i = 0; i < n; ++i) to[i] = taoke_from_bf16(from[i]);
}

void join(float* __restrict to, const uint16_t* __restrict from, const int16_t* __restrict remainder, int n) {
  for (int i = 0; i < n; ++i) to[i] = taoke_join(from[i], remainder[i]);
}

void split(uint16_t* __restrict to, int16_t* __restrict remainder, const float* __restrict from, int n) {
  for (int i = 0; i < n; ++i) to[i] = taoke_split(from[i], remainder[i]);
}

// The random bits of a tile: the mean's in the upper halves, the mean square's or the parameter's in the lower ones.
void draw(uint32_t* __restrict to, int n, uint32_t key, uint32_t first) {
  for (int i = 0; i < n; ++i) to[i] = taoke_random(key, first + static_cast<uint32_t>(i));
}

template <int SHIFT>
void narrow(uint16_t* __restrict to, const float* __restrict from, int n, const uint32_t* __restrict random) {
  for (int i = 0; i < n; ++i) to[i] = taoke_to_bf16(from[i], (random[i] >> SHIFT) & 0xffffu);
}

void decode(float* __restrict m, const int8_t* __restrict codes, float scale, int n) {
  for (int i = 0; i < n; ++i) m[i] = taoke_mean_of(codes[i], scale);
}

void decode(float* __restrict v, const uint8_t* __restrict codes, float scale, int n) {
  for (int i = 0; i < n; ++i) v[i] = taoke_square_of(codes[i], scale);
}

// As integers, because their order is that of the sizes and their maximum needs no leave to reorder.
float largest(const float* x, int n) {
  int32_t most = 0;
  for (int i = 0; i < n; ++i) {
    const int32_t bits = static_cast<int32_t>(taoke_bits(x[i]) & 0x7fffffffu);
    most = bits > most ? bits : most;
  }
  return taoke_float(static_cast<uint32_t>(most));
}

float encode(int8_t* __restrict codes, const float* __restrict m, int n, const uint32_t* __restrict random) {
  const float scale = taoke_scale(largest(m, n), TAOKE_MEAN_TOP), inverse = taoke_inverse(scale);
  for (int i = 0; i < n; ++i) codes[i] = static_cast<int8_t>(taoke_mean_code(m[i], inverse, random[i] >> 16));
  return scale;
}

float encode(uint8_t* __restrict codes, const float* __restrict v, int n, const uint32_t* __restrict random) {
  const float scale = taoke_scale(largest(v, n), TAOKE_SQUARE_TOP), inverse = taoke_inverse(scale);
  for (int i = 0; i < n; ++i) codes[i] = static_cast<uint8_t>(taoke_square_code(v[i], inverse, random[i] & 0xffffu));
  return scale;
}

// Asks memory for what comes next, so that it arrives while a tile is computed with.
void fetch(const void* from, int64_t bytes) {
  if (!from) return;
  for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(static_cast<const char*>(from) + i, 1);
}

void fetch(const TaokeTensor& t, int64_t from, int64_t n) {
  const auto at = [from](const void* p, int width) {
    return p ? static_cast<const void*>(static_cast<const char*>(p) + from * width) : p;
  };
  const int wide = t.narrow ? 2 : 4, state = t.store == TAOKE_FLOAT32 ? 4 : t.store == TAOKE_BFLOAT16 ? 2 : 1;
  fetch(at(t.param, wide), n * wide);
  fetch(at(t.grad, wide), n * wide);
  fetch(at(t.start, wide), n * wide);
  fetch(at(t.average, 4), n * 4);
  fetch(at(t.mean, state), n * state);
  fetch(at(t.square, state), n * state);
  fetch(at(t.remainder, 2), n * 2);
}

// At most TAOKE_BLOCK elements: what is narrow in memory passes through arrays that stay in the first cache.
void update_tile(TaokeRule rule, const TaokeTensor& t, const TaokeCoefficients& c, int64_t from, int n) {
  alignas(64) uint32_t random[TAOKE_BLOCK];
  alignas(64) float p[TAOKE_BLOCK], g[TAOKE_BLOCK], m[TAOKE_BLOCK], v[TAOKE_BLOCK], start[TAOKE_BLOCK];
  const uint32_t high = static_cast<uint32_t>(static_cast<uint64_t>(from) >> 32), first = static_cast<uint32_t>(from);
  const bool has_mean = rule != TAOKE_PLAIN, has_square = rule == TAOKE_ADAM;
  float *p_at = p, *m_at = m, *v_at = v;
  const float *g_at = g, *start_at = nullptr;
  const int64_t block = from / TAOKE_BLOCK;

  if (t.narrow) {
    const uint16_t* narrow_p = static_cast<const uint16_t*>(t.param) + from;
    if (t.remainder)
      join(p, narrow_p, t.remainder + from, n);
    else
      widen(p, narrow_p, n);
    widen(g, static_cast<const uint16_t*>(t.grad) + from, n);
    if (t.start) {
      widen(start, static_cast<const uint16_t*>(t.start) + from, n);
      start_at = start;
    }
  } else {
    p_at = static_cast<float*>(t.param) + from;
    g_at = static_cast<const float*>(t.grad) + from;
    if (t.start) start_at = static_cast<const float*>(t.start) + from;
  }
  if (t.store == TAOKE_FLOAT32) {
    if (has_mean) m_at = static_cast<float*>(t.mean) + from;
    if (has_square) v_at = static_cast<float*>(t.square) + from;
  } else if (t.store == TAOKE_BFLOAT16) {
    if (has_mean) widen(m, static_cast<const uint16_t*>(t.mean) + from, n);
    if (has_square) widen(v, static_cast<const uint16_t*>(t.square) + from, n);
  } else {
    if (has_mean) decode(m, static_cast<const int8_t*>(t.mean) + from, t.mean_scale[block], n);
    if (has_square) decode(v, static_cast<const uint8_t*>(t.square) + from, t.square_scale[block], n);
  }

  run(rule, p_at, g_at, m_at, v_at, start_at, t.average ? t.average + from : nullptr, n, c);

  if (t.narrow) {
    uint16_t* narrow_p = static_cast<uint16_t*>(t.param) + from;
    if (t.remainder) {
      split(narrow_p, t.remainder + from, p, n);
    } else {
      draw(random, n, taoke_key(t.number, t.step, high, 0), first);
      narrow<0>(narrow_p, p, n, random);
    }
  }
  if (t.store == TAOKE_FLOAT32 || !has_mean) return;
  draw(random, n, taoke_key(t.number, t.step, high, 1), first);
  if (t.store == TAOKE_BFLOAT16) {
    narrow<16>(static_cast<uint16_t*>(t.mean) + from, m, n, random);
    if (has_square) narrow<0>(static_cast<uint16_t*>(t.square) + from, v, n, random);
  } else {
    t.mean_scale[block] = encode(static_cast<int8_t*>(t.mean) + from, m, n, random);
    if (has_square) t.square_scale[block] = encode(static_cast<uint8_t*>(t.square) + from, v, n, random);
  }
}

void update(TaokeRule rule, const TaokeTensor& t, const TaokeCoefficients& c, int64_t from, int64_t to, bool zero) {
  if (!t.narrow && (t.store == TAOKE_FLOAT32 || rule == TAOKE_PLAIN)) {
    run(rule, static_cast<float*>(t.param) + from, static_cast<const float*>(t.grad) + from,
        t.mean ? static_cast<float*>(t.mean) + from : nullptr, t.square ? static_cast<float*>(t.square) + from : nullptr,
        t.start ? static_cast<const float*>(t.start) + from : nullptr, t.average ? t.average + from : nullptr, to - from,
        c);
  } else {
    for (int64_t i = from; i < to; i += TAOKE_BLOCK) {
      if (i + 3 * TAOKE_BLOCK <= t.size) fetch(t, i + 2 * TAOKE_BLOCK, TAOKE_BLOCK);
      update_tile(rule, t, c, i, static_cast<int>(to - i < TAOKE_BLOCK ? to - i : TAOKE_BLOCK));
    }
  }
  if (zero && !MUTANT(13)) {
    const size_t width = t.narrow ? 2 : 4;
    memset(static_cast<char*>(t.grad) + static_cast<size_t>(from) * width, 0, static_cast<size_t>(to - from) * width);
  }
}

}  // namespace
