// Threads of the OpenMP runtime that torch has loaded. Nothing is linked: a second runtime in the process would bring
// a second set of threads. GOMP_parallel is what compilers call; GNU's, LLVM's and Intel's runtimes all have it.
#include "../plan.h"

#ifdef __linux__
#include <dlfcn.h>
#include <link.h>

#include <string>

namespace {

struct Runtime {
  std::string file;
  void (*parallel)(void (*)(void*), void*, unsigned threads, unsigned flags) = nullptr;
  int (*thread)() = nullptr;
  int (*threads)() = nullptr;
  int (*within)() = nullptr;
};

template <class Function>
bool take(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  return function != nullptr;
}

int look(struct dl_phdr_info* info, size_t, void* found) {
  const std::string path = info->dlpi_name ? info->dlpi_name : "";
  const std::string name = path.substr(path.rfind('/') + 1);
  if (name.rfind("libgomp", 0) != 0 && name.rfind("libiomp5", 0) != 0 && name.rfind("libomp", 0) != 0) return 0;
  auto& files = *static_cast<std::string*>(found);
  const bool torchs = path.find("/torch") != std::string::npos;
  if (files.empty() || torchs) files = path;
  return torchs ? 1 : 0;
}

const Runtime& runtime() {
  static Runtime known;
  if (known.parallel) return known;
  std::string path;
  dl_iterate_phdr(look, &path);
  if (path.empty()) return known;
  void* library = dlopen(path.c_str(), RTLD_LAZY | RTLD_NOLOAD);
  if (!library) return known;
  Runtime made;
  made.file = path;
  if (take(library, "omp_get_thread_num", made.thread) && take(library, "omp_get_num_threads", made.threads) &&
      take(library, "omp_in_parallel", made.within) && take(library, "GOMP_parallel", made.parallel))
    known = made;
  return known;
}

struct Call {
  void (*work)(void*, int, int);
  void* data;
};

void enter(void* given) {
  const Call& call = *static_cast<Call*>(given);
  call.work(call.data, runtime().thread(), runtime().threads());
}

}  // namespace

const char* taoke_openmp() { return runtime().file.c_str(); }

void taoke_parallel(void (*work)(void*, int, int), void* data) {
  const Runtime& openmp = runtime();
  if (!openmp.parallel || openmp.within()) return work(data, 0, 1);
  Call call{work, data};
  openmp.parallel(enter, &call, 0, 0);  // the full team, as torch does: changing its size from call to call is dear
}

#else

const char* taoke_openmp() { return ""; }
void taoke_parallel(void (*work)(void*, int, int), void* data) { work(data, 0, 1); }

#endif
