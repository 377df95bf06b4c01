#include "core/matmul.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <oneapi/dnnl/dnnl.hpp>
#include <unordered_map>

#include "core/error.h"
#include "core/parallel.h"
#include "core/scratch.h"

namespace ballast {

namespace {

using dnnl::memory;

// What a primitive was made for. Thread count: oneDNN fixes the partition when it makes one.
struct Key {
  int64_t m, n, k, lda, ldb, ldc;
  int threads;
  bool trans_a, trans_b, has_bias, packed;
  bool operator==(const Key&) const = default;
};

struct KeyHash {
  size_t operator()(const Key& key) const {
    size_t h = 0;
    for (const int64_t v : {key.m, key.n, key.k, key.lda, key.ldb, key.ldc}) {
      h = h * 0x9e3779b97f4a7c15ULL + std::hash<int64_t>()(v);
    }
    return h * 64 + static_cast<size_t>(key.threads * 16 + key.trans_a * 8 + key.trans_b * 4 +
                                        key.has_bias * 2 + key.packed);
  }
};

dnnl::matmul::primitive_desc make_description(const dnnl::engine& engine, const memory::desc& a,
                                              const memory::desc& b, const memory::desc& bias,
                                              const memory::desc& c) {
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
#if DNNL_VERSION_MAJOR >= 3
  return bias.is_zero() ? dnnl::matmul::primitive_desc(engine, a, b, c, attributes)
                        : dnnl::matmul::primitive_desc(engine, a, b, bias, c, attributes);
#else
  return {bias.is_zero() ? dnnl::matmul::desc(a, b, c) : dnnl::matmul::desc(a, b, bias, c),
          attributes, engine};
#endif
}

memory::desc matrix_desc(int64_t rows, int64_t columns, int64_t leading_dimension,
                         bool transposed) {
  const memory::dims strides =
      transposed ? memory::dims{1, leading_dimension} : memory::dims{leading_dimension, 1};
  return {{rows, columns}, memory::data_type::f32, strides};
}

// A product of one shape, ready to run; the memory objects get their addresses at each call.
class Product {
 public:
  Product(const dnnl::engine& engine, const Key& key) {
    const auto a = matrix_desc(key.m, key.k, key.lda, key.trans_a);
    const auto b = matrix_desc(key.k, key.n, key.ldb, key.trans_b);
    const auto c = matrix_desc(key.m, key.n, key.ldc, false);
    const auto b_wanted =
        key.packed ? memory::desc({key.k, key.n}, memory::data_type::f32, memory::format_tag::any)
                   : b;
    const auto bias = key.has_bias
                          ? memory::desc({1, key.n}, memory::data_type::f32, memory::format_tag::ab)
                          : memory::desc();
    const auto description = make_description(engine, a, b_wanted, bias, c);
    primitive_ = dnnl::matmul(description);
    const auto packed_desc = description.weights_desc();
    needs_packing_ = key.packed && packed_desc != b;
    const auto scratchpad_desc = description.scratchpad_desc();
    scratchpad_bytes_ = static_cast<int64_t>(scratchpad_desc.get_size());
    packed_bytes_ = needs_packing_ ? static_cast<int64_t>(packed_desc.get_size()) : 0;

    const auto empty = [&](const memory::desc& d) { return memory(d, engine, nullptr); };
    arguments_ = {{DNNL_ARG_SRC, empty(a)},
                  {DNNL_ARG_WEIGHTS, empty(packed_desc)},
                  {DNNL_ARG_DST, empty(c)},
                  {DNNL_ARG_SCRATCHPAD, empty(scratchpad_desc)}};
    if (key.has_bias) arguments_.insert({DNNL_ARG_BIAS, empty(bias)});
    if (needs_packing_) {
      const memory from = empty(b);
      const memory to = empty(packed_desc);
      reorder_ = dnnl::reorder(dnnl::reorder::primitive_desc(from, to));
      reorder_arguments_ = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}};
    }
  }

  void run(const dnnl::stream& stream, const float* a, const float* b, const float* bias,
           float* c) {
    const auto padded = [](int64_t bytes) {
      return static_cast<int64_t>(aligned_size(static_cast<size_t>(bytes)));
    };
    std::byte* work =
        scratch(ScratchSlot::matmul, padded(scratchpad_bytes_) + padded(packed_bytes_));
    void* weights = const_cast<float*>(b);
    if (needs_packing_) {
      reorder_arguments_.at(DNNL_ARG_FROM).set_data_handle(weights);
      weights = work + padded(scratchpad_bytes_);
      reorder_arguments_.at(DNNL_ARG_TO).set_data_handle(weights);
      reorder_.execute(stream, reorder_arguments_);
    }
    arguments_.at(DNNL_ARG_SRC).set_data_handle(const_cast<float*>(a));
    arguments_.at(DNNL_ARG_WEIGHTS).set_data_handle(weights);
    arguments_.at(DNNL_ARG_DST).set_data_handle(c);
    arguments_.at(DNNL_ARG_SCRATCHPAD).set_data_handle(work);
    if (bias != nullptr) arguments_.at(DNNL_ARG_BIAS).set_data_handle(const_cast<float*>(bias));
    primitive_.execute(stream, arguments_);
  }

 private:
  dnnl::matmul primitive_;
  dnnl::reorder reorder_;
  std::unordered_map<int, memory> arguments_, reorder_arguments_;
  int64_t scratchpad_bytes_ = 0;
  int64_t packed_bytes_ = 0;
  bool needs_packing_ = false;
};

