// Where torch's tensors lie, asked of torch by DLPack's exchange functions (https://dmlc.github.io/dlpack/latest/c_api.html,
// version 1): tens of nanoseconds a tensor, no header of torch's.
#pragma once
#include <pybind11/pybind11.h>

#include <algorithm>
#include <stdexcept>
#include <vector>

#include "plan.h"

namespace py = pybind11;

namespace dlpack {

struct Tensor {
  void* data;
  int32_t device, device_number;
  int32_t dimensions;
  uint8_t kind, bits;
  uint16_t lanes;
  int64_t *shape, *strides;
  uint64_t byte_offset;
};

struct Exchange {
  uint32_t major, minor;
  void* older;
  void *allocate, *managed_from_object, *managed_to_object;
  int (*tensor_from_object)(void* object, Tensor* out);  // -1: a Python exception is set
  int (*stream)(int32_t device, int32_t device_number, void** out);
};

}  // namespace dlpack

// Tensors as they were when this was made. Keeps no reference to them: Python gives the same list each time.
class Tensors {
 public:
  // `grad` is the descriptor of the attribute.
  Tensors(const py::capsule& exchange, const py::object& grad, const py::list& tensors)
      : exchange_(exchange.get_pointer<dlpack::Exchange>()), grad_(grad) {
    if (exchange_->major != 1 || !exchange_->tensor_from_object)
      throw std::runtime_error("torch's DLPack exchange functions are of another version than 1");
    if (!Py_TYPE(grad.ptr())->tp_descr_get) throw std::invalid_argument("Tensor.grad is no descriptor");
    for (const py::handle& tensor : tensors) {
      dlpack::Tensor t;
      if (exchange_->tensor_from_object(tensor.ptr(), &t) != 0) throw py::error_already_set();
      places_.push_back({t.data, t.device, t.device_number, t.dimensions, t.kind, t.bits, lengths_.size()});
      lengths_.insert(lengths_.end(), t.shape, t.shape + t.dimensions);
      lengths_.insert(lengths_.end(), t.strides, t.strides + t.dimensions);
    }
    gradients_.resize(places_.size());
  }

  // Whether all are where they were, of the same type and shape.
  bool hold(const py::list& tensors) const {
    if (tensors.size() != places_.size()) return false;
    for (size_t i = 0; i < places_.size(); ++i) {
      dlpack::Tensor t;
      if (!place_of(tensors, i, t) || t.data != places_[i].data || !alike(t, places_[i])) return false;
    }
    return true;
  }

  // `tensor.grad` of each, without the search for the attribute.
  py::list gradients_of(const py::list& tensors) const {
    const descrgetfunc get = Py_TYPE(grad_.ptr())->tp_descr_get;
    py::list found(tensors.size());
    for (Py_ssize_t i = 0; i < static_cast<Py_ssize_t>(tensors.size()); ++i) {
      PyObject* tensor = PyList_GET_ITEM(tensors.ptr(), i);
      PyObject* gradient = get(grad_.ptr(), tensor, reinterpret_cast<PyObject*>(Py_TYPE(tensor)));
      if (!gradient) throw py::error_already_set();
      PyList_SET_ITEM(found.ptr(), i, gradient);
    }
    return found;
  }

  // Takes a step's gradients, None for those that take no part. 2 where all of them are there, 1 where some are, 0
  // where one is no tensor of the type and layout of its parameter: then none is taken.
  int take(const py::list& gradients) {
    if (gradients.size() != places_.size()) throw std::invalid_argument("one gradient a parameter");
    bool complete = true, changed = false;
    for (size_t i = 0; i < places_.size(); ++i) {
      void* data = nullptr;
      if (PyList_GET_ITEM(gradients.ptr(), static_cast<Py_ssize_t>(i)) == Py_None) {
        complete = false;
      } else {
        dlpack::Tensor t;
        if (!place_of(gradients, i, t) || !alike(t, places_[i])) return 0;
        data = t.data;
      }
      changed |= gradients_[i] != data;
      gradients_[i] = data;
    }
    if (changed) {
      std::vector<void*> sorted;
      for (void* data : gradients_)
        if (data) sorted.push_back(data);
      std::sort(sorted.begin(), sorted.end());
      shared_ = std::adjacent_find(sorted.begin(), sorted.end()) != sorted.end();
    }
    return complete ? 2 : 1;
  }

  // Whether one gradient is several parameters'.
  bool shared() const { return shared_; }

  const std::vector<void*>& gradients() const { return gradients_; }

 private:
  struct Place {
    void* data;
    int32_t device, device_number, dimensions;
    uint8_t kind, bits;
    size_t lengths;  // where its shape begins, and then its strides
  };

  bool place_of(const py::list& tensors, size_t i, dlpack::Tensor& t) const {
    if (exchange_->tensor_from_object(PyList_GET_ITEM(tensors.ptr(), static_cast<Py_ssize_t>(i)), &t) == 0) return true;
    PyErr_Clear();
    return false;
  }

  bool alike(const dlpack::Tensor& t, const Place& was) const {
    if (t.kind != was.kind || t.bits != was.bits || t.device != was.device || t.device_number != was.device_number ||
        t.dimensions != was.dimensions)
      return false;
    const int64_t *shape = lengths_.data() + was.lengths, *strides = shape + was.dimensions;
    for (int d = 0; d < was.dimensions; ++d)
      if (t.shape[d] != shape[d] || (shape[d] != 1 && t.strides[d] != strides[d])) return false;
    return true;
  }

  const dlpack::Exchange* exchange_;
  py::object grad_;
  std::vector<Place> places_;
  std::vector<int64_t> lengths_;
  std::vector<void*> gradients_;
  bool shared_ = false;
};
