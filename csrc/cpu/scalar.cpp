// The kernels, compiled for what every machine of the architecture has.
#include "kernels.h"

extern const TaokeKernels taoke_scalar = {squares, update};
