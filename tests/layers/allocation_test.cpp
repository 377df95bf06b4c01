// Counts what our own code allocates in a training step. A binary of its own: it replaces operator
// new and aligned_alloc, and (with the linker's --wrap) knows when matmul runs, inside which oneDNN
// allocates as it likes.
#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>

#include "core/matmul.h"
#include "core/scratch.h"
#include "optim/clip.h"
#include "optim/grad_norm.h"
#include "optim/optimizer.h"
#include "tests/layers/support.h"
#include "tests/support/catch.h"
#include "tests/support/threads.h"

namespace {

std::atomic<int64_t> n_allocations{0};
std::atomic<bool> in_matmul{false};  // oneDNN's worker threads allocate too

void count_allocation() {
  if (!in_matmul.load(std::memory_order_relaxed)) ++n_allocations;
}

void* allocate(size_t bytes, size_t alignment) {
  void* p = nullptr;
  if (posix_memalign(&p, std::max(alignment, sizeof(void*)), bytes == 0 ? 1 : bytes) != 0) {
    return nullptr;
  }
  return p;
}

void* counted_new(size_t bytes, size_t alignment) {
  count_allocation();
  if (void* p = allocate(bytes, alignment)) return p;
  throw std::bad_alloc();
}

}  // namespace

void* operator new(size_t bytes) {
  return counted_new(bytes, alignof(std::max_align_t));
}
void* operator new[](size_t bytes) {
  return counted_new(bytes, alignof(std::max_align_t));
}
void* operator new(size_t bytes, std::align_val_t alignment) {
  return counted_new(bytes, static_cast<size_t>(alignment));
}
void* operator new[](size_t bytes, std::align_val_t alignment) {
  return counted_new(bytes, static_cast<size_t>(alignment));
}
void* operator new(size_t bytes, const std::nothrow_t&) noexcept {
  count_allocation();
  return allocate(bytes, alignof(std::max_align_t));
}
void* operator new[](size_t bytes, const std::nothrow_t&) noexcept {
  count_allocation();
  return allocate(bytes, alignof(std::max_align_t));
}
void operator delete(void* p) noexcept {
  std::free(p);
}
void operator delete[](void* p) noexcept {
  std::free(p);
}
void operator delete(void* p, size_t) noexcept {
  std::free(p);
}
void operator delete[](void* p, size_t) noexcept {
  std::free(p);
}
void operator delete(void* p, const std::nothrow_t&) noexcept {
  std::free(p);
}
void operator delete[](void* p, const std::nothrow_t&) noexcept {
  std::free(p);
}
void operator delete(void* p, std::align_val_t) noexcept {
  std::free(p);
}
void operator delete[](void* p, std::align_val_t) noexcept {
  std::free(p);
}
void operator delete(void* p, size_t, std::align_val_t) noexcept {
  std::free(p);
}
void operator delete[](void* p, size_t, std::align_val_t) noexcept {
  std::free(p);
}

extern "C" void* aligned_alloc(size_t alignment, size_t bytes) noexcept {
  count_allocation();
  return allocate(bytes, alignment);
}

namespace ballast::test {

// ld's --wrap=<symbol> sends calls of <symbol> to __wrap_<symbol>; __real_<symbol> is the original.
void real_matmul(int64_t m, int64_t n, int64_t k, Matrix<const float> a, Matrix<const float> b,
                 bool accumulate, Matrix<float> c, const float* bias,
                 MatmulPath path) asm("__real_" BALLAST_MATMUL_F32);
void wrapped_matmul(int64_t m, int64_t n, int64_t k, Matrix<const float> a, Matrix<const float> b,
                    bool accumulate, Matrix<float> c, const float* bias,
                    MatmulPath path) asm("__wrap_" BALLAST_MATMUL_F32);

namespace {
int64_t n_products = 0;
}

void wrapped_matmul(int64_t m, int64_t n, int64_t k, Matrix<const float> a, Matrix<const float> b,
                    bool accumulate, Matrix<float> c, const float* bias, MatmulPath path) {
  ++n_products;
  in_matmul = true;
  real_matmul(m, n, k, a, b, accumulate, c, bias, path);
  in_matmul = false;
}

namespace {

// Two micro-batches, norms, clipping and an update that measures itself, as the training loop has
// them.
class Training {
 public:
  Training(const ModelConfig& config, Dtype dtype, OptimizerKind kind = OptimizerKind::adamw)
      : model_(config, dtype),
        tape_(dtype),
        norms_(model_.store),
        optimizer_(make_optimizer(config_of(kind), model_.store)) {
    for (int step = 0; step < 6; ++step) {
      batches_.push_back(
          random_batch(4, *config.max_seq_len, *config.vocab_size, static_cast<uint64_t>(step)));
    }
  }

