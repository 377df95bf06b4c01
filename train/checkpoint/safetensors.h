// safetensors files: an 8-byte length, a JSON header, then the tensors' bytes without a gap.
// https://github.com/huggingface/safetensors; this reader refuses all that the reference one
// refuses.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/tensor.h"
#include "train/files/file_system.h"

namespace ballast {

/// Enumerators are spelled as in the files.
enum class StoredType { F64, I64, U64, F32, I32, U32, BF16, F16, I16, U16, BOOL, U8, I8 };

int64_t size_of(StoredType type);
std::string_view name_of(StoredType type);
/// F64, F32, BF16 or F16.
bool is_floating(StoredType type);
StoredType stored_type_of(Dtype dtype);

struct StoredTensor {
  std::string name;
  StoredType type = StoredType::F32;
  std::vector<int64_t> shape;
  int64_t begin = 0;  ///< offset of the first byte in the file
  int64_t n_bytes = 0;

  int64_t size() const { return n_bytes / size_of(type); }
};

/// "(256, 64)", as Shape prints.
std::string shape_text(std::span<const int64_t> shape);
bool same_shape(std::span<const int64_t> shape, const Shape& expected);

/// A file whose header was read and checked in full; the tensors' bytes are read on demand.
/// Nothing is allocated for a length, shape or offset that the file's size does not bear out.
class SafetensorsFile {
 public:
  /// Throws IoError if the file cannot be read, DataError "path: not a valid safetensors file:
  /// reason" for a wrong length, a header that is not strict JSON, duplicate names, unknown types,
  /// sizes that overflow or contradict the shape, and for overlaps, holes or bytes that belong to
  /// no tensor.
  explicit SafetensorsFile(std::filesystem::path path);

  const std::filesystem::path& path() const { return file_.path(); }
  /// In the order of their bytes.
  const std::vector<StoredTensor>& tensors() const { return tensors_; }
  /// nullptr if there is none of that name.
  const StoredTensor* find(std::string_view name) const;
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

  /// Fills `out`, which has exactly the tensor's bytes. Throws IoError.
  void read(const StoredTensor& tensor, std::span<std::byte> out) const;
  /// Reads into `out`, whose shape must agree. F64, F32, BF16 and F16 convert to f64 and f32
  /// (rounding to nearest from F64 to f32); other pairs must have the same type. Throws DataError
  /// otherwise.
  void read(const StoredTensor& tensor, const Tensor& out) const;
  /// True if a floating tensor holds a NaN or an infinity.
  bool has_non_finite(const StoredTensor& tensor) const;

 private:
  InputFile file_;
  std::vector<StoredTensor> tensors_;
  std::map<std::string_view, size_t> index_;
  std::map<std::string, std::string> metadata_;
};

/// A tensor to be written; the bytes are the caller's.
struct TensorSource {
  std::string name;
  StoredType type = StoredType::F32;
  std::vector<int64_t> shape;
  const void* data = nullptr;

  TensorSource(std::string tensor_name, const Tensor& tensor);
  TensorSource(std::string tensor_name, StoredType stored_type, std::vector<int64_t> dims,
               const void* bytes)
      : name(std::move(tensor_name)), type(stored_type), shape(std::move(dims)), data(bytes) {}
};

/// Widest type first, then by name, as the reference writer does; `__metadata__` is {"format":
/// "pt"}. Throws std::invalid_argument for a name that is taken twice.
void write_safetensors(OutputFile& out, std::span<const TensorSource> tensors);
/// Durably: temporary file, fsync, rename. An existing file is replaced.
void write_safetensors(FileSystem& files, const std::filesystem::path& path,
                       std::span<const TensorSource> tensors);

}  // namespace ballast
