// The processor's tile unit: products of bf16 matrices with fp32 sums.
//
// C[M, N] (+)= A[M, K]·B[K, N], with A in rows of bf16 and B in pairs of rows, which is what one
// instruction multiplies.

#pragma once

#include <cstdint>
#include <cstdlib>

#include "vectors.h"

namespace {

inline int64_t padded(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t bytes[16] = {};
  uint8_t rows[16] = {};
};

// All eight tiles hold 16 rows of 64 bytes.
void configure() {
  TileConfig config;
  for (int t = 0; t < 8; ++t) {
    config.bytes[t] = 64;
    config.rows[t] = 16;
  }
  _tile_loadconfig(&config);
}

// C[M, N] (+)= A[M, K]·B[K, N]; M and N multiples of 16, K of 32. `lda`, `ldc` count elements,
// `ldb` pairs: B[k, n] lies at b[(k / 2 · ldb + n)·2 + k % 2].
template <bool ADD>
void multiply(int64_t M, int64_t N, int64_t K, const bf16* a, int64_t lda, const bf16* b,
              int64_t ldb, float* c, int64_t ldc) {
  const int64_t sa = lda * 2, sb = ldb * 4, sc = ldc * 4;
  for (int64_t n = 0; n < N; n += 32) {
    const bool two_n = n + 16 < N;
    for (int64_t m = 0; m < M; m += 32) {
      const bool two_m = m + 16 < M;
      float* c00 = c + m * ldc + n;
      if (ADD) {
        _tile_loadd(0, c00, sc);
        if (two_n) _tile_loadd(1, c00 + 16, sc);
        if (two_m) _tile_loadd(2, c00 + 16 * ldc, sc);
        if (two_m && two_n) _tile_loadd(3, c00 + 16 * ldc + 16, sc);
      } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
      }
      for (int64_t k = 0; k < K; k += 32) {
        const bf16* a0 = a + m * lda + k;
        const bf16* b0 = b + (k / 2 * ldb + n) * 2;
        _tile_loadd(4, a0, sa);
        _tile_loadd(6, b0, sb);
        _tile_dpbf16ps(0, 4, 6);
        if (two_n) {
          _tile_loadd(7, b0 + 32, sb);
          _tile_dpbf16ps(1, 4, 7);
        }
        if (two_m) {
          _tile_loadd(5, a0 + 16 * lda, sa);
          _tile_dpbf16ps(2, 5, 6);
          if (two_n) _tile_dpbf16ps(3, 5, 7);
        }
      }
      _tile_stored(0, c00, sc);
      if (two_n) _tile_stored(1, c00 + 16, sc);
      if (two_m) _tile_stored(2, c00 + 16 * ldc, sc);
      if (two_m && two_n) _tile_stored(3, c00 + 16 * ldc + 16, sc);
    }
  }
}

// Memory of one thread, kept between calls.
template <class T>
struct Scratch {
  T* data = nullptr;
  int64_t size = 0;
  T* take(int64_t n) {
    if (n > size) {
      std::free(data);
      size = padded(n, 1024);
      data = static_cast<T*>(std::aligned_alloc(64, size * sizeof(T)));
    }
    return data;
  }
  void free() {
    std::free(data);
    data = nullptr;
    size = 0;
  }
};

// Rows [rows, width] as pairs of rows: out[(r / 2 · width + c)·2 + r % 2]; rows even.
void interleave(const bf16* in, int64_t rows, int64_t width, bf16* out) {
  for (int64_t r = 0; r < rows; r += 2)
    for (int64_t c = 0; c < width; ++c) {
      out[(r / 2 * width + c) * 2] = in[r * width + c];
      out[(r / 2 * width + c) * 2 + 1] = in[(r + 1) * width + c];
    }
}

// The transpose of rows [rows, width] as pairs of its rows: out[(c / 2 · rows + r)·2 + c % 2].
void transpose_pairs(const bf16* in, int64_t rows, int64_t width, bf16* out) {
  const uint32_t* from = reinterpret_cast<const uint32_t*>(in);
  uint32_t* to = reinterpret_cast<uint32_t*>(out);
  const int64_t pairs = width / 2;
  for (int64_t r0 = 0; r0 < rows; r0 += 16)
    for (int64_t c = 0; c < pairs; ++c)
      for (int64_t r = r0; r < r0 + 16; ++r) to[c * rows + r] = from[r * pairs + c];
}

}  // namespace