  void step(int64_t step) {
    const TokenBatch& batch = batches_[static_cast<size_t>(step)];
    ForwardContext context;
    context.training = true;
    context.step = step;
    model_.store.begin_gradients();
    for (int64_t row = 0; row < 4; row += 2) {
      context.first_row = row;
      tape_.reset();
      const LmLoss loss = model_.model.loss(tape_, batch.view(row, row + 2),
                                            batch.targets.data() + row * batch.length,
                                            {.z_loss = 1e-4, .denominator = batch.size()}, context);
      tape_.backward(loss.total);
    }
    model_.store.finish_gradients();
    norms_.measure();
    optimizer_->step(1e-3, clip_scale({}, norms_.global()), &update_norms_);
  }

  static OptimConfig config_of(OptimizerKind kind) {
    OptimConfig c;
    c.kind = kind;
    return c;
  }

  std::vector<int64_t> memory() const {
    return {tape_.arena_bytes(), tape_.pool_bytes(), scratch_bytes()};
  }

 private:
  TestModel model_;
  Tape tape_;
  GradNorm norms_;
  std::unique_ptr<Optimizer> optimizer_;
  UpdateNorms update_norms_;
  std::vector<TokenBatch> batches_;
};

ModelConfig with_dropout(ModelConfig c) {
  c.d_model *= 4;
  c.max_seq_len = 80;  // more than a tile of attention
  c.dropout = {0.1, 0.1, 0.1};
  c.norm.embedding = true;
  return c;
}

// The kernels with memory of their own: gradients of biases and sinks, head norms, caps.
ModelConfig t5_and_windows() {
  ModelConfig c = with_dropout(llama_style());
  c.norm.kind = NormKind::layernorm;
  c.norm.placement = NormPlacement::sandwich;
  c.position.kind = PositionKind::t5;
  c.attention.qk_norm = QkNorm::per_head_separate;
  c.attention.v_norm = true;
  c.attention.softcap = 10.0;
  c.attention.pattern = {LayerKind::local, LayerKind::full};
  c.attention.window = 20;
  c.attention.sink = SinkKind::learned;
  c.head.softcap = 20.0;
  return c;
}

ModelConfig parallel_and_scales() {
  ModelConfig c = with_dropout(gpt2_style());
  c.norm.kind = NormKind::dyt;
  c.norm.placement = NormPlacement::output;
  c.block.topology = BlockTopology::parallel;
  c.block.layer_scale = 0.5;
  c.block.residual_scale = ResidualScale::depth;
  c.bias.qkv = false;
  c.position.kind = PositionKind::sinusoidal;
  c.attention.nope_temperature = 0.1;
  c.attention.nope_temperature_floor = 8;
  c.embedding.scale = EmbeddingScale::sqrt_d;
  c.head.scale = 0.5;
  return c;
}

}  // namespace

TEST_CASE("the counter of allocations counts", "[layers][allocation]") {
  int64_t before = n_allocations;
  const auto number = std::make_unique<int>(3);
  CHECK(n_allocations - before == 1);
  before = n_allocations;
  const AlignedBytes bytes = allocate_aligned(1000);
  CHECK(n_allocations - before == 1);
  before = n_allocations;
  const std::string text(100, 'x');  // libstdc++'s own code
  CHECK(n_allocations - before == 1);
}

TEST_CASE("after the second step forward, backward, clipping and update allocate nothing",
          "[layers][allocation]") {
  const ModelConfig config = GENERATE(with_dropout(llama_style()), with_dropout(gpt2_style()),
                                      t5_and_windows(), parallel_and_scales());
  const Dtype dtype = GENERATE(Dtype::f32, Dtype::f64);
  const WithThreads with(GENERATE(1, 2));
  Training training(config, dtype);
  training.step(0);
  training.step(1);
  const std::vector<int64_t> memory = training.memory();
  const int64_t products = n_products;
  const int64_t allocations = n_allocations;
  for (int64_t step = 2; step < 6; ++step) training.step(step);
  const int64_t allocated = n_allocations - allocations;  // before Catch2 allocates
  CHECK(allocated == 0);
  CHECK((n_products > products) == (dtype == Dtype::f32));  // the linker did wrap them
  CHECK(training.memory() == memory);
}

TEST_CASE("no optimiser allocates after its second step", "[layers][allocation]") {
  for (const auto& row : variant_rows<OptimizerKind>()) {
    CAPTURE(row.name);
    const WithThreads with(2);
    Training training(llama_style(), Dtype::f32, row.kind);
    training.step(0);
    training.step(1);
    const int64_t allocations = n_allocations;
    for (int64_t step = 2; step < 6; ++step) training.step(step);
    const int64_t allocated = n_allocations - allocations;  // before Catch2 allocates
    CHECK(allocated == 0);
  }
}

}  // namespace ballast::test
