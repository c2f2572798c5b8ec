// The CUDA kernels: the formulas of kernels.py and updates.py, a block of threads working on each slice or column.
//
// Compiled once for each dtype, with -DSTORED=float16, float or double: `stored` is what arrays hold, `real` what is
// computed with and what statistics are kept in. Needs no header. All threads of a block take the same branches around
// barriers; sums are always added in one order, so that the same call gives the same bits.
//
// Not to be compiled with fast-math: infinity, NaN and subnormal numbers count.

struct float16 { unsigned short bits; };

#ifdef __CUDACC__  // the emulator brings its own
__device__ float half_to_float(unsigned short h) {
    float f;
    asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(h));
    return f;
}

__device__ unsigned short float_to_half(float f) {
    unsigned short h;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(f));
    return h;
}
#endif

__device__ inline float widen(float16 v) { return half_to_float(v.bits); }
__device__ inline float widen(float v) { return v; }
__device__ inline double widen(double v) { return v; }
__device__ inline void store(float16* to, float v) { to->bits = float_to_half(v); }
__device__ inline void store(float* to, float v) { *to = v; }
__device__ inline void store(double* to, double v) { *to = v; }

typedef STORED stored;
typedef decltype(widen(stored())) real;

const int KEPT = 8;           // elements that a thread reads together; those of a slice it keeps in registers
const int MOST_THREADS = 512; // of a block that works on a slice; always a power of two, at least 32
const int COLUMNS = 32;       // of a block that works on columns, blockDim.x; blockDim.y lanes, at most LANES, share a column
const int LANES = 16;
const int CHUNK = 16;         // rows of a column that a thread looks at together
const int FAR_SHIFT = 64;     // see FAR in kernels.py

// ---- arithmetic

__device__ inline real larger(real a, real b) { return a != a || a > b ? a : b; }  // NaN if either is

__device__ inline real inverse_root(real v) { return v == 0 ? 0 : 1 / sqrt(v); }

__device__ inline real power(int k) { return ldexp(real(1), k); }

// k with v / 2^k in [1/2, 1), held where both 2^k and 2^-k are normal numbers; 0 for infinity and NaN.
__device__ inline int exponent(real v) {
    const int most = sizeof(real) == 8 ? 1021 : 125;
    int k = 0;
    if (v - v == 0) frexp(v, &k);
    if (v == 0) return -most;
    return k < -most ? -most : k > most ? most : k;
}

struct Two { real a, b; };  // two sums at once need half the barriers

struct Sum {
    __device__ real operator()(real v, real w) const { return v + w; }
    __device__ Two operator()(Two v, Two w) const { return {v.a + w.a, v.b + w.b}; }
};

struct Largest {
    __device__ real operator()(real v, real w) const { return larger(v, w); }
};

__device__ inline real from_lane(real v, int step) { return __shfl_xor_sync(0xffffffffu, v, step); }
__device__ inline Two from_lane(Two v, int step) { return {from_lane(v.a, step), from_lane(v.b, step)}; }

// All threads' values combined, the same in every thread: first in each warp, then over the warps.
template <typename V, typename F> __device__ V combined(V v, F f) {
    __shared__ V of_warp[32];
    for (int step = 16; step; step /= 2) v = f(v, from_lane(v, step));
    int warps = blockDim.x / 32;
    if (warps == 1) return v;
    __syncthreads();  // of_warp may still be read for the last result
    if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = v;
    __syncthreads();
    v = of_warp[threadIdx.x % warps];
    for (int step = warps / 2; step; step /= 2) v = f(v, from_lane(v, step));
    return v;
}

template <typename V> __device__ V total(V v) { return combined(v, Sum()); }

// ---- slices: block s works on slice s of an array (runs, slices, length), which is contiguous when runs is 1

// f(j, k) for this thread's share of n elements: j is the element, k its register, or KEPT when it has none.
template <typename F> __device__ void share(unsigned n, F f) {
    #pragma unroll
    for (int k = 0; k < KEPT; ++k) {
        unsigned j = threadIdx.x + k * blockDim.x;
        if (j < n) f(j, k);
    }
    #pragma unroll 4
    for (unsigned j = threadIdx.x + KEPT * blockDim.x; j < n; j += blockDim.x) f(j, KEPT);
}

