// Which kernels run, and which thread does which chunk.
#include <stdlib.h>

#include <atomic>
#include <initializer_list>

#include "../plan.h"

#ifdef TAOKE_MUTANTS
extern "C" {
int taoke_mutant = 0;
}
#endif

const TaokeKernels* taoke_kernels(const char* isa) {
  if (!strcmp(isa, "scalar")) return &taoke_scalar;
#ifdef TAOKE_X86
  __builtin_cpu_init();
  if (!strcmp(isa, "avx2") && __builtin_cpu_supports("avx2")) return &taoke_avx2;
  if (!strcmp(isa, "avx512") && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
    return &taoke_avx512;
#endif
  return nullptr;
}

const char* taoke_isa() {
  const char* asked = getenv("TAOKE_ISA");
  if (asked && *asked) return taoke_kernels(asked) ? asked : nullptr;
  for (const char* isa : {"avx512", "avx2"})
    if (taoke_kernels(isa)) return isa;
  return "scalar";
}

namespace {

const int64_t SERIAL = 131072;  // elements below which waking a team of threads costs more than it saves
const int64_t STRIDE = 16;     // chunks taken at a time

// Every thread has a stretch of its own, always the same, and helps the others where it is done first.
struct Shares {
  struct alignas(64) Next {
    std::atomic<int64_t> chunk{-1};
  };
  explicit Shares(int64_t chunks) : chunks(chunks) {}

  template <class Work>
  void run(int64_t elements, const Work& work) {
    if (elements < SERIAL) {
      work(0, chunks);
      return;
    }
    Call<Work> call{this, &work};
    taoke_parallel(&Call<Work>::enter, &call);
  }

 private:
  static const int MOST = 256;
  Next next[MOST];
  int64_t chunks;

  template <class Work>
  struct Call {
    Shares* shares;
    const Work* work;
    static void enter(void* given, int thread, int threads) {
      const Call& call = *static_cast<Call*>(given);
      call.shares->take(thread, threads < MOST ? threads : MOST, *call.work);
    }
  };

  template <class Work>
  void take(int thread, int threads, const Work& work) {
    if (thread >= threads) return;
    for (int turn = 0; turn < threads; ++turn) {
      const int whose = (thread + turn) % threads;
      const int64_t begin = chunks * whose / threads, end = chunks * (whose + 1) / threads;
      for (;;) {
        const int64_t from = begin + (next[whose].chunk.fetch_add(1, std::memory_order_relaxed) + 1) * STRIDE;
        if (from >= end) break;
        work(from, from + STRIDE < end ? from + STRIDE : end);
      }
    }
  }
};

}  // namespace

double taoke_squares(const TaokeKernels& kernels, const TaokeTensor* tensors, const TaokeChunk* chunks, int64_t count,
                     int64_t elements, double* partial) {
  Shares(count).run(elements, [&](int64_t from, int64_t to) {
    kernels.squares(tensors, chunks + from, to - from, partial + from);
  });
  double sum = 0.0;
  for (int64_t i = 0; i < (MUTANT(20) ? count - 1 : count); ++i) sum += partial[i];
  return sum;
}

void taoke_update(const TaokeKernels& kernels, TaokeRule rule, const TaokeTensor* tensors,
                  const TaokeCoefficients* coefficients, const TaokeChunk* chunks, int64_t count, int64_t elements,
                  bool zero) {
  Shares(count).run(elements, [&](int64_t from, int64_t to) {
    for (int64_t i = from; i < to; ++i) {
      const TaokeTensor& t = tensors[chunks[i].tensor];
      if (t.grad) kernels.update(rule, t, coefficients[t.group], chunks[i].from, chunks[i].to, zero);
    }
  });
}
