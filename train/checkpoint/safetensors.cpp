#include "train/checkpoint/safetensors.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <set>

#include "train/files/json.h"
#include "train/files/printable.h"

namespace ballast {

namespace fs = std::filesystem;

static_assert(std::endian::native == std::endian::little, "safetensors files are little-endian");

namespace {

constexpr int64_t kPrefix = 8;
constexpr int64_t kMaxHeader = 100'000'000;  // the reference reader's cap
constexpr size_t kPiece = size_t{1} << 18;   // elements converted or looked at in one go

struct TypeRow {
  StoredType type;
  std::string_view name;
  int64_t size;
};
constexpr TypeRow kTypes[] = {
    {StoredType::F64, "F64", 8},   {StoredType::I64, "I64", 8},   {StoredType::U64, "U64", 8},
    {StoredType::F32, "F32", 4},   {StoredType::I32, "I32", 4},   {StoredType::U32, "U32", 4},
    {StoredType::BF16, "BF16", 2}, {StoredType::F16, "F16", 2},   {StoredType::I16, "I16", 2},
    {StoredType::U16, "U16", 2},   {StoredType::BOOL, "BOOL", 1}, {StoredType::U8, "U8", 1},
    {StoredType::I8, "I8", 1},
};

const TypeRow& row_of(StoredType type) {
  for (const TypeRow& row : kTypes) {
    if (row.type == type) return row;
  }
  throw InternalError("internal error: unknown stored type");
}

/// What is wrong with the file; the public functions put the path before it.
struct Malformed {
  std::string reason;
};

template <class... Parts>
void require(bool holds, const Parts&... parts) {
  if (!holds) throw Malformed{concat(parts...)};
}

/// Takes the header apart while it is parsed: no document is built, so a header costs memory in
/// proportion to its own length, and a duplicate key cannot hide behind a later one.
class HeaderReader {
 public:
  using string_t = std::string;
  using binary_t = Json::binary_t;
  using number_integer_t = Json::number_integer_t;
  using number_unsigned_t = Json::number_unsigned_t;
  using number_float_t = Json::number_float_t;

  std::vector<StoredTensor> tensors;
  std::map<std::string, std::string> metadata;

  bool null() { return scalar(); }
  bool boolean(bool) { return scalar(); }
  bool number_integer(number_integer_t) { return scalar(); }
  bool number_float(number_float_t, const string_t&) { return scalar(); }
  bool binary(binary_t&) { return scalar(); }

  bool number_unsigned(number_unsigned_t value) {
    if (place_ != Place::dims && place_ != Place::offsets) return scalar();
    require(value <= INT64_MAX, "a size or offset exceeds 2^63");
    numbers_.push_back(static_cast<int64_t>(value));
    require(place_ != Place::offsets || numbers_.size() <= 2, entry_,
            ": more than two data_offsets");
    return true;
  }

  bool string(string_t& value) {
    if (place_ == Place::metadata) {
      require(metadata.emplace(key_, value).second, "duplicate key ", quoted(key_),
              " in __metadata__");
      return true;
    }
    if (place_ != Place::entry || key_ != "dtype") return scalar();
    for (const TypeRow& row : kTypes) {
      if (row.name == value) {
        tensors.back().type = row.type;
        return true;
      }
    }
    throw Malformed{concat(entry_, ": unknown dtype ", quoted(value))};
  }

  bool start_object(size_t) {
    if (place_ == Place::outside) {
      place_ = Place::names;
    } else if (place_ == Place::names) {
      place_ = entry_ == "__metadata__" ? Place::metadata : Place::entry;
      if (place_ == Place::entry) tensors.emplace_back().name = entry_;
      seen_.clear();
    } else {
      return scalar();
    }
    return true;
  }

  bool key(string_t& value) {
    key_ = value;
    if (place_ == Place::names) {
      require(names_.insert(value).second, "duplicate name ", quoted(value));
      entry_ = value;
    } else if (place_ == Place::entry) {
      require(value == "dtype" || value == "shape" || value == "data_offsets", entry_,
              ": unknown key ", quoted(value));
      require(seen_.insert(value).second, entry_, ": duplicate key ", quoted(value));
    }
    return true;
  }

