// The kernels, compiled for AVX-512 F, BW, DQ and VL (see setup.py for the flags).
#include "kernels.h"

extern const TaokeKernels taoke_avx512 = {squares, update};
