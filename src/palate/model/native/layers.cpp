// What stands between a layer's matrix products: norms, rotary positions, the gated activation.
//
// Each is one pass over its rows, in fp32, between an fp32 residual stream and bf16 products.
// Rows are divided over the threads, and sums over rows go by fixed blocks, so that no result
// depends on the number of threads. Widths are multiples of 16.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "vectors.h"

namespace {

constexpr int64_t BLOCK = 64;  // rows whose weight gradients are summed together

inline __m512 times(__m512 a, __m512 b) { return _mm512_mul_ps(a, b); }

}  // namespace

extern "C" {

// sum = x + added (nothing is written where `added` is null), y = w · sum / rms(sum).
void palate_norm_forward(int64_t rows, int64_t width, float epsilon, const float* x,
                         const bf16* added, const float* weight, float* sum, bf16* y,
                         float* inverse) {
#pragma omp parallel for schedule(static)
  for (int64_t r = 0; r < rows; ++r) {
    const float* in = x + r * width;
    __m512 squares = _mm512_setzero_ps();
    for (int64_t c = 0; c < width; c += 16) {
      __m512 v = load(in + c);
      if (added) {
        v = _mm512_add_ps(v, load(added + r * width + c));
        store(sum + r * width + c, v);
      }
      squares = _mm512_fmadd_ps(v, v, squares);
    }
    if (added) in = sum + r * width;
    const float by = 1.0f / std::sqrt(_mm512_reduce_add_ps(squares) / width + epsilon);
    inverse[r] = by;
    for (int64_t c = 0; c < width; c += 16)
      store(y + r * width + c, times(load(weight + c), times(load(in + c), _mm512_set1_ps(by))));
  }
}

// grad_x = grad_sum + the gradient through the norm; `grad_added` gets the same in bf16.
// `grad_weight` [blocks of 64 rows, width] gets each block's sums. grad_sum, grad_added and
// grad_weight may be null.
void palate_norm_backward(int64_t rows, int64_t width, const float* sum, const float* weight,
                          const float* inverse, const bf16* grad_y, const float* grad_sum,
                          float* grad_x, bf16* grad_added, float* grad_weight) {
  const int64_t blocks = (rows + BLOCK - 1) / BLOCK;
#pragma omp parallel for schedule(static)
  for (int64_t b = 0; b < blocks; ++b) {
    float* dw = grad_weight ? grad_weight + b * width : nullptr;
    if (dw) std::memset(dw, 0, width * 4);
    for (int64_t r = b * BLOCK; r < std::min(rows, (b + 1) * BLOCK); ++r) {
      const int64_t at = r * width;
      __m512 dot = _mm512_setzero_ps();
      for (int64_t c = 0; c < width; c += 16)
        dot = _mm512_fmadd_ps(times(load(grad_y + at + c), load(weight + c)), load(sum + at + c), dot);
      const __m512 by = _mm512_set1_ps(inverse[r]);
      const __m512 pull =
          _mm512_set1_ps(_mm512_reduce_add_ps(dot) * inverse[r] * inverse[r] / width);
      for (int64_t c = 0; c < width; c += 16) {
        const __m512 dy = load(grad_y + at + c), in = load(sum + at + c);
        __m512 dx = times(by, _mm512_fnmadd_ps(in, pull, times(dy, load(weight + c))));
        if (grad_sum) dx = _mm512_add_ps(dx, load(grad_sum + at + c));
        store(grad_x + at + c, dx);
        if (grad_added) store(grad_added + at + c, dx);
        if (dw) store(dw + c, _mm512_fmadd_ps(dy, times(in, by), load(dw + c)));
      }
    }
  }
}

// Turn the first `heads` heads of every row, in place; `back` turns them back (the transpose).
// cos and sin are [rows, width], with width / 2 a multiple of 16; rows of x are `stride` apart.
void palate_rotate(int64_t rows, int64_t heads, int64_t width, int64_t stride, const float* cos,
                   const float* sin, bf16* x, int64_t back) {
  const int64_t half = width / 2;
#pragma omp parallel for schedule(static)
  for (int64_t r = 0; r < rows; ++r) {
    const float *c1 = cos + r * width, *c2 = c1 + half, *s1 = sin + r * width, *s2 = s1 + half;
    for (int64_t h = 0; h < heads; ++h) {
      bf16 *a = x + r * stride + h * width, *b = a + half;
      for (int64_t c = 0; c < half; c += 16) {
        const __m512 p = load(a + c), q = load(b + c);
        const __m512 pc = times(p, load(c1 + c)), qc = times(q, load(c2 + c));
        if (back) {
          store(a + c, _mm512_fmadd_ps(q, load(s2 + c), pc));
          store(b + c, _mm512_fnmadd_ps(p, load(s1 + c), qc));
        } else {
          store(a + c, _mm512_fnmadd_ps(q, load(s1 + c), pc));
          store(b + c, _mm512_fmadd_ps(p, load(s2 + c), qc));
        }
      }
    }
  }
}

// out = silu(gate) · up, with gate and up side by side in a row of `both`.
void palate_gate_forward(int64_t rows, int64_t width, const bf16* both, bf16* out) {
#pragma omp parallel for schedule(static)
  for (int64_t r = 0; r < rows; ++r) {
    const bf16 *gate = both + r * 2 * width, *up = gate + width;
    for (int64_t c = 0; c < width; c += 16) {
      const __m512 g = load(gate + c);
      store(out + r * width + c, times(times(g, sigmoid(g)), load(up + c)));
    }
  }
}

// ∂silu(g) = s·(1 + g·(1 − s)) with s = sigmoid(g)
void palate_gate_backward(int64_t rows, int64_t width, const bf16* both, const bf16* grad,
                          bf16* grad_both) {
  const __m512 one = _mm512_set1_ps(1.0f);
#pragma omp parallel for schedule(static)
  for (int64_t r = 0; r < rows; ++r) {
    const bf16 *gate = both + r * 2 * width, *up = gate + width, *d = grad + r * width;
    bf16 *d_gate = grad_both + r * 2 * width, *d_up = d_gate + width;
    for (int64_t c = 0; c < width; c += 16) {
      const __m512 g = load(gate + c), y = load(d + c), s = sigmoid(g);
      const __m512 slope = times(s, _mm512_fmadd_ps(g, _mm512_sub_ps(one, s), one));
      store(d_gate + c, times(times(y, load(up + c)), slope));
      store(d_up + c, times(y, times(g, s)));
    }
  }
}

}  // extern "C"
