#include "core/kernels/attention.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/error.h"
#include "core/kernels/activation.h"
#include "core/kernels/philox_lanes.h"
#include "core/kernels/rows.h"
#include "core/kernels/tile.h"
#include "core/kernels/vec_math.h"
#include "core/parallel.h"
#include "core/random.h"
#include "core/scratch.h"

// Inside a tile, `offset` is the number of the last key of the tile that query 0 of the tile sees:
// query i of the tile sees the keys c <= offset + i, in local layers from Seen::first(i) on. Tiles
// of keys begin at multiples of kTile.

namespace ballast {

namespace {

using tile::Depth;
using tile::kPanel;
using tile::multiply;
using tile::padded;

constexpr int64_t kTile = 64;
// Query tiles that share one copy of a key tile: their sums stay in the second-level cache.
constexpr int64_t kMaxUnits = 4;

int64_t tiles(int64_t n) {
  return (n + kTile - 1) / kTile;
}

// One call's arguments with the arithmetic on them.
template <class T>
struct Problem {
  AttentionShape shape;
  AttentionLogits<T> logits;
  AttentionDropout dropout;
  const T *q, *k, *v;

  int64_t kv_row(int64_t b, int64_t t) const {
    if (shape.ring > 0) return b * shape.ring + t % shape.ring;
    return b * (shape.kv_rows == 0 ? shape.Tk : shape.kv_rows) + t;
  }
  int64_t q_at(int64_t b, int64_t h, int64_t i) const {
    return (b * shape.Tq + i) * shape.q_stride + h * shape.hd;
  }
  int64_t o_at(int64_t b, int64_t h, int64_t i) const {
    return (b * shape.Tq + i) * shape.o_stride + h * shape.hd;
  }
  int64_t k_at(int64_t b, int64_t kv, int64_t j) const {
    return kv_row(b, j) * shape.k_stride + kv * shape.hd;
  }
  int64_t v_at(int64_t b, int64_t kv, int64_t j) const {
    return kv_row(b, j) * shape.v_stride + kv * shape.hd;
  }
  int64_t row_at(int64_t b, int64_t h, int64_t i) const { return (b * shape.H + h) * shape.Tq + i; }
  /// The query heads of kv head `kv` are [first_head(kv), first_head(kv + 1)).
  int64_t first_head(int64_t kv) const { return (kv * shape.H + shape.K - 1) / shape.K; }
  int64_t most_heads() const { return (shape.H + shape.K - 1) / shape.K; }
  T scale() const { return static_cast<T>(shape.scale); }
  T kept() const { return static_cast<T>(1.0 / (1.0 - dropout.rate)); }
  /// The first tile of keys that a query of the tile from i0 on sees.
  int64_t first_key_tile(int64_t i0) const { return shape.first_key(shape.q_offset + i0) / kTile; }
};

template <class T>
void check_arguments(const AttentionShape& s, const AttentionLogits<T>& logits,
                     const AttentionDropout& dropout) {
  check(s.B > 0 && s.Tq > 0 && s.H > 0 && s.hd > 0, "[causal_attention] empty shape: B = ", s.B,
        ", T = ", s.Tq, ", H = ", s.H, ", head_dim = ", s.hd);
  check(s.K > 0 && s.K <= s.H, "[causal_attention] ", s.K, " key/value heads for ", s.H,
        " query heads; expected 1 to ", s.H);
  check(s.q_offset >= 0 && s.q_offset + s.Tq <= s.Tk, "[causal_attention] queries ", s.q_offset,
        " to ", s.q_offset + s.Tq - 1, " do not all have their own key among ", s.Tk);
  check(s.kv_rows == 0 || s.kv_rows >= s.Tk, "[causal_attention] kv_rows is ", s.kv_rows,
        " but there are ", s.Tk, " keys");
  check(dropout.rate >= 0.0 && dropout.rate < 1.0, "[causal_attention] dropout rate is ",
        dropout.rate, "; expected at least 0 and less than 1");
  check(s.window >= 0, "[causal_attention] the window is ", s.window, "; expected at least 0");
  const int64_t last = s.q_offset + s.Tq - 1;
  const int64_t seen = last + 1 - s.first_key(s.q_offset);
  check(s.ring == 0 || s.ring >= seen, "[causal_attention] a ring of ", s.ring, " rows for ", seen,
        " keys");
  check(s.ring == 0 || dropout.rate == 0.0, "[causal_attention] dropout over a ring");
  check(logits.softcap >= 0.0, "[causal_attention] softcap is ", logits.softcap,
        "; expected at least 0");
  const int64_t distances = s.window == 0 ? last + 1 : std::min(last + 1, s.window);
  check(logits.distance_bias == nullptr || logits.n_distances >= distances,
        "[causal_attention] a bias of ", logits.n_distances, " distances for ", distances);
}

// ------------------------------------------------------------------------------------ visibility

/// Which keys of a tile the queries of a tile see: query i those from first(i) to offset + i. Only
/// tiles on the edge of a window are cut; first() is 0 in all others.
class Seen {
 public:
  Seen(const AttentionShape& shape, int64_t i0, int64_t j0) {
    const int64_t position = shape.q_offset + i0;
    offset = position - j0;
    is_cut = shape.first_key(position + kTile - 1) > j0;
    if (!is_cut) return;
    int64_t first_key = shape.first_key(position);
    for (int64_t i = 0; i < kTile; ++i) {
      const int64_t keys = position + i - first_key + 1;
      if (keys > shape.window) first_key += shape.local == LocalKind::chunk ? shape.window : 1;
      first_[i] = std::max<int64_t>(0, first_key - j0);
    }
    for (int64_t c = 0, i = 0; c < kTile; ++c) {
      while (i < kTile && first_[i] <= c) ++i;
      queries_[c] = i;
    }
  }

  int64_t offset;
  bool is_cut;

  int64_t first(int64_t i) const { return is_cut ? first_[i] : 0; }
  /// The tile's `queries` queries that see one of its keys.
  bool any(int64_t queries) const { return offset + queries > 0 && first(0) < kTile; }
  /// The queries that see a key of [c, c + rows).
  Depth queries_of(int64_t c, int64_t rows, int64_t queries) const {
    return {std::max<int64_t>(0, c - offset),
            is_cut ? std::min(queries, queries_[c + rows - 1]) : queries};
  }
  /// Whether a query of [i, i + queries) sees a key of [c, c + keys).
  bool meet(int64_t i, int64_t queries, int64_t c, int64_t keys) const {
    return c < offset + i + queries && c + keys > first(i);
  }

 private:
  int64_t first_[kTile];    // of each query
  int64_t queries_[kTile];  // of each key: the queries before this one have reached it or are past
};

// ----------------------------------------------------------------------------------------- logits

/// The biases of one tile of one head: those of the distances from offset - kTile + 1 on, 0 where
/// there is none (such keys are masked).
template <class T>
struct TileBias {
  T values[2 * kTile];