struct Row {  // runs is 1: kept apart, as a division for each element costs more than the reading
    size_t first;
    unsigned size;
    __device__ Row(long long length) : first(blockIdx.x * (size_t)length), size(length) {}
    __device__ size_t at(unsigned j) const { return first + j; }
};

struct Runs {
    size_t first, gap;
    unsigned length, size;
    __device__ Runs(long long runs, long long slices, long long length)
        : first(blockIdx.x * (size_t)length), gap((slices - 1) * length), length(length), size(runs * length) {}
    __device__ size_t at(unsigned j) const { return first + j + j / length * gap; }
};

// The elements of a slice.
template <typename T, typename S> struct Elements {
    const T* x;
    S slice;
    real kept[KEPT];
    __device__ Elements(const T* x, S slice) : x(x), slice(slice) {
        share(slice.size, [&](unsigned j, int k) { if (k < KEPT) kept[k] = widen(x[slice.at(j)]); });
    }
    __device__ real operator()(unsigned j, int k) const { return k < KEPT ? kept[k] : widen(x[slice.at(j)]); }
};

// Where a slice's weights (and biases) begin: one for the slice or (`each`) one for every element, and they start again
// after `period` slices.
__device__ inline size_t gains_from(long long period, long long each, unsigned size) {
    return blockIdx.x % (unsigned)period * (each ? (size_t)size : 1);
}

extern "C" __global__ void __launch_bounds__(MOST_THREADS) norm_slices(
    const stored* __restrict__ x, const real* __restrict__ weight, const real* __restrict__ bias,
    stored* __restrict__ y, real* shift, real* mean, real* var, real* rstd,  // shift is null: no mean is subtracted
    long long runs, long long slices, long long length, long long period, long long each, double eps) {
    auto work = [&](auto slice) {
        unsigned n = slice.size, step = each;
        Elements<stored, decltype(slice)> v(x, slice);
        const real *w = weight + gains_from(period, each, n), *b = bias + gains_from(period, each, n);
        real largest = 0, inverse_n = real(1.0 / n);
        share(n, [&](unsigned j, int k) { largest = larger(largest, fabs(v(j, k))); });
        int k2 = exponent(larger(combined(largest, Largest()), sqrt(real(eps))));
        real down = power(-k2), up = power(k2), small_eps = real(eps) * down * down;
        real s = shift ? widen(x[slice.at(0)]) * down : real(0), m = 0, square, r;
        for (bool nearer = false;; nearer = true) {
            real sum = 0, squares = 0;
            if (shift) {
                share(n, [&](unsigned j, int k) { sum += v(j, k) * down - s; });
                m = total(sum) * inverse_n;
            }
            share(n, [&](unsigned j, int k) {
                real d = (v(j, k) * down - s) - m;
                squares += d * d;
            });
            square = total(squares) * inverse_n;
            r = inverse_root(square + small_eps);
            if (nearer || n <= FAR_SHIFT || !(m * r * (m * r) > FAR_SHIFT)) break;
            s += m;
        }
        share(n, [&](unsigned j, int k) {
            real out = ((v(j, k) * down - s) - m) * r;
            if (weight) out *= w[j * step];
            if (bias) out += b[j * step];
            store(&y[slice.at(j)], out);
        });
        if (threadIdx.x) return;
        if (shift) shift[blockIdx.x] = s * up, mean[blockIdx.x] = m * up;
        var[blockIdx.x] = square * up * up;
        rstd[blockIdx.x] = square == 0 ? inverse_root(real(eps)) : r * down;
    };
    if (runs == 1) work(Row(length));
    else work(Runs(runs, slices, length));
}

