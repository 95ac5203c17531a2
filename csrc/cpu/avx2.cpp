// The kernels, compiled for AVX2 (see setup.py for the flags).
#include "kernels.h"

extern const TaokeKernels taoke_avx2 = {squares, update};
