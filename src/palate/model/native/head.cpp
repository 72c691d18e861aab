// The output head: log-sum-exp over the vocabulary, and what its gradient needs, without logits.
//
// A task is a block of rows. It walks over the vocabulary in blocks, keeps each row's largest
// logit and sum so far (Milakov and Gimelshein 2018, "Online normalizer calculation for softmax"),
// and the mean of the head's rows under the softmax, u = Σ_v p_v W_v: the hidden state's gradient
// is Σ_t g_t (W_t − u) over the row's targets t, so that a frozen head needs no second pass.
// Logits are fp32 and never leave the cache. They are computed transposed, vocabulary along the
// rows, because W then needs no rearranging for them.

#include <algorithm>
#include <cmath>
#include <cstring>

#include "amx.h"

namespace {

constexpr int64_t ROWS = 256;   // of a task
constexpr int64_t WORDS = 512;  // of a block of the vocabulary
constexpr int64_t BACK = 64;    // the same, when the weight's gradient is computed

// Rows of W, or a zero-padded copy where the block reaches beyond its end.
const bf16* words(const bf16* w, int64_t vocabulary, int64_t width, int64_t first, int64_t size,
                  Scratch<bf16>& spare) {
  if (first + size <= vocabulary) return w + first * width;
  bf16* copy = spare.take(size * width);
  const int64_t here = vocabulary - first;
  std::memcpy(copy, w + first * width, here * width * 2);
  std::memset(copy + here * width, 0, (size - here) * width * 2);
  return copy;
}

// Hidden rows [first, first + size), zero-padded, as pairs for the transposed logits.
void hidden_pairs(const bf16* hidden, int64_t rows, int64_t width, int64_t first, int64_t size,
                  bf16* plain, bf16* out) {
  const int64_t here = std::min(size, rows - first);
  std::memcpy(plain, hidden + first * width, here * width * 2);
  std::memset(plain + here * width, 0, (size - here) * width * 2);
  transpose_pairs(plain, size, width, out);
}

void head_task(int64_t rows, int64_t width, int64_t vocabulary, const bf16* hidden, const bf16* w,
               const bf16* w_t, float* lse, float* mean, int64_t first) {
  thread_local Scratch<bf16> plain_s, hidden_s, spare_s, p_s;
  thread_local Scratch<float> logits_s, mean_s;
  const int64_t here = std::min(ROWS, rows - first), R = padded(here, 32);
  bf16* pairs = hidden_s.take(R * width);
  hidden_pairs(hidden, rows, width, first, R, plain_s.take(R * width), pairs);
  float *logits = logits_s.take(WORDS * ROWS), *u = mean ? mean_s.take(width * ROWS) : nullptr;
  bf16* p = p_s.take(WORDS * ROWS);
  alignas(64) float most[ROWS], total[ROWS], factor[ROWS];
  std::fill(most, most + R, -3e38f);
  std::fill(total, total + R, 0.0f);
  if (u) std::memset(u, 0, width * R * 4);
  for (int64_t v0 = 0; v0 < vocabulary; v0 += WORDS) {
    const int64_t words_here = std::min(WORDS, vocabulary - v0);
    multiply<false>(WORDS, R, width, words(w, vocabulary, width, v0, WORDS, spare_s), width, pairs,
                    R, logits, R);
    bool changed = false;
    for (int64_t c = 0; c < R; c += 16) {
      const __m512 before = load(most + c);
      __m512 after = before;
      for (int64_t v = 0; v < words_here; ++v) after = _mm512_max_ps(after, load(logits + v * R + c));
      const __m512 by = exponential(_mm512_sub_ps(before, after));
      changed |= _mm512_cmp_ps_mask(before, after, _CMP_NEQ_OQ) != 0;
      store(most + c, after);
      store(factor + c, by);
      __m512 sum = _mm512_mul_ps(load(total + c), by);
      for (int64_t v = 0; v < WORDS; v += 2) {
        __m256i e_of[2];
        for (int64_t half = 0; half < 2; ++half) {
          __m512 e = _mm512_setzero_ps();
          if (v + half < words_here)
            e = exponential(_mm512_sub_ps(load(logits + (v + half) * R + c), after));
          sum = _mm512_add_ps(sum, e);
          e_of[half] = narrow(e);
        }
        if (u) store_pairs(p + (v / 2 * R + c) * 2, e_of[0], e_of[1]);
      }
      store(total + c, sum);
    }
    if (!u) continue;
    if (changed && v0)
      for (int64_t d = 0; d < width; ++d)
        for (int64_t c = 0; c < R; c += 16)
          store(u + d * R + c, _mm512_mul_ps(load(u + d * R + c), load(factor + c)));
    multiply<true>(width, R, WORDS, w_t + v0 * width, WORDS, p, R, u, R);
  }
  for (int64_t r = 0; r < here; ++r) {
    lse[first + r] = most[r] + std::log(total[r]);
    if (!u) continue;
    for (int64_t d = 0; d < width; ++d)
      mean[(first + r) * width + d] = u[d * R + r] / total[r];
  }
}

}  // namespace

