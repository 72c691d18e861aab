// Attention of a forest's tiles in bf16 on AMX: forward, and backward by recomputation.
//
// A tile is a stretch of one segment's queries against all keys on its path
// (palate/model/tiles.py). One task is one tile and one key-value head; the G query heads that
// share it are laid out query by query (row i·G + g), so that the causal edge is one staircase
// and blocks above it are skipped. Scores, sums and results are fp32.
//
// Products go through C[M, N] (+)= A[M, K]·B[K, N] with A in rows of bf16 and B in pairs of
// rows, which is what the processor's tile unit multiplies. The backward pass works on
// transposed scores (keys along the rows), because then P and dS are written once in exactly
// the two forms in which the gradients of values, keys and queries need them.
//
// Gradients of keys and values are written per tile and summed afterwards in the order of the
// tiles, in fp32: the result does not depend on the number of threads.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <sys/syscall.h>
#include <unistd.h>
#include <vector>

#include "amx.h"

namespace {

constexpr int STEP = 32;    // queries of a block, and the depth of one tile product
constexpr int KEYS = 64;    // keys of a block of the backward pass

}  // namespace

// ------------------------------------------------------------------ the arguments

extern "C" {

// Tile t: queries [start[t], end[t]), keys in ranges [first_range[t], first_range[t + 1]) of
// `ranges` (begin, end), `length[t]` in all; its keys' gradients begin at row `slot[t]`.
// Strides count elements; the last dimension is contiguous.
struct Arguments {
  int64_t tiles, heads, kv_heads, width, tokens, slots;
  const int64_t *start, *end, *length, *first_range, *ranges, *slot;
  float scale;
  int64_t window;  // 0: none
  const bf16 *query, *key, *value;
  int64_t query_head, query_row, key_head, key_row, value_head, value_row;
  bf16* out;     // [tokens, heads, width]
  float* lse;    // [heads, tokens]
  // backward only
  const bf16* grad;  // [tokens, heads, width]
  bf16 *grad_query, *grad_key, *grad_value;
  int64_t grad_query_head, grad_query_row, grad_key_head, grad_key_row, grad_value_head,
      grad_value_row;
  float *slot_key, *slot_value;  // [kv heads, slots, width]
};

int palate_amx_allowed() {
  constexpr int request = 0x1023, tile_data = 18;
  return syscall(SYS_arch_prctl, request, tile_data) == 0;
}

}  // extern "C"