  bool end_object() {
    if (place_ == Place::entry) {
      for (const char* needed : {"dtype", "shape", "data_offsets"}) {
        require(seen_.count(needed) == 1, entry_, ": lacks ", needed);
      }
    }
    place_ = place_ == Place::names ? Place::outside : Place::names;
    return true;
  }

  bool start_array(size_t) {
    require(place_ == Place::entry && key_ != "dtype", entry_, ": unexpected array");
    place_ = key_ == "shape" ? Place::dims : Place::offsets;
    numbers_.clear();
    return true;
  }

  bool end_array() {
    StoredTensor& tensor = tensors.back();
    if (place_ == Place::dims) {
      tensor.shape = numbers_;
    } else {
      require(numbers_.size() == 2, entry_, ": data_offsets needs two numbers");
      require(numbers_[0] <= numbers_[1], entry_, ": data_offsets end before they begin");
      tensor.begin = numbers_[0];
      tensor.n_bytes = numbers_[1] - numbers_[0];
    }
    place_ = Place::entry;
    return true;
  }

  bool parse_error(size_t position, const std::string&, const Json::exception&) {
    throw Malformed{concat("the header is not JSON at byte ", position)};
  }

 private:
  enum class Place { outside, names, metadata, entry, dims, offsets };

  static std::string quoted(const std::string& text) {
    return concat('\'', text.substr(0, 80), '\'');
  }

  bool scalar() const {
    throw Malformed{concat("the header holds a value of the wrong kind at ",
                           quoted(entry_.empty() ? key_ : entry_))};
  }

  Place place_ = Place::outside;
  std::string entry_, key_;
  std::vector<int64_t> numbers_;
  std::set<std::string> names_, seen_;
};

/// Sizes agree with shapes, and the tensors fill the bytes after the header exactly.
void check_layout(std::vector<StoredTensor>& tensors, int64_t data_begin, int64_t file_size) {
  std::stable_sort(tensors.begin(), tensors.end(),
                   [](const StoredTensor& a, const StoredTensor& b) {
                     return a.begin != b.begin ? a.begin < b.begin : a.n_bytes < b.n_bytes;
                   });
  int64_t end = 0;
  for (StoredTensor& t : tensors) {
    require(t.begin == end, t.name, ": begins at ", t.begin, " but the tensor before it ends at ",
            end);
    int64_t bytes = size_of(t.type);
    for (const int64_t d : t.shape) {
      require(!__builtin_mul_overflow(bytes, d, &bytes), t.name, ": its size overflows");
    }
    require(bytes == t.n_bytes, t.name, ": ", name_of(t.type), " ", shape_text(t.shape), " has ",
            bytes, " bytes but its data_offsets span ", t.n_bytes);
    require(!__builtin_add_overflow(end, bytes, &end), t.name, ": its offset overflows");
    require(end <= file_size - data_begin, t.name, ": ends after the end of the file");
    t.begin += data_begin;
  }
  require(end == file_size - data_begin, "has ", file_size - data_begin,
          " bytes of data but its tensors take ", end);
}

float half_to_float(uint16_t h) {
  const uint32_t sign = (h & 0x8000U) << 16;
  const uint32_t exponent = (h >> 10) & 31U;
  const uint32_t fraction = h & 1023U;
  if (exponent == 0) {
    const float value = std::ldexp(static_cast<float>(fraction), -24);
    return sign != 0 ? -value : value;
  }
  const uint32_t e = exponent == 31 ? 255U : exponent + 112;
  return std::bit_cast<float>(sign | e << 23 | fraction << 13);
}

template <class To, class From>
To convert(From x) {
  if constexpr (std::is_same_v<From, bf16>) {
    return static_cast<To>(static_cast<float>(x));
  } else if constexpr (std::is_same_v<From, uint16_t>) {
    return static_cast<To>(half_to_float(x));
  } else {
    return static_cast<To>(x);
  }
}

/// fn.template operator()<T>() with the C++ type that holds an element of a floating stored type.
template <class F>
void dispatch_float(StoredType type, F&& fn) {
  if (type == StoredType::F64) return fn.template operator()<double>();
  if (type == StoredType::F32) return fn.template operator()<float>();
  if (type == StoredType::BF16) return fn.template operator()<bf16>();
  check_internal(type == StoredType::F16, "not a floating type");
  fn.template operator()<uint16_t>();
}

/// use(first index, elements) over all elements, a piece at a time.
template <class T, class F>
void for_pieces(const InputFile& file, const StoredTensor& tensor, F&& use) {
  const int64_t n = tensor.size();
  std::vector<T> piece(static_cast<size_t>(std::min<int64_t>(n, kPiece)));
  for (int64_t first = 0; first < n; first += static_cast<int64_t>(piece.size())) {
    const auto here =
        static_cast<size_t>(std::min<int64_t>(n - first, static_cast<int64_t>(piece.size())));
    const std::span<T> elements = std::span(piece).first(here);
    file.read(tensor.begin + first * static_cast<int64_t>(sizeof(T)),
              std::as_writable_bytes(elements));
    use(first, elements);
  }
}

}  // namespace

int64_t size_of(StoredType type) {
  return row_of(type).size;
}
std::string_view name_of(StoredType type) {
  return row_of(type).name;
}

bool is_floating(StoredType type) {
  return type == StoredType::F64 || type == StoredType::F32 || type == StoredType::BF16 ||
         type == StoredType::F16;
}

StoredType stored_type_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::f32:
      return StoredType::F32;
    case Dtype::bf16:
      return StoredType::BF16;
    case Dtype::f64:
      return StoredType::F64;
  }
  throw InternalError("internal error: unknown dtype");
}

