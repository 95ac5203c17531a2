// The update step, element by element: the one place where its formulas stand, for the host and for CUDA.
//
//   g' = g * clip / grad_scale + coupled * p
//   m <- m + (1 - b1) * (g' - m)            v <- b2 * v + (1 - b2) * g'^2
//   p <- p - [lr / bc1 * m / (sqrt(v) / sqrt(bc2) + eps) + lr * wd * p + lr * lambda * (p - start)]
//   average <- average + (1 - d) * (p_new - average)
//
// Every operation rounds once: no fused multiply-add anywhere (-ffp-contract=off, nvcc -fmad=false), IEEE division and
// square root. So the bits do not depend on the instruction set, the number of threads or the place in a vector.
#pragma once
#include <math.h>
#include <stdint.h>
#include <string.h>

#ifdef __CUDACC__
#define TAOKE_FN static __host__ __device__ __forceinline__
#else
#define TAOKE_FN static inline __attribute__((always_inline))
#endif

// A test build breaks the kernel on purpose, one way at a time, to see that the tests notice.
#ifdef TAOKE_MUTANTS
extern "C" int taoke_mutant;
#define MUTANT(number) (taoke_mutant == (number))
#else
#define MUTANT(number) false
#endif

enum TaokeRule : int32_t { TAOKE_ADAM = 0, TAOKE_MOMENTUM = 1, TAOKE_PLAIN = 2 };

// What a parameter group says; `coupled` is weight decay that goes into the gradient. For SGD, beta1 is the momentum
// and beta2 the part of the gradient that enters it (1 - dampening; 1 in the first step).
struct TaokeHyper {
  double lr, beta1, beta2, eps, decay, coupled, anchor, average, nesterov;
};

// The same as the elements need it, in single precision, computed in double once a step.
struct TaokeCoefficients {
  float scale;         // of gradients: clip / grad_scale
  float mean_rate;     // 1 - beta1; the momentum for SGD
  float square_keep;   // beta2
  float square_rate;   // 1 - beta2; the gradient's part for SGD
  float root_factor;   // 1 / sqrt(bc2)
  float eps;
  float step;          // lr / bc1
  float decay;         // lr * wd
  float coupled;       // wd
  float pull;          // lr * lambda
  float average_rate;  // 1 - d
  float nesterov;      // the momentum where the step looks ahead, else 0
};

TAOKE_FN TaokeCoefficients taoke_coefficients(TaokeRule rule, const TaokeHyper& h, double step, double scale) {
  TaokeCoefficients c;
  c.scale = (float)(MUTANT(5) ? 1.0 : scale);
  c.eps = (float)h.eps;
  c.decay = (float)(h.lr * h.decay);
  c.coupled = (float)h.coupled;
  c.pull = (float)(h.lr * h.anchor);
  c.average_rate = (float)(1.0 - h.average);
  c.nesterov = 0.0f;
  if (rule == TAOKE_ADAM) {
    double t = MUTANT(8) ? step + 1 : step;
    double bias1 = 1.0 - pow(h.beta1, t), bias2 = 1.0 - pow(h.beta2, t);
    c.mean_rate = (float)(MUTANT(11) ? h.beta1 : 1.0 - h.beta1);
    c.square_keep = (float)h.beta2;
    c.square_rate = (float)(1.0 - h.beta2);
    c.root_factor = (float)(MUTANT(12) ? 1.0 : 1.0 / sqrt(bias2));
    c.step = (float)(h.lr / bias1);
  } else {
    c.mean_rate = (float)h.beta1;
    c.square_keep = 0.0f;
    c.square_rate = (float)h.beta2;
    c.root_factor = 1.0f;
    c.step = (float)h.lr;
    if (h.nesterov != 0.0 && !MUTANT(16)) c.nesterov = (float)h.beta1;
  }
  return c;
}

// One element. `start` is read where ANCHOR, `average` read and written where AVERAGE.
template <int RULE, bool ANCHOR, bool AVERAGE>
TAOKE_FN void taoke_element(float& p, float g, float& m, float& v, float start, float& average,
                            const TaokeCoefficients& c) {
  const float old = p;
  const float unscaled = g;
  g = g * c.scale;
  const float with_decay = g + c.coupled * old;
  g = c.coupled != 0.0f ? with_decay : g;  // an infinite parameter must not meet a decay of 0
  float change;
  if (RULE == TAOKE_ADAM) {
    m = m + c.mean_rate * (g - m);
    const float s = MUTANT(10) ? unscaled : g;
    v = c.square_keep * v + (c.square_rate * s) * s;
    change = (c.step * m) / (sqrtf(v) * c.root_factor + (MUTANT(9) ? 0.0f : c.eps));
  } else if (RULE == TAOKE_MOMENTUM) {
    const float kept = c.mean_rate * m + c.square_rate * g;
    if (!MUTANT(17)) m = kept;
    change = c.step * (c.nesterov != 0.0f ? g + c.nesterov * kept : kept);
  } else {
    change = c.step * g;
  }
  const float decayed = MUTANT(4) ? old - change : old;
  const float decaying = change + c.decay * decayed;
  change = c.decay != 0.0f ? decaying : change;
  if (ANCHOR) {
    const float from = MUTANT(7) ? old - change : old;
    change = change + (MUTANT(15) ? start - from : from - start) * c.pull;
  }
  p = MUTANT(1) ? old : old - change;
  if (AVERAGE) average = average + c.average_rate * ((MUTANT(6) ? old : p) - average);
}