namespace {

struct Tile {
  int64_t start, queries, rows, rows_p, keys, keys_p, above;
};

Tile tile_of(const Arguments& a, int64_t t, int64_t group) {
  Tile x;
  x.start = a.start[t];
  x.queries = a.end[t] - a.start[t];
  x.rows = x.queries * group;
  x.rows_p = padded(x.rows, STEP);
  x.keys = a.length[t];
  x.keys_p = padded(x.keys, KEYS);
  x.above = x.keys - x.queries;  // keys that every query sees
  return x;
}

// Keys or values of a tile's path, in one piece; padding is zero.
void gather(const Arguments& a, int64_t t, const bf16* from, int64_t head, int64_t row, int64_t kv,
            const Tile& x, bf16* out) {
  int64_t at = 0;
  for (int64_t i = a.first_range[t]; i < a.first_range[t + 1]; ++i)
    for (int64_t r = a.ranges[2 * i]; r < a.ranges[2 * i + 1]; ++r, ++at)
      std::memcpy(out + at * a.width, from + kv * head + r * row, a.width * 2);
  std::memset(out + at * a.width, 0, (x.keys_p - at) * a.width * 2);
}

// Queries (or rows laid out as [tokens, heads]) of a tile, query by query; padding is zero.
void gather_rows(const bf16* from, int64_t head, int64_t row, int64_t first_head, int64_t group,
                 int64_t width, const Tile& x, bf16* out) {
  for (int64_t i = 0; i < x.queries; ++i)
    for (int64_t g = 0; g < group; ++g)
      std::memcpy(out + (i * group + g) * width,
                  from + (first_head + g) * head + (x.start + i) * row, width * 2);
  std::memset(out + x.rows * width, 0, (x.rows_p - x.rows) * width * 2);
}

// Keys [first, last) that query i of a tile sees.
inline int64_t last_key(const Tile& x, int64_t i) { return std::min(x.keys, x.above + i + 1); }
inline int64_t first_key(const Tile& x, int64_t i, int64_t window) {
  return window ? std::max<int64_t>(0, x.above + i + 1 - window) : 0;
}

void forward_task(const Arguments& a, int64_t t, int64_t kv) {
  thread_local Scratch<bf16> rows_s, keys_s, keys_t_s, values_s, p_s;
  thread_local Scratch<float> scores_s, out_s;
  const int64_t group = a.heads / a.kv_heads, width = a.width;
  const Tile x = tile_of(a, t, group);
  bf16* rows = rows_s.take(x.rows_p * width);
  bf16* plain = keys_s.take(x.keys_p * width);
  bf16* keys_t = keys_t_s.take(x.keys_p * width);
  bf16* values = values_s.take(x.keys_p * width);
  gather_rows(a.query, a.query_head, a.query_row, kv * group, group, width, x, rows);
  gather(a, t, a.key, a.key_head, a.key_row, kv, x, plain);
  transpose_pairs(plain, x.keys_p, width, keys_t);
  gather(a, t, a.value, a.value_head, a.value_row, kv, x, plain);
  interleave(plain, x.keys_p, width, values);
  float* scores = scores_s.take(STEP * x.keys_p);
  bf16* p = p_s.take(STEP * x.keys_p);
  float* result = out_s.take(STEP * width);
  const __m512 scale = _mm512_set1_ps(a.scale);
  for (int64_t r0 = 0; r0 < x.rows; r0 += STEP) {
    const int64_t rows_here = std::min<int64_t>(STEP, x.rows - r0);
    const int64_t seen = last_key(x, (r0 + rows_here - 1) / group);
    const int64_t limit = padded(seen, 32);
    multiply<false>(STEP, limit, width, rows + r0 * width, width, keys_t, x.keys_p, scores,
                    x.keys_p);
    float inverse[STEP];
    for (int64_t r = 0; r < STEP; ++r) {
      bf16* to = p + r * x.keys_p;
      if (r >= rows_here) {
        std::memset(to, 0, limit * 2);
        continue;
      }
      const int64_t i = (r0 + r) / group, g = (r0 + r) % group;
      const int64_t last = last_key(x, i), first = first_key(x, i, a.window);
      float* s = scores + r * x.keys_p;
      for (int64_t c = 0; c < first; ++c) s[c] = -std::numeric_limits<float>::infinity();
      for (int64_t c = last; c < limit; ++c) s[c] = -std::numeric_limits<float>::infinity();
      __m512 most = _mm512_set1_ps(-std::numeric_limits<float>::infinity());
      for (int64_t c = 0; c < limit; c += 16) {
        const __m512 v = _mm512_mul_ps(_mm512_loadu_ps(s + c), scale);
        _mm512_storeu_ps(s + c, v);
        most = _mm512_max_ps(most, v);
      }
      const float peak = _mm512_reduce_max_ps(most);
      const __m512 shift = _mm512_set1_ps(peak);
      __m512 total = _mm512_setzero_ps();
      const int64_t from = first / 16 * 16;
      for (int64_t c = 0; c < from; c += 16)
        store(to + c, _mm512_setzero_ps());
      for (int64_t c = from; c < limit; c += 16) {
        const __m512 s_c = _mm512_loadu_ps(s + c);
        const __mmask16 in = _mm512_cmp_ps_mask(s_c, _mm512_set1_ps(-1e30f), _CMP_GT_OQ);
        const __m512 e = _mm512_maskz_mov_ps(in, exponential(_mm512_sub_ps(s_c, shift)));
        total = _mm512_add_ps(total, e);
        store(to + c, e);
      }
      const float sum = _mm512_reduce_add_ps(total);
      inverse[r] = 1.0f / sum;
      a.lse[(kv * group + g) * a.tokens + x.start + i] = peak + std::log(sum);
    }
    multiply<false>(STEP, width, limit, p, x.keys_p, values, width, result, width);
    for (int64_t r = 0; r < rows_here; ++r) {
      const int64_t i = (r0 + r) / group, g = (r0 + r) % group;
      bf16* to = a.out + ((x.start + i) * a.heads + kv * group + g) * width;
      const __m512 by = _mm512_set1_ps(inverse[r]);
      for (int64_t c = 0; c < width; c += 16)
        store(to + c, _mm512_mul_ps(_mm512_loadu_ps(result + r * width + c), by));
    }
  }
}

void backward_task(const Arguments& a, int64_t t, int64_t kv) {
  thread_local Scratch<bf16> rows_s, rows_t_s, rows_i_s, grad_s, grad_t_s, grad_i_s, keys_s,
      values_s, keys_t_s, p_s, ds_s, ds_i_s;
  thread_local Scratch<float> scores_s, dp_s, dq_s, lse_s, delta_s, block_s;
  const int64_t group = a.heads / a.kv_heads, width = a.width;
  const Tile x = tile_of(a, t, group);
  const int64_t R = x.rows_p;
  bf16 *rows = rows_s.take(R * width), *rows_t = rows_t_s.take(R * width),
       *rows_i = rows_i_s.take(R * width), *grad = grad_s.take(R * width),
       *grad_t = grad_t_s.take(R * width), *grad_i = grad_i_s.take(R * width),
       *keys = keys_s.take(x.keys_p * width), *values = values_s.take(x.keys_p * width),
       *keys_t = keys_t_s.take(KEYS * width), *p = p_s.take(KEYS * R), *ds = ds_s.take(KEYS * R),
       *ds_i = ds_i_s.take(KEYS * R);
  float *scores = scores_s.take(KEYS * R), *dp = dp_s.take(KEYS * R), *dq = dq_s.take(R * width),
        *lse = lse_s.take(R), *delta = delta_s.take(R), *block = block_s.take(KEYS * width);
  gather_rows(a.query, a.query_head, a.query_row, kv * group, group, width, x, rows);
  gather_rows(a.grad, width, a.heads * width, kv * group, group, width, x, grad);
  transpose_pairs(rows, R, width, rows_t);
  interleave(rows, R, width, rows_i);
  transpose_pairs(grad, R, width, grad_t);
  interleave(grad, R, width, grad_i);
  gather(a, t, a.key, a.key_head, a.key_row, kv, x, keys);
  gather(a, t, a.value, a.value_head, a.value_row, kv, x, values);
  for (int64_t r = 0; r < R; ++r) {
    if (r >= x.rows) {
      lse[r] = std::numeric_limits<float>::infinity();  // weights of padding are e^−inf = 0
      delta[r] = 0;
      continue;
    }
    const int64_t i = r / group, h = kv * group + r % group;
    lse[r] = a.lse[h * a.tokens + x.start + i];
    const bf16* out = a.out + ((x.start + i) * a.heads + h) * width;
    __m512 sum = _mm512_setzero_ps();
    for (int64_t c = 0; c < width; c += 16)
      sum = _mm512_fmadd_ps(load(out + c), load(grad + r * width + c), sum);
    delta[r] = _mm512_reduce_add_ps(sum);
  }
  std::memset(dq, 0, R * width * 4);
  const __m512 scale = _mm512_set1_ps(a.scale);
  for (int64_t k0 = 0; k0 < x.keys; k0 += KEYS) {
    // queries before `from` see none of these keys, queries from `until` on none any more
    const int64_t from = std::max<int64_t>(0, k0 - x.above) * group / STEP * STEP;
    int64_t until = R;
    if (a.window)
      until = std::clamp(padded((k0 + KEYS + a.window - 1 - x.above) * group, STEP), int64_t(0), R);
    const int64_t n = until - from;
    const int64_t keys_here = std::min<int64_t>(KEYS, x.keys - k0);
    float* slot_k = a.slot_key + (kv * a.slots + a.slot[t] + k0) * width;
    float* slot_v = a.slot_value + (kv * a.slots + a.slot[t] + k0) * width;
    if (n <= 0) {
      std::memset(slot_k, 0, keys_here * width * 4);
      std::memset(slot_v, 0, keys_here * width * 4);
      continue;
    }
    multiply<false>(KEYS, n, width, keys + k0 * width, width, rows_t + from * 2, R, scores, R);
    multiply<false>(KEYS, n, width, values + k0 * width, width, grad_t + from * 2, R, dp, R);
    for (int64_t k = 0; k < KEYS; k += 2) {
      for (int64_t c = 0; c < n; c += 16) {
        __m256i s_of[2];
        for (int64_t half = 0; half < 2; ++half) {
          const int64_t row = k + half, key = k0 + row;
          const int64_t at = row * R + c;
          const __m512 shift = _mm512_loadu_ps(lse + from + c);
          __m512 e = exponential(
              _mm512_fmsub_ps(_mm512_loadu_ps(scores + at), scale, shift));
          // query i sees keys up to above + i, and not those `window` or more before it
          const int64_t low = std::max<int64_t>(0, key - x.above) * group - from - c;
          __mmask16 in = low <= 0 ? 0xffff : low >= 16 ? 0 : __mmask16(0xffff << low);
          if (a.window) {
            const int64_t high = (key + a.window - x.above) * group - from - c;
            in &= high >= 16 ? 0xffff : high <= 0 ? 0 : __mmask16((1u << high) - 1);
          }
          if (key >= x.keys) in = 0;
          e = _mm512_maskz_mov_ps(in, e);
          const __m512 d = _mm512_sub_ps(_mm512_loadu_ps(dp + at), _mm512_loadu_ps(delta + from + c));
          const __m256i s = narrow(_mm512_mul_ps(_mm512_mul_ps(e, d), scale));
          store(p + at, e);
          _mm256_storeu_si256((__m256i*)(ds + at), s);
          s_of[half] = s;
        }
        store_pairs(ds_i + (k / 2 * R + c) * 2, s_of[0], s_of[1]);
      }
    }
    multiply<false>(KEYS, width, n, p, R, grad_i + from * width, width, block, width);
    std::memcpy(slot_v, block, keys_here * width * 4);
    multiply<false>(KEYS, width, n, ds, R, rows_i + from * width, width, block, width);
    std::memcpy(slot_k, block, keys_here * width * 4);
    for (int64_t c = 0; c < width; ++c)
      for (int64_t k = 0; k < KEYS; ++k) keys_t[c * KEYS + k] = keys[(k0 + k) * width + c];
    multiply<true>(width, n, KEYS, keys_t, KEYS, ds_i, R, dq + from, R);
  }
  for (int64_t i = 0; i < x.queries; ++i)
    for (int64_t g = 0; g < group; ++g) {
      bf16* to = a.grad_query + (kv * group + g) * a.grad_query_head + (x.start + i) * a.grad_query_row;
      const int64_t r = i * group + g;
      for (int64_t c = 0; c < width; c += 16) {
        float row[16];
        for (int64_t j = 0; j < 16; ++j) row[j] = dq[(c + j) * R + r];
        store(to + c, _mm512_loadu_ps(row));
      }
    }
}

// Sum what every tile found for a key, tile by tile.
void sum_slots(const Arguments& a, const float* slots, bf16* out, int64_t row, int64_t kv,
               float* total) {
  const int64_t width = a.width;
  std::memset(total, 0, a.tokens * width * 4);
  for (int64_t t = 0; t < a.tiles; ++t) {
    const float* from = slots + (kv * a.slots + a.slot[t]) * width;
    for (int64_t i = a.first_range[t]; i < a.first_range[t + 1]; ++i) {
      const int64_t n = (a.ranges[2 * i + 1] - a.ranges[2 * i]) * width;
      float* to = total + a.ranges[2 * i] * width;
      for (int64_t c = 0; c < n; ++c) to[c] += from[c];
      from += n;
    }
  }
  for (int64_t r = 0; r < a.tokens; ++r)
    for (int64_t c = 0; c < width; c += 16) store(out + r * row + c, load(total + r * width + c));
}

// Tasks by falling cost, so that the threads end together.
std::vector<int64_t> by_cost(const Arguments& a) {
  std::vector<int64_t> order(a.tiles);
  for (int64_t t = 0; t < a.tiles; ++t) order[t] = t;
  std::stable_sort(order.begin(), order.end(), [&](int64_t s, int64_t t) {
    return (a.end[s] - a.start[s]) * a.length[s] > (a.end[t] - a.start[t]) * a.length[t];
  });
  return order;
}

// Every tile with every key-value head, on all threads.
template <class Task>
void each_task(const Arguments& a, Task task) {
  const std::vector<int64_t> order = by_cost(a);
#pragma omp parallel
  {
    configure();
#pragma omp for schedule(dynamic, 1)
    for (int64_t n = 0; n < a.tiles * a.kv_heads; ++n)
      task(a, order[n / a.kv_heads], n % a.kv_heads);
    _tile_release();
  }
}

}  // namespace

extern "C" {

void palate_attention_forward(const Arguments* a) { each_task(*a, forward_task); }

void palate_attention_backward(const Arguments* a) {
  each_task(*a, backward_task);
#pragma omp parallel for schedule(dynamic, 1)
  for (int64_t n = 0; n < 2 * a->kv_heads; ++n) {
    thread_local Scratch<float> total_s;
    float* total = total_s.take(a->tokens * a->width);
    const int64_t kv = n / 2;
    if (n % 2)
      sum_slots(*a, a->slot_value, a->grad_value + kv * a->grad_value_head, a->grad_value_row, kv,
                total);
    else
      sum_slots(*a, a->slot_key, a->grad_key + kv * a->grad_key_head, a->grad_key_row, kv, total);
  }
}

}  // extern "C"