std::string shape_text(std::span<const int64_t> shape) {
  std::string text = "(";
  for (const int64_t d : shape) text.append(text.size() > 1 ? ", " : "").append(std::to_string(d));
  return text.append(")");
}

bool same_shape(std::span<const int64_t> shape, const Shape& expected) {
  if (shape.size() != static_cast<size_t>(expected.rank())) return false;
  for (size_t i = 0; i < shape.size(); ++i) {
    if (shape[i] != expected[static_cast<int>(i)]) return false;
  }
  return true;
}

SafetensorsFile::SafetensorsFile(fs::path path) : file_(std::move(path)) {
  try {
    require(file_.size() >= kPrefix, "has ", file_.size(), " bytes; expected at least 8");
    uint64_t length = 0;
    file_.read(0, std::as_writable_bytes(std::span(&length, 1)));
    require(length <= kMaxHeader, "its header has ", length, " bytes; expected at most ",
            kMaxHeader);
    require(static_cast<int64_t>(length) <= file_.size() - kPrefix, "its header has ", length,
            " bytes but the file has ", file_.size());
    std::string header(static_cast<size_t>(length), '\0');
    file_.read(kPrefix, std::as_writable_bytes(std::span(header)));
    require(header.starts_with('{'), "its header does not begin with '{'");
    // The JSON library takes a NUL byte for the end of its input.
    require(header.find('\0') == std::string::npos, "its header holds a NUL byte");
    HeaderReader reader;
    Json::sax_parse(header, &reader);
    tensors_ = std::move(reader.tensors);
    metadata_ = std::move(reader.metadata);
    check_layout(tensors_, kPrefix + static_cast<int64_t>(length), file_.size());
  } catch (const Malformed& e) {
    throw DataError(
        concat(file_.path().string(), ": not a valid safetensors file: ", printable(e.reason)));
  }
  for (size_t i = 0; i < tensors_.size(); ++i) index_.emplace(tensors_[i].name, i);
}

const StoredTensor* SafetensorsFile::find(std::string_view name) const {
  const auto it = index_.find(name);
  return it == index_.end() ? nullptr : &tensors_[it->second];
}

void SafetensorsFile::read(const StoredTensor& tensor, std::span<std::byte> out) const {
  check_internal(static_cast<int64_t>(out.size()) == tensor.n_bytes, "tensor ", tensor.name,
                 " has ", tensor.n_bytes, " bytes but was read into ", out.size());
  file_.read(tensor.begin, out);
}