// gx; and, where `sums` is not null (one weight for each slice), sum(g) and sum(g xhat) of every slice.
extern "C" __global__ void __launch_bounds__(MOST_THREADS) norm_slices_backward(
    const stored* __restrict__ g, const stored* __restrict__ x, const real* shift, const real* mean, const real* rstd,
    const real* __restrict__ weight, real* __restrict__ gx, real* sums,
    long long runs, long long slices, long long length, long long period, long long each) {
    auto work = [&](auto slice) {
        unsigned n = slice.size;
        Elements<stored, decltype(slice)> v(x, slice), h(g, slice);
        const real* w = weight + gains_from(period, each, n);
        real s = shift ? shift[blockIdx.x] : real(0), m = shift ? mean[blockIdx.x] : real(0), r = rstd[blockIdx.x];
        real outside = weight && !each ? *w : real(1), inverse_n = real(1.0 / n);
        bool inside = weight && each;
        auto hj = [&](unsigned j, int k) { return inside ? h(j, k) * w[j] : h(j, k); };
        Two t = {0, 0};
        share(n, [&](unsigned j, int k) {
            t.a += hj(j, k);
            t.b += hj(j, k) * (((v(j, k) - s) - m) * r);
        });
        t = total(t);
        real mean_h = shift ? t.a * inverse_n : real(0), mean_hx = t.b * inverse_n;
        share(n, [&](unsigned j, int k) {
            real xhat = ((v(j, k) - s) - m) * r;
            gx[slice.at(j)] = (hj(j, k) - xhat * mean_hx - mean_h) * outside * r;
        });
        if (sums && threadIdx.x == 0) sums[blockIdx.x] = t.a, sums[slices + blockIdx.x] = t.b;
    };
    if (runs == 1) work(Row(length));
    else work(Runs(runs, slices, length));
}

extern "C" __global__ void __launch_bounds__(MOST_THREADS) unit_slices(
    const stored* __restrict__ x, stored* __restrict__ u, real* norm, long long length, double eps) {
    Row slice(length);
    Elements<stored, Row> v(x, slice);
    real largest = 0, squares = 0, clamp = real(eps);
    share(slice.size, [&](unsigned j, int k) { largest = larger(largest, fabs(v(j, k))); });
    int k2 = exponent(combined(largest, Largest()));
    real down = power(-k2);
    share(slice.size, [&](unsigned j, int k) { squares += v(j, k) * down * (v(j, k) * down); });
    real scaled = sqrt(total(squares)), whole = scaled * power(k2), by = scaled == 0 ? real(1) : scaled;
    bool clamped = clamp != 0 && whole < clamp;
    share(slice.size, [&](unsigned j, int k) {
        store(&u[slice.at(j)], clamped ? v(j, k) / clamp : v(j, k) * down / by);
    });
    if (threadIdx.x == 0) norm[blockIdx.x] = whole;
}

extern "C" __global__ void __launch_bounds__(MOST_THREADS) unit_slices_backward(
    const stored* __restrict__ g, const stored* __restrict__ u, const real* norm,
    real* __restrict__ gv, long long length, double eps) {
    Row slice(length);
    Elements<stored, Row> h(g, slice), v(u, slice);
    real dot = 0, whole = norm[blockIdx.x], clamp = real(eps), by = larger(whole, clamp);
    share(slice.size, [&](unsigned j, int k) { dot += h(j, k) * v(j, k); });
    dot = total(dot);
    bool clamped = clamp != 0 && whole < clamp;
    share(slice.size, [&](unsigned j, int k) {
        real along = clamped ? real(0) : v(j, k) * dot;
        gv[slice.at(j)] = whole == 0 ? real(0) : (h(j, k) - along) / by;
    });
}

// Labels have been checked; one that is no class would make its row's loss NaN.
extern "C" __global__ void __launch_bounds__(MOST_THREADS) cross_entropy(
    const stored* __restrict__ logits, const long long* labels, const real* weights, real* loss,
    real* __restrict__ p, long long classes, double smoothing) {
    Row slice(classes);
    Elements<stored, Row> z(logits, slice);
    real largest = widen(logits[slice.at(0)]), sum = 0, offsets = 0;
    share(slice.size, [&](unsigned j, int k) { largest = larger(largest, z(j, k)); });
    largest = combined(largest, Largest());
    share(slice.size, [&](unsigned j, int k) {
        offsets += z(j, k) - largest;
        sum += exp(z(j, k) - largest);
    });
    Two t = total(Two{sum, offsets});
    share(slice.size, [&](unsigned j, int k) { p[slice.at(j)] = exp(z(j, k) - largest) / t.a; });
    if (threadIdx.x) return;
    long long label = labels[blockIdx.x];
    real chosen = label >= 0 && label < classes ? widen(logits[slice.at(label)]) - largest : sqrt(real(-1));
    real out = log(t.a) - chosen;
    if (smoothing != 0) out += real(smoothing) * (chosen - t.b * real(1.0 / classes));
    loss[blockIdx.x] = weights[blockIdx.x] == 0 ? real(0) : out * weights[blockIdx.x];
}