  /// element of query i and key c: along_queries()[i - c + kTile - 1]
  const T* along_queries(const AttentionLogits<T>& logits, int64_t h, int64_t offset) {
    const int64_t first = offset - (kTile - 1);
    const int64_t begin = std::clamp<int64_t>(-first, 0, 2 * kTile);
    const int64_t end = std::clamp<int64_t>(logits.n_distances - first, begin, 2 * kTile);
    std::fill(values, values + begin, T{0});
    std::copy_n(logits.distance_bias + h * logits.n_distances + first + begin, end - begin,
                values + begin);
    std::fill(values + end, values + 2 * kTile, T{0});
    return values;
  }
  /// element of query i and key c: along_keys()[c - i + kTile - 1]
  const T* along_keys(const AttentionLogits<T>& logits, int64_t h, int64_t offset) {
    along_queries(logits, h, offset);
    std::reverse(values, values + 2 * kTile - 1);
    return values;
  }
};

enum class BiasSite { none, before_cap, after_cap };

/// logits (n): the scaled products on entry. slope (n), if kSlope: the cap's derivative, 0 outside
/// [begin, end).
template <bool kCap, BiasSite kBias, bool kSlope, class T>
void change_logits(int64_t n, T cap, const T* bias, T* __restrict logits, int64_t begin,
                   int64_t end, T* __restrict slope) {
  const T inverse = kCap ? T{1} / cap : T{0};
#pragma omp simd
  for (int64_t x = 0; x < n; ++x) {
    T logit = logits[x];
    if constexpr (kBias == BiasSite::before_cap) logit += bias[x];
    if constexpr (kCap) {
      const auto [t, derivative] = Tanh::both(logit * inverse);
      if constexpr (kSlope) slope[x] = x >= begin && x < end ? derivative : T{0};
      logit = cap * t;
    }
    if constexpr (kBias == BiasSite::after_cap) logit += bias[x];
    logits[x] = logit;
  }
}

/// Calls fn.operator()<kCap, kBias>() for what these logits need.
template <class T, class F>
void with_changes(const AttentionLogits<T>& logits, F&& fn) {
  const bool has_bias = logits.distance_bias != nullptr;
  if (logits.softcap == 0.0) {
    if (has_bias) fn.template operator()<false, BiasSite::after_cap>();
  } else if (!has_bias) {
    fn.template operator()<true, BiasSite::none>();
  } else if (logits.bias_before_cap) {
    fn.template operator()<true, BiasSite::before_cap>();
  } else {
    fn.template operator()<true, BiasSite::after_cap>();
  }
}

/// A row's softmax after the sink's term has joined it.
template <class T>
struct Denominator {
  T lse;
  T factor;  ///< of the weighted sum of v
};

template <class T>
Denominator<T> denominator(const AttentionLogits<T>& logits, int64_t h, T top, T total) {
  if (!logits.has_sink) return {top + std::log(total), T{1} / total};
  const T sink = logits.sink == nullptr ? T{0} : logits.sink[h];
  const T higher = sink > top ? sink : top;
  const T weight = vec::exp(top - higher);
  const T all = total * weight + vec::exp(sink - higher);
  return {higher + std::log(all), weight / all};
}

// ------------------------------------------------------------------------------------- operands

/// Heads are short pieces of long rows: too scattered for the hardware to fetch ahead.
template <class T>
void prefetch_row(const T* row, int64_t hd) {
  constexpr int64_t kLine = 64 / static_cast<int64_t>(sizeof(T));
  for (int64_t d = 0; d < hd; d += kLine) __builtin_prefetch(row + d);
}
constexpr int64_t kRowsAhead = 8;

/// to (rows, padded(hd)) = scale * from, zero beyond hd.
template <class T>
void copy_rows(const T* from, int64_t stride, int64_t rows, int64_t hd, T scale, T* to) {
  for (int64_t r = 0; r < rows; ++r) {
    const T* row = from + r * stride;
    if (r + kRowsAhead < rows) prefetch_row(row + kRowsAhead * stride, hd);
#pragma omp simd
    for (int64_t d = 0; d < hd; ++d) to[d] = row[d] * scale;
    std::fill(to + hd, to + padded<T>(hd), T{0});
    to += padded<T>(hd);
  }
}

/// to (4, 4; rows kTile apart) = scale * transpose of from.
template <class T>
void transpose_4x4(const T* from, int64_t stride, T scale, T* to) {
  typedef T Vec __attribute__((vector_size(4 * sizeof(T)), aligned(alignof(T)), may_alias));
  Vec row[4];
  for (int64_t x = 0; x < 4; ++x) row[x] = *reinterpret_cast<const Vec*>(from + x * stride) * scale;
  const Vec low01 = __builtin_shufflevector(row[0], row[1], 0, 4, 1, 5);
  const Vec high01 = __builtin_shufflevector(row[0], row[1], 2, 6, 3, 7);
  const Vec low23 = __builtin_shufflevector(row[2], row[3], 0, 4, 1, 5);
  const Vec high23 = __builtin_shufflevector(row[2], row[3], 2, 6, 3, 7);
  const auto put = [to](int64_t x, Vec column) {
    *reinterpret_cast<Vec*>(to + x * kTile) = column;
  };
  put(0, __builtin_shufflevector(low01, low23, 0, 1, 4, 5));
  put(1, __builtin_shufflevector(low01, low23, 2, 3, 6, 7));
  put(2, __builtin_shufflevector(high01, high23, 0, 1, 4, 5));
  put(3, __builtin_shufflevector(high01, high23, 2, 3, 6, 7));
}

/// to (hd, kTile) = scale * transpose of from, zero beyond `rows`.
template <class T>
void copy_transposed(const T* from, int64_t stride, int64_t rows, int64_t hd, T scale, T* to) {
  int64_t r = 0;
  for (; r + 4 <= rows; r += 4) {
    const T* row = from + r * stride;
    for (int64_t x = kRowsAhead; x < kRowsAhead + 4 && r + x < rows; ++x) {
      prefetch_row(row + x * stride, hd);
    }
    int64_t d = 0;
    for (; d + 4 <= hd; d += 4) transpose_4x4(row + d, stride, scale, to + d * kTile + r);
    for (; d < hd; ++d) {
      for (int64_t x = 0; x < 4; ++x) to[d * kTile + r + x] = row[x * stride + d] * scale;
    }
  }
  for (; r < kTile; ++r) {
    for (int64_t d = 0; d < hd; ++d) {
      to[d * kTile + r] = r < rows ? from[r * stride + d] * scale : T{0};
    }
  }
}

template <class T>
T dot(const T* a, const T* b, int64_t n) {
  T sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

// -------------------------------------------------------------------------------------- dropout

// One Philox block serves the four keys c, c + 16, c + 32, c + 48 of a tile: vectors of
// neighbouring keys and vectors of neighbouring queries both load and store contiguously.
constexpr int64_t kKeysApart = kTile / 4;

struct Mask {
  uint64_t key, stream;
  uint32_t threshold;

  Mask(const AttentionDropout& dropout, int64_t H, int64_t b, int64_t h)
      : key(dropout.key),
        stream(static_cast<uint64_t>((dropout.first_row + b) * H + h)),
        threshold(static_cast<uint32_t>(std::min(dropout.rate * 0x1p32, 0x1p32 - 1.0))) {}

  /// The low half of the counter counts groups of keys, the high half is the query.
  static uint32_t group(int64_t j0, int64_t c) {
    return static_cast<uint32_t>(j0 / kTile * kKeysApart + c);
  }
};

template <size_t N>
using Words = std::array<std::array<uint32_t, N>, 4>;

/// p (keys, queries) *= kept / (1 - rate)
template <class T>
void drop_columns(const Mask& mask, int64_t i0, int64_t j0, T factor, T* p) {
  Words<kTile> words;
  for (int64_t c = 0; c < kKeysApart; ++c) {
    words[0].fill(Mask::group(j0, c));
    for (size_t i = 0; i < kTile; ++i)
      words[1][i] = static_cast<uint32_t>(i0) + static_cast<uint32_t>(i);
    philox_lanes(mask.key, mask.stream, words);
    for (size_t w = 0; w < 4; ++w) {
      T* row = p + (static_cast<int64_t>(w) * kKeysApart + c) * kTile;
      const uint32_t* random = words[w].data();
#pragma omp simd
      for (int64_t i = 0; i < kTile; ++i)
        row[i] = random[i] >= mask.threshold ? row[i] * factor : T{0};
    }
  }
}

/// z (kTile) = kept / (1 - rate) for one query and all keys of the tile.
template <class T>
void keep_row(const Mask& mask, int64_t i, int64_t j0, T factor, T* z) {
  Words<kKeysApart> words;
  for (size_t c = 0; c < kKeysApart; ++c)
    words[0][c] = Mask::group(j0, 0) + static_cast<uint32_t>(c);
  words[1].fill(static_cast<uint32_t>(i));
  philox_lanes(mask.key, mask.stream, words);
  for (size_t w = 0; w < 4; ++w) {
    const uint32_t* random = words[w].data();
    T* to = z + static_cast<int64_t>(w) * kKeysApart;
#pragma omp simd
    for (int64_t c = 0; c < kKeysApart; ++c) to[c] = random[c] >= mask.threshold ? factor : T{0};
  }
}

// -------------------------------------------------------------------------------------- forward

/// Running softmax of one tile of queries.
template <class T>
struct Unit {
  int64_t h, i0, queries;
  T *q_transposed, *sums, *top, *total;
};

/// On entry p (keys, queries) holds logits, on return exp(logit - top), 0 where masked. `top` and
/// `total` move on; `shrink` receives what sums made so far must be multiplied with.
/// Queries are lanes, so that no step crosses lanes. A NaN may not win the maximum, but it reaches
/// the total: exp(NaN - top) is NaN.
template <bool kCut, class T>
void softmax_tile(const Seen& seen, int64_t keys, int64_t queries, T* p, T* top, T* total,
                  T* shrink) {
  using S = tile::Simd<T>;
  using Vec = typename S::Vec;
  constexpr int64_t W = kPanel<T>;
  constexpr int64_t L = S::kLanes;
  for (int64_t i = 0; i < queries; i += W) {
    const int64_t all =
        std::clamp<int64_t>(seen.offset + i + 1, 0, keys);  // every query sees these
    const int64_t some = std::clamp<int64_t>(seen.offset + i + W, 0, keys);
    const int64_t begin = kCut ? std::min(seen.first(i), some) : 0;
    T* column = p + i;
    for (int64_t c = all; c < some; ++c) {
      const int64_t first = c - seen.offset - i;
      for (int64_t x = 0; x < first; ++x) {
        column[c * kTile + x] = -std::numeric_limits<T>::infinity();
      }
    }
    if constexpr (kCut) {
      for (int64_t c = begin; c < some; ++c) {
        for (int64_t x = W - 1; x > 0 && seen.first(i + x) > c; --x) {
          column[c * kTile + x] = -std::numeric_limits<T>::infinity();
        }
      }
    }
    Vec high[2] = {S::load(top + i), S::load(top + i + L)};
    for (int64_t c = begin; c < some; ++c) {
      for (int64_t x = 0; x < 2; ++x) {
        const Vec s = S::load(column + c * kTile + x * L);
        high[x] = s > high[x] ? s : high[x];
      }
    }
    T new_top[W];
    S::store(new_top, high[0]);
    S::store(new_top + L, high[1]);
    T origin[W];
    if constexpr (kCut) {  // of a query that sees nothing here, and nothing before: 0
      for (int64_t x = 0; x < W; ++x) {
        origin[x] = new_top[x] == -std::numeric_limits<T>::infinity() ? T{0} : new_top[x];
      }
    } else {
      S::store(origin, high[0]);
      S::store(origin + L, high[1]);
    }
    for (int64_t c = begin; c < some; ++c) {
      T* row = column + c * kTile;
#pragma omp simd
      for (int64_t x = 0; x < W; ++x) row[x] = vec::exp(row[x] - origin[x]);
    }
    Vec sum[2] = {};
    for (int64_t c = begin; c < some; ++c) {
      for (int64_t x = 0; x < 2; ++x) sum[x] += S::load(column + c * kTile + x * L);
    }
    for (int64_t c = 0; c < begin; ++c) std::fill_n(column + c * kTile, W, T{0});
    for (int64_t c = some; c < keys; ++c) std::fill_n(column + c * kTile, W, T{0});
    T tile_total[W];
    S::store(tile_total, sum[0]);
    S::store(tile_total + L, sum[1]);
#pragma omp simd
    for (int64_t x = 0; x < W; ++x) {
      shrink[i + x] = vec::exp(top[i + x] - origin[x]);
      total[i + x] = total[i + x] * shrink[i + x] + tile_total[x];
      top[i + x] = new_top[x];
    }
  }
}

/// p (keys, queries): the scaled products on entry, logits on return.
template <class T>
void change_tile(const AttentionLogits<T>& logits, int64_t h, const Seen& seen, int64_t keys,
                 int64_t queries, T* p) {
  constexpr int64_t W = kPanel<T>;
  with_changes(logits, [&]<bool kCap, BiasSite kBias>() {
    TileBias<T> bias;
    const T* values = nullptr;
    if constexpr (kBias != BiasSite::none) values = bias.along_queries(logits, h, seen.offset);
    for (int64_t i = 0; i < queries; i += W) {
      const int64_t end = std::min(keys, seen.offset + i + W);
      for (int64_t c = seen.first(i); c < end; ++c) {
        const T* row = kBias == BiasSite::none ? nullptr : values + i - c + kTile - 1;
        change_logits<kCap, kBias, false>(W, static_cast<T>(logits.softcap), row, p + c * kTile + i,
                                          0, W, static_cast<T*>(nullptr));
      }
    }
  });
}

/// Largest of the values, NaN if one is NaN: the same for every order of the calls.
template <class T>
void raise(T& shared, T value) {
  std::atomic_ref<T> cell(shared);
  T seen = cell.load(std::memory_order_relaxed);
  while (!(seen >= value) && !std::isnan(seen)) {
    if (cell.compare_exchange_weak(seen, value, std::memory_order_relaxed)) return;
  }
}

template <class T>
void finish(const Problem<T>& problem, int64_t b, const Unit<T>& unit, T* out, T* lse,
            T* max_logit) {
  const int64_t hd = problem.shape.hd;
  T highest = -std::numeric_limits<T>::infinity();
  for (int64_t i = 0; i < unit.queries; ++i) {
    const T total = unit.total[i];
    const auto [lse_row, factor] = denominator(problem.logits, unit.h, unit.top[i], total);
    T* to = out + problem.o_at(b, unit.h, unit.i0 + i);
    const T* from = unit.sums + i * padded<T>(hd);
#pragma omp simd
    for (int64_t d = 0; d < hd; ++d) to[d] = from[d] * factor;
    lse[problem.row_at(b, unit.h, unit.i0 + i)] = lse_row;
    const T row_top = std::isnan(total) ? total : unit.top[i];
    if (!(row_top <= highest) && !std::isnan(highest)) highest = row_top;
  }
  if (max_logit != nullptr) raise(max_logit[b * problem.shape.H + unit.h], highest + T{0});
}

/// Query tiles [first, last) of the heads of kv head `kv`, numbered tile by tile, in a tile head by
/// head. A tile's result does not depend on its company.
template <class T, bool kDropout>
void forward_units(const Problem<T>& problem, int64_t b, int64_t kv, int64_t first, int64_t last,
                   T* out, T* lse, T* max_logit) {
  const AttentionShape& s = problem.shape;
  const int64_t hd = s.hd;
  const int64_t width = padded<T>(hd);
  const int64_t unit_size = (hd + width + 2) * kTile;
  T* memory =
      scratch<T>(ScratchSlot::kernel, kMaxUnits * unit_size + (2 * width + kTile + 1) * kTile);
  Unit<T> units[kMaxUnits];
  const int64_t n_units = last - first;
  const int64_t head = problem.first_head(kv);
  const int64_t n_heads = problem.first_head(kv + 1) - head;
  for (int64_t u = 0; u < n_units; ++u, memory += unit_size) {
    Unit<T>& unit = units[u];
    unit.h = head + (first + u) % n_heads;
    unit.i0 = (first + u) / n_heads * kTile;
    unit.queries = std::min(kTile, s.Tq - unit.i0);
    unit.q_transposed = memory;
    unit.sums = memory + hd * kTile;
    unit.top = unit.sums + width * kTile;
    unit.total = unit.top + kTile;
    copy_transposed(problem.q + problem.q_at(b, unit.h, unit.i0), s.q_stride, unit.queries, hd,
                    problem.scale(), unit.q_transposed);
    std::fill_n(unit.top, kTile, -std::numeric_limits<T>::infinity());
    std::fill_n(unit.total, kTile, T{0});
    if (s.window > 0) std::fill_n(unit.sums, width * kTile, T{0});
  }
  T* k_tile = memory;
  T* v_tile = k_tile + width * kTile;
  T* p = v_tile + width * kTile;
  T* shrink = p + kTile * kTile;

  const int64_t end = s.q_offset + units[n_units - 1].i0 + units[n_units - 1].queries;
  for (int64_t j0 = problem.first_key_tile(units[0].i0) * kTile; j0 < end; j0 += kTile) {
    const int64_t keys = std::min(kTile, s.Tk - j0);
    copy_rows(problem.k + problem.k_at(b, kv, j0), s.k_stride, keys, hd, T{1}, k_tile);
    copy_rows(problem.v + problem.v_at(b, kv, j0), s.v_stride, keys, hd, T{1}, v_tile);
    for (int64_t u = 0; u < n_units; ++u) {
      const Unit<T>& unit = units[u];
      const Seen seen(s, unit.i0, j0);
      if (!seen.any(unit.queries)) continue;
      const int64_t lanes = padded<T>(unit.queries);
      multiply<false>(keys, lanes, k_tile, width, unit.q_transposed, kTile, p, kTile, false,
                      [&](int64_t c, int64_t rows, int64_t i, int64_t queries) {
                        return Depth{0, seen.meet(i, queries, c, rows) ? hd : 0};
                      });
      change_tile(problem.logits, unit.h, seen, keys, lanes, p);
      if (seen.is_cut) {
        softmax_tile<true>(seen, keys, lanes, p, unit.top, unit.total, shrink);
      } else {
        softmax_tile<false>(seen, keys, lanes, p, unit.top, unit.total, shrink);
      }
      if constexpr (kDropout) {
        drop_columns(Mask(problem.dropout, s.H, b, unit.h), unit.i0, j0, problem.kept(), p);
      }
      if (j0 > 0) {
        for (int64_t i = 0; i < unit.queries; ++i) {
          if (shrink[i] == T{1}) continue;
          T* row = unit.sums + i * width;
#pragma omp simd
          for (int64_t d = 0; d < width; ++d) row[d] *= shrink[i];
        }
      }
      multiply<true>(unit.queries, width, p, kTile, v_tile, width, unit.sums, width,
                     j0 > 0 || s.window > 0, [&](int64_t i, int64_t queries, int64_t, int64_t) {
                       return Depth{seen.first(i), std::min(keys, seen.offset + i + queries)};
                     });
    }
  }
  for (int64_t u = 0; u < n_units; ++u) finish(problem, b, units[u], out, lse, max_logit);
}

template <class T, bool kDropout>
void forward_tiled(const Problem<T>& problem, T* out, T* lse, T* max_logit) {
  const AttentionShape& s = problem.shape;
  const int64_t most_units = tiles(s.Tq) * problem.most_heads();
  // Smaller tasks when there are few; the result does not depend on it.
  const int64_t size =
      std::clamp<int64_t>(s.B * s.K * most_units / (4 * n_threads()), 1, kMaxUnits);
  const int64_t tasks = (most_units + size - 1) / size;
  parallel_tasks(tasks * s.B * s.K, [&](int64_t task) {
    const int64_t part = tasks - 1 - task / (s.B * s.K);  // the longest first
    const int64_t b = task % (s.B * s.K) / s.K;
    const int64_t kv = task % s.K;
    const int64_t n_units = tiles(s.Tq) * (problem.first_head(kv + 1) - problem.first_head(kv));
    const int64_t first = part * size;
    const int64_t last = std::min(n_units, first + size);
    if (first < last) forward_units<T, kDropout>(problem, b, kv, first, last, out, lse, max_logit);
  });
}

// ------------------------------------------------------------------------- forward, few queries

// With few queries a tile would be mostly empty and the time is that of reading k and v once. The
// keys are split into blocks of a fixed size, each a task; their results are joined in order.
constexpr int64_t kFewRows = 16;
constexpr int64_t kBlock = 256;

/// logits[j] = scale * q . k_j for `keys` rows of k. Unless v is null, fetches ahead both these
/// rows and those of v, which weigh_rows() reads next.
template <class T>
void dot_rows(const T* q, const T* k, int64_t stride, const T* v, int64_t v_stride, int64_t keys,
              int64_t hd, T scale, T* logits) {
  int64_t j = 0;
  for (; j + 4 <= keys; j += 4) {
    const T* k0 = k + j * stride;
    if (v != nullptr) {
      for (int64_t x = 0; x < 4; ++x) {
        if (j + kRowsAhead + x < keys) prefetch_row(k0 + (kRowsAhead + x) * stride, hd);
        prefetch_row(v + (j + x) * v_stride, hd);
      }
    }
    const T* k1 = k0 + stride;
    const T* k2 = k1 + stride;
    const T* k3 = k2 + stride;
    T s0 = 0, s1 = 0, s2 = 0, s3 = 0;
#pragma omp simd reduction(+ : s0, s1, s2, s3)
    for (int64_t d = 0; d < hd; ++d) {
      s0 += q[d] * k0[d];
      s1 += q[d] * k1[d];
      s2 += q[d] * k2[d];
      s3 += q[d] * k3[d];
    }
    logits[j] = s0 * scale;
    logits[j + 1] = s1 * scale;
    logits[j + 2] = s2 * scale;
    logits[j + 3] = s3 * scale;
  }
  for (; j < keys; ++j) logits[j] = dot(q, k + j * stride, hd) * scale;
}

/// sums (hd) (+)= sum_j p[j] v_j, in strips of columns that stay in registers.
template <class T>
void weigh_rows(const T* p, const T* v, int64_t stride, int64_t keys, int64_t hd, T* sums,
                bool accumulate) {
  constexpr int64_t L = tile::Simd<T>::kLanes;
  const Depth depth{0, keys};
  int64_t d = 0;
  for (; d + 8 * L <= hd; d += 8 * L) {
    tile::detail::micro<1, 8, false>(depth, p, keys, v + d, stride, sums + d, hd, accumulate);
  }
  for (; d + 2 * L <= hd; d += 2 * L) {
    tile::detail::micro<1, 2, false>(depth, p, keys, v + d, stride, sums + d, hd, accumulate);
  }
  for (; d < hd; ++d) {
    T sum = accumulate ? sums[d] : T{0};
    for (int64_t j = 0; j < keys; ++j) sum += p[j] * v[j * stride + d];
    sums[d] = sum;
  }
}

/// p: the scaled products of a query with the keys that are `distance`, distance - 1, … before it
/// on entry, logits on return.
template <class T>
void change_row(const AttentionLogits<T>& logits, int64_t h, int64_t distance, int64_t keys, T* p) {
  with_changes(logits, [&]<bool kCap, BiasSite kBias>() {
    T reversed[kBlock];
    if constexpr (kBias != BiasSite::none) {
      const T* bias = logits.distance_bias + h * logits.n_distances + distance;
      for (int64_t j = 0; j < keys; ++j) reversed[j] = bias[-j];
    }
    change_logits<kCap, kBias, false>(keys, static_cast<T>(logits.softcap), reversed, p, 0, keys,
                                      static_cast<T*>(nullptr));
  });
}

template <class T>
void forward_few(const Problem<T>& problem, T* out, T* lse, T* max_logit) {
  const AttentionShape& s = problem.shape;
  const int64_t first_seen = s.first_key(s.q_offset);
  const int64_t first_block = first_seen / kBlock;
  const int64_t blocks = (s.q_offset + s.Tq + kBlock - 1) / kBlock - first_block;
  const int64_t part_size = s.hd + 2;  // sums, top, total
  T* const parts = scratch<T>(ScratchSlot::kernel, s.B * s.H * s.Tq * blocks * part_size);
  const auto part_of = [&](int64_t row, int64_t block) {
    return parts + (row * blocks + block) * part_size;
  };
  // fn(first, keys) for the keys of [begin, end) that lie in neighbouring rows: the end of the ring
  // is followed by its beginning.
  const auto for_pieces = [&](int64_t begin, int64_t end, auto&& fn) {
    for (int64_t j = begin; j < end;) {
      const int64_t keys = s.ring == 0 ? end - j : std::min(end - j, s.ring - j % s.ring);
      fn(j, keys);
      j += keys;
    }
  };

  const auto run_block = [&](int64_t task) {
    const int64_t block = task % blocks;
    const int64_t kv = task / blocks % s.K;
    const int64_t b = task / blocks / s.K;
    const int64_t j0 = (first_block + block) * kBlock;
    for (int64_t h = problem.first_head(kv); h < problem.first_head(kv + 1); ++h) {
      for (int64_t i = 0; i < s.Tq; ++i) {
        const int64_t position = s.q_offset + i;
        const int64_t begin = std::max(j0, s.first_key(position));
        const int64_t end = std::min(j0 + kBlock, position + 1);
        const int64_t keys = std::max<int64_t>(0, end - begin);
        const bool is_first =
            h == problem.first_head(kv) && i == 0;  // the others find them in cache
        T p[kBlock] = {};
        for_pieces(begin, end, [&](int64_t j, int64_t n) {
          dot_rows(problem.q + problem.q_at(b, h, i), problem.k + problem.k_at(b, kv, j),
                   s.k_stride, is_first ? problem.v + problem.v_at(b, kv, j) : nullptr, s.v_stride,
                   n, s.hd, problem.scale(), p + (j - begin));
        });
        change_row(problem.logits, h, position - begin, keys, p);
        T top = -std::numeric_limits<T>::infinity();
#pragma omp simd reduction(max : top)
        for (int64_t j = 0; j < keys; ++j) top = p[j] > top ? p[j] : top;
        T total = 0;
#pragma omp simd reduction(+ : total)
        for (int64_t j = 0; j < keys; ++j) {
          p[j] = vec::exp(p[j] - top);
          total += p[j];
        }
        T* part = part_of(problem.row_at(b, h, i), block);
        if (keys == 0) std::fill_n(part, s.hd, T{0});
        for_pieces(begin, end, [&](int64_t j, int64_t n) {
          weigh_rows(p + (j - begin), problem.v + problem.v_at(b, kv, j), s.v_stride, n, s.hd, part,
                     j > begin);
        });
        part[s.hd] = top;
        part[s.hd + 1] = total;
      }
    }
  };
  const int64_t tasks = s.B * s.K * blocks;
  constexpr int64_t kWorthThreads = 1 << 15;  // elements of k
  if (s.B * s.K * (s.q_offset + s.Tq - first_seen) * s.hd * s.Tq < kWorthThreads) {
    for (int64_t task = 0; task < tasks; ++task) run_block(task);
  } else {
    parallel_tasks(tasks, run_block);
  }

  for (int64_t row = 0; row < s.B * s.H * s.Tq; ++row) {
    const int64_t i = row % s.Tq;
    const int64_t h = row / s.Tq % s.H;
    const int64_t b = row / s.Tq / s.H;
    T top = -std::numeric_limits<T>::infinity();
    for (int64_t block = 0; block < blocks; ++block) top = std::max(top, part_of(row, block)[s.hd]);
    T* to = out + problem.o_at(b, h, i);
    std::fill_n(to, s.hd, T{0});
    T total = 0;
    for (int64_t block = 0; block < blocks; ++block) {
      const T* part = part_of(row, block);
      const T weight = vec::exp(part[s.hd] - top);
      total += weight * part[s.hd + 1];
#pragma omp simd
      for (int64_t d = 0; d < s.hd; ++d) to[d] += weight * part[d];
    }
    const auto [lse_row, factor] = denominator(problem.logits, h, top, total);
#pragma omp simd
    for (int64_t d = 0; d < s.hd; ++d) to[d] *= factor;
    lse[row] = lse_row;
    if (max_logit != nullptr) {
      raise(max_logit[row / s.Tq], (std::isnan(total) ? total : top) + T{0});
    }
  }
}

// ------------------------------------------------------------------------------------- backward

template <class T>
struct Gradients {
  const T *out, *lse, *dout;
  T *dq, *dk, *dv;
  // Partial sums, or null.
  T* sink_parts = nullptr;  // (B, H, query tiles)
  T* bias_sums = nullptr;   // (B, H, n_diagonals, 2 * kTile)
  T* bias_parts = nullptr;  // (B, H, n_bias_parts, n_diagonals, 2 * kTile), or bias_sums itself
  int64_t n_bias_parts = 1;
  int64_t n_diagonals = 0;

  int64_t bias_size() const { return n_diagonals * 2 * kTile; }
  T* bias_part(int64_t row, int64_t key_tile) const {
    return bias_parts + (row * n_bias_parts + key_tile % n_bias_parts) * bias_size();
  }
};

struct Range {
  int64_t begin, end;
};

/// One query's row of a tile: p holds logits on entry and the weights of do in dv on return, ds
/// holds do . v on entry and dL/dlogit on return. Both are 0 for the keys outside [begin, end).
template <bool kDropout, bool kMasked, class T>
void softmax_row_backward(int64_t begin, int64_t end, T lse, T delta, const T* z, T* __restrict p,
                          T* __restrict ds) {
#pragma omp simd
  for (int64_t c = 0; c < kTile; ++c) {
    const bool is_seen = !kMasked || (c >= begin && c < end);
    const T probability = is_seen ? vec::exp(p[c] - lse) : T{0};
    const T dp = kDropout ? ds[c] * z[c] : ds[c];
    const T gradient = probability * (dp - delta);
    ds[c] = is_seen ? gradient : T{0};  // what is masked was never computed and may be NaN
    p[c] = kDropout ? probability * z[c] : probability;
  }
}

// The gradient of the distance bias: sums along the diagonals of the tiles. Tiles whose queries and
// keys are equally far apart share their diagonals; the sum over them goes from the first key tile
// to the last, and then over the sequences. Key tiles that threads take at the same time have parts
// of their own, which are added in order after a round of them: the bits are those of one thread
// that goes through all, and the memory grows with T, not with its square.

/// The tiles with this offset, counted from 0.
int64_t diagonal_of(int64_t offset) {
  return (offset + kTile) / kTile;
}

/// Sums along the diagonals of one tile.
template <class T>
class DiagonalSums {
 public:
  void clear() { std::fill_n(&rows_[0][0], kApart * kWidth, T{0}); }

  /// Rows that are kApart queries apart shift by whole vectors, so they share a row of sums.
  void add(int64_t i, const T* row) {
    T* to = rows_[i % kApart] + kTile - i / kApart * kApart;
#pragma omp simd
    for (int64_t c = 0; c < kTile; ++c) to[c] += row[c];
  }

  /// to[c - i + kTile - 1] += the sums of that diagonal
  void add_to(T* to) const {
    T sums[2 * kTile] = {};
    for (int64_t r = 0; r < kApart; ++r) {
      const T* row = rows_[r] + 1 + r;
#pragma omp simd
      for (int64_t x = 0; x < 2 * kTile; ++x) sums[x] += row[x];
    }
    for (int64_t x = 0; x < 2 * kTile; ++x) to[x] += sums[x];
  }

 private:
  static constexpr int64_t kApart = 16;
  static constexpr int64_t kWidth = 2 * kTile + kApart;
  T rows_[kApart][kWidth];
};

/// Adds the parts of a round to the sums and clears them for the next.
template <class T>
void add_bias_parts(const Gradients<T>& g, int64_t rows) {
  const int64_t size = g.bias_size();
  parallel_elements(rows * size, [=](int64_t begin, int64_t end) {
    for (int64_t row = begin / size; row * size < end; ++row) {
      const int64_t first = std::max<int64_t>(0, begin - row * size);
      const int64_t last = std::min(size, end - row * size);
      T* const sums = g.bias_sums + row * size;
      for (int64_t i = 0; i < g.n_bias_parts; ++i) {
        T* const part = g.bias_part(row, i);
#pragma omp simd
        for (int64_t x = first; x < last; ++x) sums[x] += part[x];
        std::fill(part + first, part + last, T{0});
      }
    }
  });
}

template <class T>
void join_bias_gradient(const Problem<T>& problem, const Gradients<T>& g, T* dbias, bool adds) {
  const AttentionShape& s = problem.shape;
  const int64_t n = problem.logits.n_distances;
  parallel_tasks(s.H, [&](int64_t h) {
    double* sums = scratch<double>(ScratchSlot::kernel, n);
    std::fill_n(sums, n, 0.0);
    for (int64_t b = 0; b < s.B; ++b) {
      for (int64_t diagonal = 0; diagonal < g.n_diagonals; ++diagonal) {
        const int64_t last = (diagonal - 1) * kTile + s.q_offset % kTile + kTile - 1;
        for (int64_t x = 0; x < 2 * kTile - 1; ++x) {
          const int64_t distance = last - x;
          if (distance < 0 || distance >= n) continue;
          const T* const of_head = g.bias_sums + (b * s.H + h) * g.bias_size();
          sums[distance] += static_cast<double>(of_head[diagonal * 2 * kTile + x]);
        }
      }
    }
    for (int64_t d = 0; d < n; ++d) {
      const T sum = static_cast<T>(sums[d]);
      dbias[h * n + d] = adds ? dbias[h * n + d] + sum : sum;
    }
  });
}

template <class T>
void join_sink_gradient(const AttentionShape& s, const Gradients<T>& g, T* dsink, bool adds) {
  for (int64_t h = 0; h < s.H; ++h) {
    double sum = 0.0;
    for (int64_t b = 0; b < s.B; ++b) {
      const T* parts = g.sink_parts + (b * s.H + h) * tiles(s.Tq);
      for (int64_t part = 0; part < tiles(s.Tq); ++part) sum += static_cast<double>(parts[part]);
    }
    dsink[h] = static_cast<T>(sum) + (adds ? dsink[h] : T{0});
  }
}

/// What one set of tiles gives: heads [heads) of kv head `kv`, query tiles from `query_tiles`, key
/// tiles from `key_tiles`. kKeys: writes dk and dv of the key tiles, kQueries: dq of the query
/// tiles; both orders of summation are those of the loops, whichever way the tiles are split into
/// calls.
template <class T, bool kDropout, bool kKeys, bool kQueries>
void backward_tiles(const Problem<T>& problem, const Gradients<T>& g, int64_t b, int64_t kv,
                    Range heads, Range query_tiles, Range key_tiles) {
  const AttentionShape& s = problem.shape;
  const int64_t hd = s.hd;
  const int64_t width = padded<T>(hd);
  const int64_t area = width * kTile;
  const int64_t rows = query_tiles.end * kTile - query_tiles.begin * kTile;
  T* const memory = scratch<T>(
      ScratchSlot::kernel, 7 * area + (2 * kTile + 1) * kTile + (heads.end - heads.begin) * rows);
  T* const k_transposed = memory;
  T* const v_transposed = k_transposed + area;
  T* const k_scaled = v_transposed + area;
  T* const q_scaled = k_scaled + area;
  T* const do_tile = q_scaled + area;
  T* const dk_tile = do_tile + area;
  T* const dv_tile = dk_tile + area;
  T* const p = dv_tile + area;
  T* const ds = p + kTile * kTile;
  T* const z = ds + kTile * kTile;
  T* const deltas = z + kTile;  // D of the queries; made when their first key tile is met
  const AttentionLogits<T>& logits = problem.logits;
  const bool is_capped = logits.softcap > 0.0;
  const bool sums_bias = kKeys && g.bias_parts != nullptr;
  TileBias<T> bias;
  DiagonalSums<T> diagonals;

  for (int64_t key_tile = key_tiles.begin; key_tile < key_tiles.end; ++key_tile) {
    const int64_t j0 = key_tile * kTile;
    const int64_t keys = std::min(kTile, s.Tk - j0);
    const T* k = problem.k + problem.k_at(b, kv, j0);
    copy_transposed(k, s.k_stride, keys, hd, T{1}, k_transposed);
    copy_transposed(problem.v + problem.v_at(b, kv, j0), s.v_stride, keys, hd, T{1}, v_transposed);
    if constexpr (kQueries) copy_rows(k, s.k_stride, keys, hd, problem.scale(), k_scaled);
    if constexpr (kKeys) std::fill_n(dk_tile, 2 * area, T{0});

    for (int64_t h = heads.begin; h < heads.end; ++h) {
      const Mask mask(problem.dropout, s.H, b, h);
      for (int64_t query_tile = query_tiles.begin; query_tile < query_tiles.end; ++query_tile) {
        const int64_t i0 = query_tile * kTile;
        const int64_t queries = std::min(kTile, s.Tq - i0);
        const Seen seen(s, i0, j0);
        if (!seen.any(queries)) continue;
        const int64_t first_key_tile = problem.first_key_tile(i0);
        const T* dout = g.dout + problem.o_at(b, h, i0);
        copy_rows(problem.q + problem.q_at(b, h, i0), s.q_stride, queries, hd, problem.scale(),
                  q_scaled);
        copy_rows(dout, s.o_stride, queries, hd, T{1}, do_tile);
        T* delta = deltas + (h - heads.begin) * rows + i0 - query_tiles.begin * kTile;
        const T* lse = g.lse + problem.row_at(b, h, i0);
        if (key_tile == std::max(key_tiles.begin, first_key_tile)) {
          const T* out = g.out + problem.o_at(b, h, i0);
          for (int64_t i = 0; i < queries; ++i) {
            delta[i] = dot(dout + i * s.o_stride, out + i * s.o_stride, hd);
          }
          if (kQueries && g.sink_parts != nullptr) {
            const T sink = logits.sink == nullptr ? T{0} : logits.sink[h];
            T sum = 0;
            for (int64_t i = 0; i < queries; ++i) sum -= vec::exp(sink - lse[i]) * delta[i];
            g.sink_parts[(b * s.H + h) * tiles(s.Tq) + query_tile] = sum;
          }
        }

        const auto if_seen = [&](int64_t i, int64_t n_rows, int64_t c, int64_t columns) {
          return Depth{0, seen.meet(i, n_rows, c, columns) ? hd : 0};
        };
        multiply<false>(queries, padded<T>(keys), q_scaled, width, k_transposed, kTile, p, kTile,
                        false, if_seen);
        multiply<false>(queries, padded<T>(keys), do_tile, width, v_transposed, kTile, ds, kTile,
                        false, if_seen);

        const T* biases = nullptr;
        if (logits.distance_bias != nullptr) biases = bias.along_keys(logits, h, seen.offset);
        if (sums_bias) diagonals.clear();
        for (int64_t i = 0; i < queries; ++i) {
          const int64_t begin = seen.first(i);
          const int64_t end = std::clamp<int64_t>(seen.offset + i + 1, 0, keys);
          T* p_row = p + i * kTile;
          T* ds_row = ds + i * kTile;
          T slope[kTile];
          with_changes(logits, [&]<bool kCap, BiasSite kBias>() {
            const T* row = kBias == BiasSite::none ? nullptr : biases + kTile - 1 - i;
            change_logits<kCap, kBias, kCap>(kTile, static_cast<T>(logits.softcap), row, p_row,
                                             begin, end, slope);
          });
          if constexpr (kDropout) keep_row(mask, i0 + i, j0, problem.kept(), z);
          if (begin == 0 && end == kTile) {
            softmax_row_backward<kDropout, false>(begin, end, lse[i], delta[i], z, p_row, ds_row);
          } else {
            softmax_row_backward<kDropout, true>(begin, end, lse[i], delta[i], z, p_row, ds_row);
          }
          if (sums_bias && !logits.bias_before_cap) diagonals.add(i, ds_row);
          if (is_capped) {
#pragma omp simd
            for (int64_t c = 0; c < kTile; ++c) ds_row[c] *= slope[c];
          }
          if (sums_bias && logits.bias_before_cap) diagonals.add(i, ds_row);
        }
        if (sums_bias) {
          diagonals.add_to(g.bias_part(b * s.H + h, key_tile) +
                           diagonal_of(seen.offset) * 2 * kTile);
        }

        if constexpr (kKeys) {
          const auto seen_by = [&](int64_t c, int64_t n_rows, int64_t, int64_t) {
            return seen.queries_of(c, n_rows, queries);
          };
          multiply<true>(keys, width, p, kTile, do_tile, width, dv_tile, width, true, seen_by);
          multiply<true>(keys, width, ds, kTile, q_scaled, width, dk_tile, width, true, seen_by);
        }
        if constexpr (kQueries) {
          T* dq = g.dq + problem.q_at(b, h, i0);
          if (s.window > 0 && key_tile == first_key_tile) {  // some queries may see none of it
            for (int64_t i = 0; i < queries; ++i) std::fill_n(dq + i * s.q_stride, hd, T{0});
          }
          multiply<false>(queries, hd, ds, kTile, k_scaled, width, dq, s.q_stride,
                          key_tile > 0 || s.window > 0,
                          [&](int64_t i, int64_t n_rows, int64_t, int64_t) {
                            return Depth{seen.first(i), std::min(keys, seen.offset + i + n_rows)};
                          });
        }
      }
    }
    if constexpr (kKeys) {
      for (int64_t c = 0; c < keys; ++c) {
        std::copy_n(dk_tile + c * width, hd, g.dk + problem.k_at(b, kv, j0 + c));
        std::copy_n(dv_tile + c * width, hd, g.dv + problem.v_at(b, kv, j0 + c));
      }
    }
  }
}

template <class T, bool kDropout>
void backward(const Problem<T>& problem, const Gradients<T>& g, bool is_apart) {
  const AttentionShape& s = problem.shape;
  const Range all_queries{0, tiles(s.Tq)};
  const Range all_keys{0, tiles(s.Tk)};
  const int64_t groups = s.B * s.K;
  if (!is_apart) {
    parallel_tasks(groups, [&](int64_t task) {
      const int64_t kv = task % s.K;
      backward_tiles<T, kDropout, true, true>(problem, g, task / s.K, kv,
                                              {problem.first_head(kv), problem.first_head(kv + 1)},
                                              all_queries, all_keys);
    });
    return;
  }
  const int64_t rows = s.B * s.H;
  const int64_t round = g.bias_parts == nullptr ? all_keys.end : g.n_bias_parts;
  for (int64_t first = 0; first < all_keys.end; first += round) {
    parallel_tasks(groups * std::min(round, all_keys.end - first), [&](int64_t task) {
      const int64_t kv = task % s.K;
      const int64_t key_tile = first + task / groups;
      backward_tiles<T, kDropout, true, false>(problem, g, task % groups / s.K, kv,
                                               {problem.first_head(kv), problem.first_head(kv + 1)},
                                               all_queries, {key_tile, key_tile + 1});
    });
    if (g.bias_parts != nullptr) add_bias_parts(g, rows);
  }
  parallel_tasks(rows * all_queries.end, [&](int64_t task) {
    const int64_t h = task % s.H;
    const int64_t query_tile = all_queries.end - 1 - task / rows;
    const int64_t last_query = std::min(s.Tq, (query_tile + 1) * kTile) - 1;
    backward_tiles<T, kDropout, false, true>(
        problem, g, task % rows / s.H, h * s.K / s.H, {h, h + 1}, {query_tile, query_tile + 1},
        {problem.first_key_tile(query_tile * kTile), (s.q_offset + last_query) / kTile + 1});
  });
}

/// Together the three gradients cost five products a tile. Apart, dq by its query tiles and dk, dv
/// by their key tiles, they cost seven but can be shared by more threads. The bits are the same.
bool is_faster_apart(const AttentionShape& s) {
  const int64_t groups = s.B * s.K;
  const int64_t threads = n_threads();
  return 5 * ((groups + threads - 1) / threads) * threads > 7 * groups;
}

/// Key tiles of a round: a thread that ends its share waits for the others, so that shares are of
/// many tiles. 64 of them take as much memory as two tensors like q with heads of 64 channels.
int64_t round_of_key_tiles(const AttentionShape& s) {
  const int64_t shares = 16 * n_threads() / (s.B * s.K);
  return std::min(tiles(s.Tk), std::max<int64_t>(64, shares));
}

}  // namespace

bool attention_keeps(const AttentionDropout& dropout, int64_t H, int64_t b, int64_t h, int64_t i,
                     int64_t j) {
  const Mask mask(dropout, H, b, h);
  const auto words = Philox::block(mask.key, mask.stream,
                                   static_cast<uint64_t>(i) << 32 | Mask::group(j, j % kKeysApart));
  return words[static_cast<size_t>(j % kTile / kKeysApart)] >= mask.threshold;
}

template <class T>
void attention_forward(const AttentionShape& shape, const T* q, const T* k, const T* v, T* out,
                       T* lse, const AttentionLogits<T>& logits, const AttentionDropout& dropout,
                       T* max_logit) {
  check_arguments(shape, logits, dropout);
  const Problem<T> problem{shape, logits, dropout, q, k, v};
  if (max_logit != nullptr) {
    std::fill_n(max_logit, shape.B * shape.H, -std::numeric_limits<T>::infinity());
  }
  if (dropout.rate > 0.0) {
    forward_tiled<T, true>(problem, out, lse, max_logit);
  } else if (shape.ring > 0 || shape.Tq * problem.most_heads() <= kFewRows) {
    forward_few(problem, out, lse, max_logit);
  } else {
    forward_tiled<T, false>(problem, out, lse, max_logit);
  }
}

template <class T>
void attention_backward(const AttentionShape& shape, const T* q, const T* k, const T* v,
                        const T* out, const T* lse, const T* dout, T* dq, T* dk, T* dv,
                        const AttentionLogits<T>& logits, const AttentionDropout& dropout,
                        const AttentionTableGradients<T>& tables) {
  check_arguments(shape, logits, dropout);
  check(shape.ring == 0, "[causal_attention] a ring has no backward");
  check(tables.distance_bias == nullptr || logits.distance_bias != nullptr,
        "[causal_attention] the gradient of a bias that is not there");
  check(tables.sink == nullptr || logits.has_sink,
        "[causal_attention] the gradient of a sink that is not there");
  const Problem<T> problem{shape, logits, dropout, q, k, v};
  const bool is_apart = is_faster_apart(shape);

  Gradients<T> g{out, lse, dout, dq, dk, dv};
  const int64_t rows = shape.B * shape.H;
  int64_t n_bias = 0, n_parts = 0;
  if (tables.distance_bias != nullptr) {
    const int64_t distances =
        shape.window == 0 ? shape.Tk : std::min(shape.Tk, shape.window + kTile - 1);
    g.n_diagonals = diagonal_of(distances - 1) + 1;
    g.n_bias_parts = is_apart ? round_of_key_tiles(shape) : 1;
    n_bias = rows * g.bias_size();
    n_parts = is_apart ? n_bias * g.n_bias_parts : 0;
  }
  const int64_t n_sink = tables.sink == nullptr ? 0 : rows * tiles(shape.Tq);
  if (n_bias + n_sink > 0) {
    T* const sums = scratch<T>(ScratchSlot::node, n_bias + n_parts + n_sink);
    parallel_elements(n_bias + n_parts, [=](int64_t begin, int64_t end) {
      std::fill(sums + begin, sums + end, T{0});
    });
    if (n_bias > 0) g.bias_sums = sums;
    if (n_bias > 0) g.bias_parts = sums + (is_apart ? n_bias : 0);
    if (n_sink > 0) g.sink_parts = sums + n_bias + n_parts;
  }
  if (dropout.rate > 0.0) {
    backward<T, true>(problem, g, is_apart);
  } else {
    backward<T, false>(problem, g, is_apart);
  }
  if (n_bias > 0) join_bias_gradient(problem, g, tables.distance_bias, tables.adds_to_bias);
  if (n_sink > 0) join_sink_gradient(shape, g, tables.sink, tables.adds_to_sink);
}

template void attention_forward(const AttentionShape&, const float*, const float*, const float*,
                                float*, float*, const AttentionLogits<float>&,
                                const AttentionDropout&, float*);
template void attention_forward(const AttentionShape&, const double*, const double*, const double*,
                                double*, double*, const AttentionLogits<double>&,
                                const AttentionDropout&, double*);
template void attention_backward(const AttentionShape&, const float*, const float*, const float*,
                                 const float*, const float*, const float*, float*, float*, float*,
                                 const AttentionLogits<float>&, const AttentionDropout&,
                                 const AttentionTableGradients<float>&);
template void attention_backward(const AttentionShape&, const double*, const double*, const double*,
                                 const double*, const double*, const double*, double*, double*,
                                 double*, const AttentionLogits<double>&, const AttentionDropout&,
                                 const AttentionTableGradients<double>&);

}  // namespace ballast
