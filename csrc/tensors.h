// Where torch's tensors lie, asked of torch by DLPack's exchange functions (https://dmlc.github.io/dlpack/latest/c_api.html,
// version 1): tens of nanoseconds a tensor, no header of torch's.
#pragma once
#include <pybind11/pybind11.h>

#include <algorithm>
#include <stdexcept>
#include <string>
#include <vector>

#include "plan.h"

namespace py = pybind11;

namespace dlpack {

struct Tensor {  // DLTensor; torch puts the offset into `data`
  void* data;
  int32_t device_type, device_id, ndim;
  uint8_t code, bits;
  uint16_t lanes;
  int64_t *shape, *strides;
  uint64_t byte_offset;
};

struct Exchange {  // DLPackExchangeAPI, up to what is used
  uint32_t major, minor;
  void* older;
  void *allocate, *managed_from_object, *managed_to_object;
  int (*tensor_from_object)(void* object, Tensor* out);  // -1: a Python exception is set
};

}  // namespace dlpack

// Tensors as they were when this was made. Keeps no reference to them, which Python's garbage collector could not follow
// from here: it is given the same list each time.
class Tensors {
 public:
  // `type` is torch.Tensor.
  Tensors(const py::object& type, const py::list& tensors)
      : exchange_(type.attr("__dlpack_c_exchange_api__").cast<py::capsule>().get_pointer<dlpack::Exchange>()),
        type_(type),
        grad_(type.attr("grad")),
        is_neg_(type.attr("is_neg")) {
    if (exchange_->major != 1 || !exchange_->tensor_from_object)
      throw std::runtime_error("torch's DLPack exchange functions are of version " + std::to_string(exchange_->major) +
                               ", and 1 is wanted: use backend='reference'");
    if (!Py_TYPE(grad_.ptr())->tp_descr_get) throw std::runtime_error("Tensor.grad is no descriptor: use backend='reference'");
    for (const py::handle& tensor : tensors) {
      dlpack::Tensor t;
      if (exchange_->tensor_from_object(tensor.ptr(), &t) != 0) throw py::error_already_set();
      if (!t.data && elements(t) != 0) throw std::runtime_error("a parameter has no memory");
      places_.push_back({t.data, t.device_type, t.device_id, t.ndim, t.code, t.bits, lengths_.size()});
      lengths_.insert(lengths_.end(), t.shape, t.shape + t.ndim);
      lengths_.insert(lengths_.end(), t.strides, t.strides + t.ndim);
    }
    gradients_.resize(places_.size());
    found_.resize(places_.size());
  }

  // Whether the lists together hold the same tensors, all where they were, of the same type and shape.
  bool hold(const py::list& tensors, const py::list& lists) const {
    size_t i = 0;
    for (const py::handle& part : lists) {
      const py::list list = py::reinterpret_borrow<py::list>(part);
      if (i + list.size() > places_.size()) return false;
      for (size_t k = 0; k < list.size(); ++k, ++i) {
        dlpack::Tensor t;
        if (PyList_GET_ITEM(list.ptr(), static_cast<Py_ssize_t>(k)) !=
                PyList_GET_ITEM(tensors.ptr(), static_cast<Py_ssize_t>(i)) ||
            !place_of(list, k, t) || t.data != places_[i].data || !alike(t, places_[i]))
          return false;
      }
    }
    return i == places_.size();
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

  // Takes a step's gradients, None for those that take no part. False where one is no tensor of the type and layout of
  // its parameter: then those of the step before stay.
  bool take(const py::list& gradients) {
    if (gradients.size() != places_.size()) throw std::invalid_argument("one gradient a parameter");
    bool complete = true;
    for (size_t i = 0; i < places_.size(); ++i) {
      dlpack::Tensor t{};
      PyObject* gradient = PyList_GET_ITEM(gradients.ptr(), static_cast<Py_ssize_t>(i));
      if (gradient == Py_None)
        complete = false;
      else if (reinterpret_cast<PyObject*>(Py_TYPE(gradient)) != type_.ptr() || !place_of(gradients, i, t) ||
               !alike(t, places_[i]) || !is_plain(t, gradient))
        return false;
      found_[i] = t.data;
    }
    if (found_ != gradients_) shared_ = twice(found_);
    gradients_.swap(found_);
    complete_ = complete;
    return true;
  }

  // Whether all parameters had one.
  bool complete() const { return complete_; }

  // Whether one gradient is several parameters'.
  bool shared() const { return shared_; }

  const std::vector<void*>& gradients() const { return gradients_; }

 private:
  struct Place {
    void* data;
    int32_t device_type, device_id, ndim;
    uint8_t code, bits;
    size_t lengths;  // where its shape begins, and then its strides
  };

  static int64_t elements(const dlpack::Tensor& t) {
    int64_t product = 1;
    for (int d = 0; d < t.ndim; ++d) product *= t.shape[d];
    return product;
  }

  // Whether the numbers are those in memory. DLPack does not tell of torch's negative bit, which autograd leaves set in
  // gradients of one element (behind `torch.complex(...).conj()`); it makes larger ones anew.
  bool is_plain(const dlpack::Tensor& t, PyObject* tensor) const {
    const int64_t count = elements(t);
    if (count != 1) return t.data || count == 0;
    PyObject* negative = PyObject_CallOneArg(is_neg_.ptr(), tensor);
    if (!negative) throw py::error_already_set();
    Py_DECREF(negative);
    return t.data && negative == Py_False;
  }

  bool place_of(const py::list& tensors, size_t i, dlpack::Tensor& t) const {
    if (exchange_->tensor_from_object(PyList_GET_ITEM(tensors.ptr(), static_cast<Py_ssize_t>(i)), &t) == 0) return true;
    PyErr_Clear();
    return false;
  }

  static bool twice(std::vector<void*> addresses) {
    addresses.erase(std::remove(addresses.begin(), addresses.end(), nullptr), addresses.end());
    std::sort(addresses.begin(), addresses.end());
    return std::adjacent_find(addresses.begin(), addresses.end()) != addresses.end();
  }

  bool alike(const dlpack::Tensor& t, const Place& was) const {
    if (t.code != was.code || t.bits != was.bits || t.device_type != was.device_type || t.device_id != was.device_id ||
        t.ndim != was.ndim)
      return false;
    const int64_t *shape = lengths_.data() + was.lengths, *strides = shape + was.ndim;
    bool same = true, empty = false;
    for (int d = 0; d < was.ndim; ++d) {
      if (t.shape[d] != shape[d]) return false;
      same &= shape[d] == 1 || t.strides[d] == strides[d];
      empty |= shape[d] == 0;
    }
    return same || empty;
  }

  const dlpack::Exchange* exchange_;
  py::object type_, grad_, is_neg_;
  std::vector<Place> places_;
  std::vector<int64_t> lengths_;
  std::vector<void*> gradients_, found_;
  bool complete_ = false, shared_ = false;
};