extern "C" __global__ void __launch_bounds__(MOST_THREADS) cross_entropy_backward(
    const real* g, const real* __restrict__ p, const long long* labels, const real* weights,
    real* __restrict__ grad, long long classes, double smoothing) {
    Row slice(classes);
    real scale = g[blockIdx.x] * weights[blockIdx.x], even = real(smoothing / classes);
    long long label = labels[blockIdx.x];
    share(slice.size, [&](unsigned j, int) {
        real target = j == label ? real(1 - smoothing) : real(0);
        grad[slice.at(j)] = scale == 0 ? real(0) : ((p[slice.at(j)] - even) - target) * scale;
    });
}

// ---- columns of an array (rows, columns): blocks of COLUMNS x lanes threads, a grid of (tiles of columns, parts)
//
// `length` columns side by side are one slice: 1 or, of pictures, their size.

// Statistics of a part of a column, scaled by 2^-exponent. The mean is shift + mean, squares the sum of (x - mean)^2.
struct Part {
    real count, shift, mean, squares;
    int exponent;
};

// The statistics of two parts together (Chan, Golub, LeVeque 1979). The new shift is the mean, rounded, and the new
// mean what the rounding left: so that no shift is far from its column, and a constant column still has mean 0.
__device__ Part merged(Part a, Part b) {
    if (a.count == 0) return b;
    if (b.count == 0) return a;
    int k = max(a.exponent, b.exponent);
    real p = power(a.exponent - k), q = power(b.exponent - k);
    real from = a.shift * p, count = a.count + b.count, weight = b.count / count;
    real gap = (b.shift * q - from) + (b.mean * q - a.mean * p);
    real squares = a.squares * p * p + b.squares * q * q + gap * gap * (a.count * weight);
    real step = a.mean * p + gap * weight, sum = from + step, back = sum - from;
    return {count, sum, (from - (sum - back)) + (step - back), squares, k};
}

// The statistics of n >= 1 values, by the one recipe.
__device__ Part part_of(const real* v, int n) {
    real largest = 0, mean = 0, squares = 0;
    #pragma unroll
    for (int i = 0; i < CHUNK; ++i) if (i < n) largest = larger(largest, fabs(v[i]));
    int k = exponent(largest);
    real down = power(-k), shift = v[0] * down;
    #pragma unroll
    for (int i = 0; i < CHUNK; ++i) if (i < n) mean += v[i] * down - shift;
    mean *= real(1.0 / n);
    #pragma unroll
    for (int i = 0; i < CHUNK; ++i) if (i < n) {
        real d = (v[i] * down - shift) - mean;
        squares += d * d;
    }
    return {real(n), shift, mean, squares, k};
}

// The column's value combined over the lanes, in lane 0.
template <typename V, typename F> __device__ V over_lanes(V v, F f) {
    __shared__ V of_lane[LANES][COLUMNS];
    of_lane[threadIdx.y][threadIdx.x] = v;
    __syncthreads();
    if (threadIdx.y == 0) for (int lane = 1; lane < blockDim.y; ++lane) v = f(v, of_lane[lane][threadIdx.x]);
    return v;
}