// Making a primitive costs 0.05-0.3 ms, a small product less: they are made once a shape.
class ProductCache {
 public:
  void run(const Key& key, const float* a, const float* b, const float* bias, float* c) {
    const std::lock_guard lock(mutex_);
    auto& product = products_[key];
    if (!product) product = std::make_unique<Product>(engine_, key);
    product->run(stream_, a, b, bias, c);
    stream_.wait();
  }

 private:
  std::mutex mutex_;
  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream_{engine_};
  std::unordered_map<Key, std::unique_ptr<Product>, KeyHash> products_;
};

bool has_avx512() {
  static const bool result = [] {
    const auto isa = static_cast<unsigned>(dnnl::get_effective_cpu_isa());
    const auto wanted = static_cast<unsigned>(dnnl::cpu_isa::avx512_core);
    return (isa & wanted) == wanted;
  }();
  return result;
}

// Measured on oneDNN 2.6.3: with AVX-512 packing the right operand pays from a few hundred rows on,
// and plain operands beat dnnl_sgemm at small depth. Below AVX-512 all of them end in the same jit
// gemm.
MatmulPath choose_path(int64_t m, bool accumulate, bool trans_a) {
  if (accumulate || trans_a || !has_avx512()) return MatmulPath::sgemm;
  return m >= 256 ? MatmulPath::packed : MatmulPath::plain;
}

void run_sgemm(const Key& key, const float* a, const float* b, bool accumulate, const float* bias,
               float* c) {
  if (bias != nullptr) {
    parallel_ranges(key.m, std::max<int64_t>(1, 16384 / key.n), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        std::memcpy(c + i * key.ldc, bias, static_cast<size_t>(key.n) * sizeof(float));
      }
    });
  }
  const float beta = accumulate || bias != nullptr ? 1.0F : 0.0F;
  const dnnl_status_t status =
      dnnl_sgemm(key.trans_a ? 'T' : 'N', key.trans_b ? 'T' : 'N', key.m, key.n, key.k, 1.0F, a,
                 key.lda, b, key.ldb, beta, c, key.ldc);
  check_internal(status == dnnl_success, "dnnl_sgemm failed with status ",
                 static_cast<int>(status));
}

void multiply(const Key& key, const float* a, const float* b, bool accumulate, const float* bias,
              float* c, MatmulPath path) {
  static ProductCache cache;
  if (path == MatmulPath::automatic) path = choose_path(key.m, accumulate, key.trans_a);
  if (path == MatmulPath::sgemm) {
    run_sgemm(key, a, b, accumulate, bias, c);
    return;
  }
  check(!accumulate, "[matmul] only the sgemm path accumulates");
  Key cached = key;
  cached.packed = path == MatmulPath::packed;
  cache.run(cached, a, b, bias, c);
}

// One row of the float64 product; the operands' contiguous direction is the inner loop.
void multiply_row(const Key& key, int64_t i, const double* a, const double* b, double* row) {
  const int64_t a_step = key.trans_a ? key.lda : 1;
  const double* a_row = key.trans_a ? a + i : a + i * key.lda;
  if (key.trans_b) {
    for (int64_t j = 0; j < key.n; ++j) {
      const double* b_row = b + j * key.ldb;
      double sum = 0.0;
#pragma omp simd reduction(+ : sum)
      for (int64_t l = 0; l < key.k; ++l) sum += a_row[l * a_step] * b_row[l];
      row[j] += sum;
    }
    return;
  }
  for (int64_t l = 0; l < key.k; ++l) {
    const double x = a_row[l * a_step];
    const double* b_row = b + l * key.ldb;
    for (int64_t j = 0; j < key.n; ++j) row[j] += x * b_row[j];
  }
}

void multiply(const Key& key, const double* a, const double* b, bool accumulate, const double* bias,
              double* c, MatmulPath) {
  const int64_t rows_worth_a_thread =
      std::max<int64_t>(1, 32768 / std::max<int64_t>(1, key.n * key.k));
  parallel_ranges(key.m, rows_worth_a_thread, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      double* row = c + i * key.ldc;
      for (int64_t j = 0; j < key.n && !accumulate; ++j) row[j] = bias != nullptr ? bias[j] : 0.0;
      multiply_row(key, i, a, b, row);
    }
  });
}

}  // namespace

template <class T>
void matmul(int64_t m, int64_t n, int64_t k, Matrix<const T> a, Matrix<const T> b, bool accumulate,
            Matrix<T> c, const T* bias, MatmulPath path) {
  check(!(accumulate && bias != nullptr), "[matmul] a bias cannot be added while accumulating");
  check(!c.transposed, "[matmul] the result cannot be transposed");
  if (m == 0 || n == 0) return;
  check(k > 0, "[matmul] the depth is ", k, "; expected at least 1");
  const Key key{m,
                n,
                k,
                a.leading_dimension,
                b.leading_dimension,
                c.leading_dimension,
                n_threads(),
                a.transposed,
                b.transposed,
                bias != nullptr,
                false};
  multiply(key, a.data, b.data, accumulate, bias, c.data, path);
}

template void matmul(int64_t, int64_t, int64_t, Matrix<const float>, Matrix<const float>, bool,
                     Matrix<float>, const float*, MatmulPath);
template void matmul(int64_t, int64_t, int64_t, Matrix<const double>, Matrix<const double>, bool,
                     Matrix<double>, const double*, MatmulPath);

std::string matmul_backend() {
  const dnnl_version_t* v = dnnl_version();
  return concat("oneDNN ", v->major, '.', v->minor, '.', v->patch,
                has_avx512() ? ", AVX-512" : ", AVX2 or less");
}

}  // namespace ballast