extern "C" {

// W [vocabulary, width] in blocks of 512 words, each transposed to [width, 512]; zero-padded.
void palate_head_transpose(int64_t vocabulary, int64_t width, const bf16* w, bf16* w_t) {
  const int64_t blocks = padded(vocabulary, WORDS) / WORDS;
#pragma omp parallel for schedule(static)
  for (int64_t b = 0; b < blocks; ++b) {
    bf16* to = w_t + b * WORDS * width;
    const int64_t here = std::min(WORDS, vocabulary - b * WORDS);
    if (here < WORDS) std::memset(to, 0, WORDS * width * 2);
    for (int64_t v0 = 0; v0 < here; v0 += 16)
      for (int64_t d = 0; d < width; ++d)
        for (int64_t v = v0; v < std::min(here, v0 + 16); ++v)
          to[d * WORDS + v] = w[(b * WORDS + v) * width + d];
  }
}

// hidden [rows, width] → lse [rows] and, unless null, mean [rows, width] = Σ_v softmax_v · W_v.
void palate_head_forward(int64_t rows, int64_t width, int64_t vocabulary, const bf16* hidden,
                         const bf16* w, const bf16* w_t, float* lse, float* mean) {
#pragma omp parallel
  {
    configure();
#pragma omp for schedule(dynamic, 1)
    for (int64_t first = 0; first < rows; first += ROWS)
      head_task(rows, width, vocabulary, hidden, w, w_t, lse, mean, first);
    _tile_release();
  }
}

// grad_w [vocabulary, width] = Σ_rows weight[row] · softmax(row) · hidden[row].
void palate_head_backward(int64_t rows, int64_t width, int64_t vocabulary, const bf16* hidden,
                          const bf16* w, const float* lse, const float* weight, float* grad_w) {
  const int64_t R = padded(rows, 32);
  Scratch<bf16> plain, pairs, inter;
  Scratch<float> lse_s, weight_s;
  plain.take(R * width);
  pairs.take(R * width);
  inter.take(R * width);
  hidden_pairs(hidden, rows, width, 0, R, plain.data, pairs.data);
  interleave(plain.data, R, width, inter.data);
  float *norm = lse_s.take(R), *by = weight_s.take(R);
  for (int64_t r = 0; r < R; ++r) {
    norm[r] = r < rows ? lse[r] : 0;
    by[r] = r < rows ? weight[r] : 0;
  }
#pragma omp parallel
  {
    configure();
    Scratch<bf16> spare, p;
    Scratch<float> logits, block;
    p.take(BACK * R);
    logits.take(BACK * R);
    block.take(BACK * width);
#pragma omp for schedule(dynamic, 4)
    for (int64_t v0 = 0; v0 < vocabulary; v0 += BACK) {
      multiply<false>(BACK, R, width, words(w, vocabulary, width, v0, BACK, spare), width,
                      pairs.data, R, logits.data, R);
      for (int64_t at = 0; at < BACK * R; at += 16) {
        const int64_t c = at % R;
        const __m512 e = exponential(_mm512_sub_ps(load(logits.data + at), load(norm + c)));
        store(p.data + at, _mm512_mul_ps(e, load(by + c)));
      }
      multiply<false>(BACK, width, R, p.data, R, inter.data, width, block.data, width);
      const int64_t here = std::min(BACK, vocabulary - v0);
      std::memcpy(grad_w + v0 * width, block.data, here * width * 4);
    }
    _tile_release();
    spare.free();
    p.free();
    logits.free();
    block.free();
  }
  plain.free();
  pairs.free();
  inter.free();
  lse_s.free();
  weight_s.free();
}

}  // extern "C"