// parts[blockIdx.y][column]
extern "C" __global__ void __launch_bounds__(LANES * COLUMNS) column_parts(
    const stored* __restrict__ x, Part* parts, long long rows, long long columns) {
    size_t column = blockIdx.x * COLUMNS + threadIdx.x;
    Part part = {0, 0, 0, 0, 0};
    for (long long first = (blockIdx.y * (long long)blockDim.y + threadIdx.y) * CHUNK; first < rows && column < columns;
         first += (long long)gridDim.y * blockDim.y * CHUNK) {
        real v[CHUNK];
        #pragma unroll
        for (int i = 0; i < CHUNK; ++i) v[i] = first + i < rows ? widen(x[(first + i) * columns + column]) : real(0);
        part = merged(part, part_of(v, rows - first < CHUNK ? rows - first : CHUNK));
    }
    part = over_lanes(part, merged);
    if (threadIdx.y == 0 && column < columns) parts[blockIdx.y * columns + column] = part;
}

// The statistics, and `scaled`, rows of four: 2^-k, and shift, mean, 1 / sqrt(var + eps) of the column times 2^-k.
extern "C" __global__ void __launch_bounds__(LANES * COLUMNS) column_statistics(
    const Part* parts, real* shift, real* mean, real* var, real* rstd, real* scaled,
    long long count, long long slices, long long length, double eps) {
    size_t column = blockIdx.x * COLUMNS + threadIdx.x;  // of slices, here
    Part part = {0, 0, 0, 0, 0};
    if (column < slices)
        for (long long i = threadIdx.y; i < count * length; i += blockDim.y)
            part = merged(part, parts[(i / length * slices + column) * length + i % length]);
    part = over_lanes(part, merged);
    if (threadIdx.y || column >= slices) return;
    int k = max(part.exponent, exponent(sqrt(real(eps))));
    real by = power(part.exponent - k), down = power(-k), up = power(k);
    real square = part.squares / part.count * by * by, r = inverse_root(square + real(eps) * down * down);
    scaled[column * 4] = down;
    scaled[column * 4 + 1] = part.shift * by;
    scaled[column * 4 + 2] = part.mean * by;
    scaled[column * 4 + 3] = r;
    shift[column] = part.shift * by * up;
    mean[column] = part.mean * by * up;
    var[column] = square * up * up;
    rstd[column] = square == 0 ? inverse_root(real(eps)) : r * down;
}

// write(read(i), i) for i = first, first + step, ... below n: several reads, and only then what is done with them. A
// write before the next read would have each thread wait for one element at a time.
template <int TOGETHER = KEPT, typename Read, typename Write>
__device__ void in_batches(long long first, long long n, long long step, Read read, Write write) {
    for (; first < n; first += TOGETHER * step) {
        decltype(read(first)) v[TOGETHER];
        #pragma unroll
        for (int k = 0; k < TOGETHER; ++k) if (first + k * step < n) v[k] = read(first + k * step);
        #pragma unroll
        for (int k = 0; k < TOGETHER; ++k) if (first + k * step < n) write(v[k], first + k * step);
    }
}

// The same for this thread's rows of a column.
template <typename Read, typename Write>
__device__ void down_column(long long rows, size_t column, size_t columns, Read read, Write write) {
    if (column < columns)
        in_batches(blockIdx.y * (long long)blockDim.y + threadIdx.y, rows, (long long)gridDim.y * blockDim.y, read, write);
}

extern "C" __global__ void __launch_bounds__(LANES * COLUMNS) norm_columns(
    const stored* __restrict__ x, const real* scaled, const real* weight, const real* bias, stored* __restrict__ y,
    long long rows, long long columns, long long length) {
    size_t column = blockIdx.x * COLUMNS + threadIdx.x, c = column < columns ? column / length : 0;
    real down = scaled[c * 4], s = scaled[c * 4 + 1], m = scaled[c * 4 + 2], r = scaled[c * 4 + 3];
    real w = weight ? weight[c] : real(1), b = bias ? bias[c] : real(0);
    auto read = [&](long long row) { return widen(x[row * columns + column]); };
    down_column(rows, column, columns, read, [&](real v, long long row) {
        real out = ((v * down - s) - m) * r;
        if (weight) out *= w;
        store(&y[row * columns + column], bias ? out + b : out);
    });
}