void SafetensorsFile::read(const StoredTensor& tensor, const Tensor& out) const {
  if (!same_shape(tensor.shape, out.shape)) {
    throw DataError(concat(path().string(), ": ", tensor.name, " is ", shape_text(tensor.shape),
                           "; expected ", out.shape));
  }
  if (tensor.type == stored_type_of(out.dtype)) {
    return read(tensor,
                std::span(static_cast<std::byte*>(out.memory), static_cast<size_t>(out.bytes())));
  }
  if (!is_floating(tensor.type) || out.dtype == Dtype::bf16) {
    throw DataError(concat(path().string(), ": ", tensor.name, " is ", name_of(tensor.type),
                           "; expected ", name_of(stored_type_of(out.dtype))));
  }
  dispatch(out.dtype, [&]<class To>() {
    To* to = out.data<To>();
    dispatch_float(tensor.type, [&]<class From>() {
      for_pieces<From>(file_, tensor, [to](int64_t first, std::span<const From> elements) {
        std::transform(elements.begin(), elements.end(), to + first, convert<To, From>);
      });
    });
  });
}

bool SafetensorsFile::has_non_finite(const StoredTensor& tensor) const {
  bool found = false;
  if (!is_floating(tensor.type)) return found;
  dispatch_float(tensor.type, [&]<class T>() {
    for_pieces<T>(file_, tensor, [&found](int64_t, std::span<const T> elements) {
      for (const T x : elements) found |= !std::isfinite(convert<double, T>(x));
    });
  });
  return found;
}

TensorSource::TensorSource(std::string tensor_name, const Tensor& tensor)
    : name(std::move(tensor_name)), type(stored_type_of(tensor.dtype)), data(tensor.memory) {
  for (int i = 0; i < tensor.shape.rank(); ++i) shape.push_back(tensor.shape[i]);
}

namespace {

int64_t bytes_of(const TensorSource& tensor) {
  int64_t bytes = size_of(tensor.type);
  for (const int64_t d : tensor.shape) {
    check(d >= 0 && !__builtin_mul_overflow(bytes, d, &bytes), "[safetensors] ", tensor.name,
          " has the impossible shape ", shape_text(tensor.shape));
  }
  return bytes;
}

}  // namespace

void write_safetensors(OutputFile& out, std::span<const TensorSource> tensors) {
  std::vector<const TensorSource*> order;
  for (const TensorSource& t : tensors) order.push_back(&t);
  std::sort(order.begin(), order.end(), [](const TensorSource* a, const TensorSource* b) {
    const int64_t wide_a = size_of(a->type);
    const int64_t wide_b = size_of(b->type);
    return wide_a != wide_b ? wide_a > wide_b : a->name < b->name;
  });
  std::string header = R"({"__metadata__":{"format":"pt"})";
  std::set<std::string_view> names = {"__metadata__"};
  int64_t offset = 0;
  for (const TensorSource* t : order) {
    check(names.insert(t->name).second, "[safetensors] two tensors are called ", t->name);
    const int64_t end = offset + bytes_of(*t);
    header +=
        concat(',', to_text(Json(t->name)), R"(:{"dtype":")", name_of(t->type), R"(","shape":)",
               to_text(Json(t->shape)), R"(,"data_offsets":[)", offset, ',', end, "]}");
    offset = end;
  }
  header += '}';
  header.append((8 - header.size() % 8) % 8, ' ');  // so that the data begins at a multiple of 8
  const uint64_t length = header.size();
  out.write(std::as_bytes(std::span(&length, 1)));
  out.write(header);
  for (const TensorSource* t : order) {
    out.write({static_cast<const std::byte*>(t->data), static_cast<size_t>(bytes_of(*t))});
  }
}

void write_safetensors(FileSystem& files, const fs::path& path,
                       std::span<const TensorSource> tensors) {
  const fs::path temporary = path.string() + ".tmp";
  files.remove(temporary);
  try {
    OutputFile out(files, temporary, OutputFile::Mode::create);
    write_safetensors(out, tensors);
    out.sync();
    files.rename_over(temporary, path);
  } catch (...) {
    ::unlink(temporary.c_str());
    throw;
  }
  files.sync_folder(path.has_parent_path() ? path.parent_path() : fs::path("."));
}

}  // namespace ballast
