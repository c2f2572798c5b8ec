// Runs kernels.cu on the host, thread by thread: every CUDA thread is a fiber that stops at barriers.
//
// A warp runs as far as it can before the next one starts, its lanes one after the other, in rising or falling order:
// so a thread that needs a barrier which is not there meets memory that is not written yet, or already written again.
// Barriers that not all threads reach, or that lie on different lines, are errors.
#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#define __global__
#define __device__
#define __restrict__
#define __launch_bounds__(...)
#define __shared__ static  // one block runs at a time

using std::erf;
using std::exp;
using std::fabs;
using std::frexp;
using std::ldexp;
using std::log;
using std::max;
using std::sqrt;

struct Index { unsigned x, y; };
static Index threadIdx, blockIdx, blockDim, gridDim;

namespace emulator {

const int WARP = 32;
const size_t STACK = 1 << 15;
enum State { RUNNING, IN_WARP_BARRIER, IN_BARRIER, DONE };

struct Fiber {
    std::vector<char> stack;  // empty until the fiber starts
    jmp_buf where;            // it goes on; unlike swapcontext, longjmp makes no system call
    State state;
    int line;
    uint64_t offered;  // to the other lanes
};

static std::vector<Fiber> fibers;
static jmp_buf scheduler;
static int current;
static void (*kernel)(void**);
static void** arguments;

static void stop(State state, int line) {
    fibers[current].state = state;
    fibers[current].line = line;
    if (!_setjmp(fibers[current].where)) _longjmp(scheduler, 1);
}

static void entry() {
    for (;;) {  // once for every block
        kernel(arguments);
        stop(DONE, 0);
    }
}

// Runs a thread until it stops.
static void run(int thread) {
    current = thread;
    threadIdx = {thread % blockDim.x, thread / blockDim.x};
    Fiber& fiber = fibers[thread];
    if (_setjmp(scheduler)) return;
    if (!fiber.stack.empty()) _longjmp(fiber.where, 1);
    fiber.stack.resize(STACK);
    ucontext_t start;
    getcontext(&start);
    start.uc_stack.ss_sp = fiber.stack.data();
    start.uc_stack.ss_size = STACK;
    makecontext(&start, entry, 0);
    setcontext(&start);
}

// Whether all of these threads wait in the same barrier (true) or are all done (false).
static bool waiting(int first, int last, State barrier) {
    for (int i = first; i < last; ++i) {
        if (fibers[i].state != fibers[first].state) throw std::string("a barrier that not all threads reach");
        if (fibers[i].line != fibers[first].line) throw std::string("threads wait in different barriers");
    }
    return fibers[first].state == barrier;
}

static void release(int first, int last) {
    for (int i = first; i < last; ++i) fibers[i].state = RUNNING;
}

static void run_warp(int first, int last, bool falling) {
    do {
        release(first, last);
        for (int n = 0; n < last - first; ++n) run(falling ? last - 1 - n : first + n);
    } while (waiting(first, last, IN_WARP_BARRIER));
}

static void run_block(bool falling) {
    int n = blockDim.x * blockDim.y, warps = (n + WARP - 1) / WARP;
    do {
        for (int w = 0; w < warps; ++w) {
            int first = (falling ? warps - 1 - w : w) * WARP;
            run_warp(first, std::min(first + WARP, n), falling);
        }
    } while (waiting(0, n, IN_BARRIER));
}

// The library's one entry: null, or what went wrong.
static const char* launch(void (*f)(void**), void** args, const unsigned* grid, const unsigned* block, int falling) {
    static std::string error;
    kernel = f, arguments = args;
    gridDim = {grid[0], grid[1]}, blockDim = {block[0], block[1]};
    if (fibers.size() < block[0] * block[1]) fibers.resize(block[0] * block[1]);
    try {
        for (unsigned y = 0; y < grid[1]; ++y)
            for (unsigned x = 0; x < grid[0]; ++x) {
                blockIdx = falling ? Index{grid[0] - 1 - x, grid[1] - 1 - y} : Index{x, y};
                run_block(falling);
            }
    } catch (const std::string& what) {
        error = what;
        fibers.clear();
        return error.c_str();
    }
    return nullptr;
}

template <typename V> V from_lane(V v, int step, int line) {
    int me = current;
    memcpy(&fibers[me].offered, &v, sizeof v);
    stop(IN_WARP_BARRIER, line);
    V out;
    memcpy(&out, &fibers[me ^ step].offered, sizeof out);
    stop(IN_WARP_BARRIER, line);
    return out;
}

// Calls a kernel with arguments given by their addresses, as a driver does.
template <typename... A, size_t... I> void call(void (*f)(A...), void** args, std::index_sequence<I...>) {
    f(*static_cast<A*>(args[I])...);
}

template <typename... A> void call(void (*f)(A...), void** args) { call(f, args, std::index_sequence_for<A...>()); }

}  // namespace emulator

#define __syncthreads() emulator::stop(emulator::IN_BARRIER, __LINE__)
#define __shfl_xor_sync(mask, v, step) emulator::from_lane(v, step, __LINE__)

inline float half_to_float(unsigned short h) {
    int power = h >> 10 & 31, digits = h & 1023;
    float v = power == 31 ? (digits ? NAN : INFINITY) : ldexp(float(power ? digits + 1024 : digits), std::max(power, 1) - 25);
    return h & 0x8000 ? -v : v;
}

inline unsigned short float_to_half(float f) {
    unsigned short sign = std::signbit(f) ? 0x8000 : 0;
    if (f != f) return sign | 0x7fff;
    f = fabs(f);
    if (f >= 65520) return sign | 0x7c00;
    int power = f < ldexp(1.0f, -14) ? -14 : std::ilogb(f);
    return sign | (unsigned short)(((power + 14) << 10) + std::nearbyint(ldexp(f, 10 - power)));  // a carry goes up
}