// Sums of g and of g xhat over a part of each column, parts[0 and 1][blockIdx.y][column]. The statistics are those of
// the columns, or (`of_rows`) of the rows; shift is null where the mean was not subtracted.
extern "C" __global__ void __launch_bounds__(LANES * COLUMNS) column_sums(
    const stored* __restrict__ g, const stored* __restrict__ x, const real* __restrict__ shift,
    const real* __restrict__ mean, const real* __restrict__ rstd, real* parts,
    long long rows, long long columns, long long length, long long of_rows) {
    size_t column = blockIdx.x * COLUMNS + threadIdx.x, c = column / length;
    Two t = {0, 0};
    auto read = [&](long long row) { return Two{widen(g[row * columns + column]), widen(x[row * columns + column])}; };
    down_column(rows, column, columns, read, [&](Two v, long long row) {
        size_t of = of_rows ? row : c;
        real d = shift ? (v.b - shift[of]) - mean[of] : v.b;
        t.a += v.a;
        t.b += v.a * (d * rstd[of]);
    });
    t = over_lanes(t, Sum());
    if (threadIdx.y || column >= columns) return;
    parts[blockIdx.y * columns + column] = t.a;
    parts[(gridDim.y + blockIdx.y) * columns + column] = t.b;
}

// sums[0 and 1][column]
extern "C" __global__ void __launch_bounds__(LANES * COLUMNS) column_totals(
    const real* parts, real* sums, long long count, long long columns) {
    size_t column = blockIdx.x * COLUMNS + threadIdx.x;
    Two t = {0, 0};
    if (column < columns)
        for (long long i = threadIdx.y; i < count; i += blockDim.y)
            t = Sum()(t, Two{parts[i * columns + column], parts[(count + i) * columns + column]});
    t = over_lanes(t, Sum());
    if (threadIdx.y == 0 && column < columns) sums[column] = t.a, sums[columns + column] = t.b;
}

extern "C" __global__ void __launch_bounds__(LANES * COLUMNS) norm_columns_backward(
    const stored* __restrict__ g, const stored* __restrict__ x, const real* shift, const real* mean, const real* rstd,
    const real* weight, const real* sums, real* __restrict__ gx, long long rows, long long columns, long long length) {
    size_t column = blockIdx.x * COLUMNS + threadIdx.x, c = column < columns ? column / length : 0;
    real s = shift[c], m = mean[c], r = rstd[c], w = weight ? weight[c] : real(1), inverse_n = real(1.0 / (rows * length));
    real mean_g = sums[c] * inverse_n, mean_gx = sums[columns / length + c] * inverse_n;
    auto read = [&](long long row) { return Two{widen(g[row * columns + column]), widen(x[row * columns + column])}; };
    down_column(rows, column, columns, read, [&](Two v, long long row) {
        real xhat = ((v.b - s) - m) * r;
        gx[row * columns + column] = (v.a - xhat * mean_gx - mean_g) * w * r;
    });
}

extern "C" __global__ void __launch_bounds__(LANES * COLUMNS) add_bias(
    stored* y, const stored* __restrict__ bias, long long rows, long long columns) {
    size_t column = blockIdx.x * COLUMNS + threadIdx.x;
    real b = column < columns ? widen(bias[column]) : real(0);
    auto read = [&](long long row) { return widen(y[row * columns + column]); };
    down_column(rows, column, columns, read, [&](real v, long long row) { store(&y[row * columns + column], v + b); });
}

// ---- elementwise

template <int TOGETHER = KEPT, typename Read, typename Write>
__device__ void everywhere(long long n, Read read, Write write) {
    long long first = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    in_batches<TOGETHER>(first, n, (long long)gridDim.x * blockDim.x, read, write);
}

extern "C" __global__ void relu(const stored* __restrict__ x, stored* __restrict__ y, long long n) {
    everywhere(n, [&](long long i) { return widen(x[i]); }, [&](real v, long long i) { store(&y[i], larger(v, 0)); });
}

extern "C" __global__ void relu_backward(
    const stored* __restrict__ g, const stored* __restrict__ y, stored* __restrict__ gx, long long n) {
    everywhere(
        n, [&](long long i) { return Two{widen(g[i]), widen(y[i])}; },
        [&](Two v, long long i) { store(&gx[i], v.b > 0 ? v.a : real(0)); });
}