// ---------------------------------------------------------------------------------------------- narrow numbers

TAOKE_FN uint32_t taoke_bits(float x) {
  uint32_t bits;
  memcpy(&bits, &x, 4);
  return bits;
}

TAOKE_FN float taoke_float(uint32_t bits) {
  float x;
  memcpy(&x, &bits, 4);
  return x;
}

// 32 random bits of element i, whatever thread or vector it falls into (lowbias32 of a counter).
TAOKE_FN uint32_t taoke_random(uint32_t key, uint32_t i) {
  uint32_t x = i * 0x9E3779B9u + key;
  x ^= x >> 16;
  x *= 0x7feb352du;
  x ^= x >> 15;
  x *= 0x846ca68bu;
  x ^= x >> 16;
  return x;
}

TAOKE_FN uint32_t taoke_key(uint64_t tensor, uint64_t step, uint32_t high, uint32_t use) {
  uint32_t key = taoke_random((uint32_t)tensor, use + 1u);
  key = taoke_random(key ^ (uint32_t)(tensor >> 32), (uint32_t)step);
  return taoke_random(key ^ (uint32_t)(step >> 32), high);
}

TAOKE_FN float taoke_from_bf16(uint16_t x) { return taoke_float((uint32_t)x << 16); }

// Up or down by chance, so that the mean is exact; `random` is below 65536. The largest finite numbers stay finite.
TAOKE_FN uint16_t taoke_to_bf16(float x, uint32_t random) {
  const uint32_t bits = taoke_bits(x);
  const uint32_t up = (bits + random) >> 16;
  const uint32_t down = bits >> 16;
  const uint32_t quiet = (bits & 0x7fffffffu) > 0x7f800000u ? 0x40u : 0u;
  return (uint16_t)((up & 0x7f80u) == 0x7f80u ? down | quiet : up);
}

// A float as the bf16 next to it and what is missing, in 16 bits more: nothing is lost but a NaN's payload.
TAOKE_FN uint16_t taoke_split(float x, int16_t& remainder) {
  const uint32_t bits = taoke_bits(x);
  const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
  remainder = nan || MUTANT(18) ? (int16_t)0 : (int16_t)(uint16_t)(bits & 0xffffu);
  return (uint16_t)(nan ? (bits >> 16) | 0x40u : (bits + 0x8000u) >> 16);
}

// Whoever writes to a parameter leaves the remainder of its old value: at most half of the last place, but nothing can
// be missing from a zero, below which there would be a NaN.
TAOKE_FN float taoke_join(uint16_t near, int16_t remainder) {
  const int32_t missing = (near & 0x7fffu) == 0u && remainder < 0 ? 0 : (int32_t)remainder;
  return taoke_float(((uint32_t)near << 16) + (uint32_t)missing);
}

// Codes of 8 bits, by block of 256: floating point with four bits of mantissa, below a power of two that the block's
// largest value sets. A mean has a sign and three bits of exponent, a mean square four. Between two codes chance decides,
// so that the mean over many steps is exact; a positive mean square never becomes 0, which would make its step huge.
// There are neither tables nor roots: an addition and a shift, which vector units have. What is added, 2^-top, makes
// the codes of small values equally far apart, from 0 on.
static const int TAOKE_BLOCK = 256;
static const int TAOKE_MEAN_TOP = 7, TAOKE_SQUARE_TOP = 15;  // the largest exponent field

TAOKE_FN float taoke_added(int top) { return taoke_float((uint32_t)(127 - top) << 23); }

TAOKE_FN float taoke_decoded(int code, int top) {
  return taoke_float(((uint32_t)code << 19) + ((uint32_t)(127 - top) << 23)) - taoke_added(top);
}

// `x` from 0 to 1.9375 - 2^-top; `random` is below 65536.
TAOKE_FN int taoke_encoded(float x, int top, uint32_t random) {
  return (int)((taoke_bits(x + taoke_added(top)) + (random << 3)) >> 19) - ((127 - top) << 4);
}

// The power of two below which a block's values lie, from the largest; 0 for blocks of nothing but subnormal numbers.
TAOKE_FN float taoke_scale(float largest, int top) {
  return taoke_float((taoke_bits(largest) + 0x7ffffu + (1u << (23 - top))) & 0x7f800000u);
}
TAOKE_FN float taoke_inverse(float scale) { return scale == 0.0f ? 0.0f : 1.0f / scale; }

TAOKE_FN float taoke_mean_of(int code, float scale) {
  const float size = taoke_decoded(code < 0 ? -code : code, TAOKE_MEAN_TOP) * scale;
  return code < 0 ? -size : size;
}
TAOKE_FN int taoke_mean_code(float mean, float inverse, uint32_t random) {
  const int code = taoke_encoded(fabsf(mean) * inverse, TAOKE_MEAN_TOP, random);
  return mean < 0.0f ? -code : code;
}

TAOKE_FN float taoke_square_of(int code, float scale) { return taoke_decoded(code, TAOKE_SQUARE_TOP) * scale; }
TAOKE_FN int taoke_square_code(float square, float inverse, uint32_t random) {
  const int code = taoke_encoded(square * inverse, TAOKE_SQUARE_TOP, random);
  return (code == 0 && square > 0.0f && !MUTANT(19)) ? 1 : code;
}
