// Python's view of the kernels. The state's addresses come as integers.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <stdexcept>
#include <string>
#include <vector>

#include "plan.h"
#include "tensors.h"

namespace {

template <class T>
T* pointer(uint64_t address) {
  return reinterpret_cast<T*>(static_cast<uintptr_t>(address));
}

std::vector<std::string> usable() {
  std::vector<std::string> names;
  for (const char* isa : {"scalar", "avx2", "avx512"})
    if (taoke_kernels(isa)) names.emplace_back(isa);
  return names;
}

std::string isa() {
  const char* found = taoke_isa();
  if (found) return found;
  std::string others;
  for (const std::string& name : usable()) others += (others.empty() ? "" : ", ") + name;
  throw std::invalid_argument(std::string("TAOKE_ISA=") + getenv("TAOKE_ISA") + " cannot run here; these can: " + others);
}

const TaokeKernels& chosen() { return *taoke_kernels(isa().c_str()); }

// The parameters of one optimizer with their state, cut into chunks once; gradients come anew at every step.
class Plan {
 public:
  explicit Plan(int rule) : rule_(static_cast<TaokeRule>(rule)) {
    taoke_openmp();  // looked up once, while no other thread can
  }

  // (param, remainder, mean, square, mean_scale, square_scale, start, average): 0 is none
  void add(const std::array<uint64_t, 8>& at, int64_t size, bool narrow, int store, int32_t group, uint64_t number) {
    TaokeTensor t{};
    t.param = pointer<void>(at[0]);
    t.remainder = pointer<int16_t>(at[1]);
    t.mean = pointer<void>(at[2]);
    t.square = pointer<void>(at[3]);
    t.mean_scale = pointer<float>(at[4]);
    t.square_scale = pointer<float>(at[5]);
    t.start = pointer<void>(at[6]);
    t.average = pointer<float>(at[7]);
    t.size = size;
    t.narrow = narrow;
    t.store = static_cast<TaokeStore>(store);
    t.group = group;
    t.number = number;
    const int64_t tensor = static_cast<int64_t>(tensors_.size());
    for (int64_t from = 0; from < size; from += TAOKE_CHUNK)
      chunks_.push_back({tensor, from, from + TAOKE_CHUNK < size ? from + TAOKE_CHUNK : size});
    elements_ += size;
    tensors_.push_back(t);
    partial_.resize(chunks_.size());
  }

  void set_gradients(const Tensors& tensors) {
    chosen();  // an error of the environment, before anything is counted
    const std::vector<void*>& gradients = tensors.gradients();
    if (gradients.size() != tensors_.size()) throw std::invalid_argument("one gradient a parameter");
    for (size_t i = 0; i < gradients.size(); ++i) tensors_[i].grad = gradients[i];
  }

  double squares() {
    const TaokeKernels& kernels = chosen();
    py::gil_scoped_release released;
    return taoke_squares(kernels, tensors_.data(), chunks_.data(), static_cast<int64_t>(chunks_.size()), elements_,
                         partial_.data());
  }

  // `table`: (hyper-parameters, step) of each kind of parameter; `rows`: which row is whose, where not the group's own.
  void update(const std::vector<std::pair<std::array<double, 9>, int64_t>>& table,
              const py::object& rows, double scale, bool zero) {
    const TaokeKernels& kernels = chosen();
    std::vector<TaokeCoefficients> coefficients;
    for (const auto& [values, step] : table) {
      TaokeHyper h;
      static_assert(sizeof h == sizeof values, "nine numbers");
      memcpy(&h, values.data(), sizeof h);
      coefficients.push_back(taoke_coefficients(rule_, h, static_cast<double>(step), scale));
    }
    std::vector<TaokeTensor> moved;
    if (!rows.is_none()) {
      moved = tensors_;
      size_t i = 0;
      for (const py::handle& row : rows.cast<py::list>()) moved.at(i++).group = row.cast<int32_t>();
    }
    std::vector<TaokeTensor>& tensors = rows.is_none() ? tensors_ : moved;
    for (TaokeTensor& t : tensors) {
      if (!t.grad) continue;
      if (static_cast<size_t>(t.group) >= table.size()) throw std::invalid_argument("no such row");
      t.step = static_cast<uint64_t>(table[static_cast<size_t>(t.group)].second);
    }
    py::gil_scoped_release released;
    taoke_update(kernels, rule_, tensors.data(), coefficients.data(), chunks_.data(),
                 static_cast<int64_t>(chunks_.size()), elements_, zero);
  }

 private:
  TaokeRule rule_;
  std::vector<TaokeTensor> tensors_;
  std::vector<TaokeChunk> chunks_;
  std::vector<double> partial_;
  int64_t elements_ = 0;
};

}  // namespace

PYBIND11_MODULE(_native, module) {
  module.doc() = "The update step's kernels; core.optim is how to use them.";
  py::class_<Tensors>(module, "Tensors", py::module_local())
      .def(py::init<const py::object&, const py::list&>())
      .def("hold", &Tensors::hold)
      .def("gradients_of", &Tensors::gradients_of)
      .def("take", &Tensors::take)
      .def("complete", &Tensors::complete)
      .def("shared", &Tensors::shared)
      .def("addresses", [](const Tensors& tensors) {
        py::list found;
        for (void* data : tensors.gradients()) found.append(reinterpret_cast<uintptr_t>(data));
        return found;
      });
  py::class_<Plan>(module, "Plan", py::module_local())
      .def(py::init<int>())
      .def("add", &Plan::add)
      .def("set_gradients", &Plan::set_gradients)
      .def("squares", &Plan::squares)
      .def("update", &Plan::update);
  module.def("isa", &isa);
  module.def("usable", &usable);
  module.def("openmp", [] { return std::string(taoke_openmp()); });
#ifdef TAOKE_MUTANTS
  module.def("set_mutant", [](int number) { taoke_mutant = number; });
#endif
}