extern "C" __global__ void erf_of(const stored* __restrict__ x, stored* __restrict__ y, long long n) {
    everywhere(n, [&](long long i) { return widen(x[i]); }, [&](real v, long long i) { store(&y[i], erf(v)); });
}

// SplitMix64 of key + position, as Special.bits has it.
extern "C" __global__ void dropout_mask(stored* out, long long n, long long key, long long least, double kept) {
    everywhere(n, [](long long i) { return (unsigned long long)i; }, [&](unsigned long long z, long long i) {
        z = (key + z) * 0x9E3779B97F4A7C15ull;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
        z ^= z >> 31;
        store(&out[i], z >= (unsigned long long)least ? real(kept) : real(0));
    });
}

// ---- optimizers: g becomes the step; if the flag is set, the step is 0 and no state changes

struct Values { real g, p, a, b, c; };  // of one parameter, and of its states

// step(v) gives the step of a parameter, and changes its states.
template <typename F>
__device__ void update(
    stored* g, const stored* p, stored* a, stored* b, stored* c, double decay, const double* flag, long long n, F step) {
    if (flag && *flag != 0) {
        everywhere(n, [](long long) { return real(0); }, [&](real v, long long i) { store(&g[i], v); });
        return;
    }
    auto read = [&](const stored* from, long long i) { return from ? widen(from[i]) : real(0); };
    everywhere<KEPT / 2>(  // each has several numbers
        n, [&](long long i) { return Values{widen(g[i]), read(p, i), read(a, i), read(b, i), read(c, i)}; },
        [&](Values v, long long i) {
            if (decay != 0) v.g += v.p * real(decay);
            store(&g[i], step(v));
            if (a) store(&a[i], v.a);
            if (b) store(&b[i], v.b);
            if (c) store(&c[i], v.c);
        });
}

__device__ inline real moved(real& state, double share, real v, double gain) {
    return state = state * real(share) + v * real(gain);
}

extern "C" __global__ void sgd(
    stored* __restrict__ g, const stored* __restrict__ p, stored* __restrict__ velocity, const double* flag,
    long long n, double lr, double momentum, double decay, double nesterov) {
    update(g, p, velocity, nullptr, nullptr, decay, flag, n, [&](Values& v) {
        real along = velocity ? moved(v.a, momentum, v.g, 1) : v.g;
        return (nesterov != 0 ? v.g + along * real(momentum) : along) * real(lr);
    });
}

extern "C" __global__ void adam(
    stored* __restrict__ g, const stored* __restrict__ p, stored* __restrict__ m, stored* __restrict__ v,
    const double* flag, long long n, double lr, double beta1, double beta2, double eps, double decay, double decay_step) {
    update(g, p, m, v, nullptr, decay, flag, n, [&](Values& v) {
        real mean = moved(v.a, beta1, v.g, 1 - beta1), square = moved(v.b, beta2, v.g * v.g, 1 - beta2);
        real step = mean / (sqrt(square) + real(eps)) * real(lr);
        return decay_step != 0 ? step + v.p * real(decay_step) : step;
    });
}

extern "C" __global__ void rmsprop(
    stored* __restrict__ g, const stored* __restrict__ p, stored* __restrict__ square_mean, stored* __restrict__ mean,
    stored* __restrict__ velocity, const double* flag,
    long long n, double lr, double alpha, double eps, double decay, double momentum) {
    update(g, p, square_mean, mean, velocity, decay, flag, n, [&](Values& v) {
        real square = moved(v.a, alpha, v.g * v.g, 1 - alpha);
        if (mean) {
            real m = moved(v.b, alpha, v.g, 1 - alpha);
            square = larger(square - m * m, 0);
        }
        real step = v.g / (sqrt(square) + real(eps));
        return (velocity ? moved(v.c, momentum, step, 1) : step) * real(lr);
    });
}

extern "C" __global__ void adagrad(
    stored* __restrict__ g, const stored* __restrict__ p, stored* __restrict__ square_sum, const double* flag,
    long long n, double lr, double eps, double decay) {
    update(g, p, square_sum, nullptr, nullptr, decay, flag, n, [&](Values& v) {
        return v.g / (sqrt(moved(v.a, 1, v.g * v.g, 1)) + real(eps)) * real(lr);
    });
}
