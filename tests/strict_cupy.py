"""A stand-in for CuPy without a GPU: NumPy's arithmetic behind an array that refuses what CuPy's array refuses.

What CuPy 14 does and this keeps to: no implicit conversion to NumPy, no NumPy arrays as operands, only the functions
and arguments that CuPy has (``SIGNATURES``; test_gpu_backend.py compares them with the real CuPy), reductions that give
arrays of no dimensions and not scalars, views that can be written to even when broadcast, indices beyond the end that
count on from the other end instead of raising, fresh memory that holds anything.

``counts`` says how often values went to the device ("put"), came back ("get"), or were read one by one ("scalar").
"""

import inspect
import operator
from collections import Counter
from types import SimpleNamespace

import numpy as np

__version__ = "14.0.0+strict"

counts = Counter()

UFUNCS = """
abs add copysign cos divide equal exp expm1 frexp greater greater_equal isfinite isnan ldexp less less_equal log log1p
logical_and logical_not logical_or maximum minimum multiply negative not_equal power sign sin sqrt subtract tanh
""".split()

SIGNATURES = {
    "all": "a, axis=None, out=None, keepdims=False",
    "any": "a, axis=None, out=None, keepdims=False",
    "arange": "start, stop=None, step=1, dtype=None",
    "argmax": "a, axis=None, dtype=None, out=None, keepdims=False",
    "argmin": "a, axis=None, dtype=None, out=None, keepdims=False",
    "broadcast_to": "array, shape",
    "clip": "a, a_min, a_max, out=None",
    "concatenate": "tup, axis=0, out=None, *, dtype=None, casting='same_kind'",
    "cumsum": "a, axis=None, dtype=None, out=None",
    "einsum": "*operands, **kwargs",
    "empty": "shape, dtype=float, order='C'",
    "expand_dims": "a, axis",
    "eye": "N, M=None, k=0, dtype=float, order='C'",
    "finfo": "dtype",
    "flip": "a, axis=None",
    "full": "shape, fill_value, dtype=None, order='C'",
    "full_like": "a, fill_value, dtype=None, order='K', subok=None, shape=None",
    "matmul": "*args, axes=None, axis=None, keepdims=False, casting='same_kind', dtype=None, signature=None, "
    "order='K', out=None",
    "max": "a, axis=None, out=None, keepdims=False",
    "min": "a, axis=None, out=None, keepdims=False",
    "moveaxis": "a, source, destination",
    "ones": "shape, dtype=float, order='C'",
    "ones_like": "a, dtype=None, order='K', subok=None, shape=None",
    "pad": "array, pad_width, mode='constant', **kwargs",
    "prod": "a, axis=None, dtype=None, out=None, keepdims=False",
    "real": "val",
    "repeat": "a, repeats, axis=None",
    "reshape": "a, newshape, order='C', *, copy=None",
    "shares_memory": "a, b, max_work=None",
    "squeeze": "a, axis=None",
    "stack": "tup, axis=0, out=None, *, dtype=None, casting='same_kind'",
    "sum": "a, axis=None, dtype=None, out=None, keepdims=False",
    "swapaxes": "a, axis1, axis2",
    "take_along_axis": "a, indices, axis",
    "tile": "A, reps",
    "transpose": "a, axes=None",
    "where": "condition, x=None, y=None",
    "zeros": "shape, dtype=float, order='C'",
    "zeros_like": "a, dtype=None, order='K', subok=None, shape=None",
}

METHODS = {
    "all": "axis=None, out=None, keepdims=False",
    "any": "axis=None, out=None, keepdims=False",
    "argmax": "axis=None, out=None, dtype=None, keepdims=False",
    "astype": "dtype, order='K', casting=None, subok=None, copy=True",
    "copy": "order='C'",
    "dot": "b, out=None",
    "max": "axis=None, out=None, keepdims=False",
    "mean": "axis=None, dtype=None, out=None, keepdims=False",
    "min": "axis=None, out=None, keepdims=False",
    "ravel": "order='C'",
    "reshape": "*shape, order='C', copy=None",
    "sum": "axis=None, dtype=None, out=None, keepdims=False",
    "transpose": "*axes",
}

SCATTERED = "float16 float32 float64 complex64 complex128 int32 uint32 uint64".split()
"""What ``add.at`` adds, for want of atomic additions of the others."""


def signature(text):
    """An inspect.Signature from a parameter list."""
    return inspect.signature(eval(f"lambda {text}: None"))


class ndarray:
    """An array "on the device"."""

    __slots__ = ("_a", "base")
    __hash__ = None

    def __init__(self, a, base=None):
        self._a, self.base = a, base

    # ---- what CuPy refuses

    def __array__(self, *args, **kwargs):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`.")

    def __array_ufunc__(self, ufunc, method, *args, **kwargs):
        if method != "__call__" or any(isinstance(x, np.ndarray) for x in args):
            raise TypeError(f"Unsupported type: numpy's {ufunc.__name__} on an array of the device")
        return getattr(MODULE, {"true_divide": "divide"}.get(ufunc.__name__, ufunc.__name__))(*args, **kwargs)

    def __array_function__(self, function, types, args, kwargs):
        raise TypeError(f"numpy.{function.__name__} was called with an array of the device")

    # ---- what it is

    shape = property(lambda self: self._a.shape)
    dtype = property(lambda self: self._a.dtype)
    ndim = property(lambda self: self._a.ndim)
    size = property(lambda self: self._a.size)
    strides = property(lambda self: self._a.strides)
    itemsize = property(lambda self: self._a.itemsize)
    nbytes = property(lambda self: self._a.nbytes)
    T = property(lambda self: view(self._a.T, self))
    real = property(lambda self: view(self._a.real, self) if self.dtype.kind == "c" else self)
    imag = property(lambda self: view(self._a.imag, self) if self.dtype.kind == "c" else wrap(np.zeros_like(self._a)))
    flags = property(
        lambda self: SimpleNamespace(
            c_contiguous=self._a.flags.c_contiguous, f_contiguous=self._a.flags.f_contiguous, owndata=self.base is None
        )
    )

    def __len__(self):
        return len(self._a)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    # ---- reading: each waits for the device

    def get(self, stream=None, order="C", out=None, blocking=True):
        counts["get"] += 1
        return self._a.copy()

    def item(self):
        counts["scalar"] += 1
        return self._a.item()

    def tolist(self):
        counts["get"] += 1
        return self._a.tolist()

    def __float__(self):
        return float(self.item())

    def __int__(self):
        return int(self.item())

    def __bool__(self):
        return bool(self.item())

    def __index__(self):
        return operator.index(self.item())

    def __repr__(self):
        return f"strict({self.get()!r})"

    # ---- indexing

    def __getitem__(self, index):
        found, copied = device_index(self._a, index)
        if copied:
            return wrap(np.array(self._a[found]))
        return view(self._a[found if Ellipsis in tuple_of(found) else (*tuple_of(found), ...)], self)

    def __setitem__(self, index, value):
        found, _ = device_index(self._a, index)
        self._a[found] = plain(value)


def tuple_of(index):
    return index if isinstance(index, tuple) else (index,)


def device_index(a, index):
    """An index in NumPy's terms, and whether it copies; integers out of range are wrapped, as CuPy does."""
    parts = tuple_of(index)
    copied, out = False, []
    taken = [0 if p is None or p is Ellipsis else p.ndim if is_mask(p) else 1 for p in parts]
    axis = 0
    for part, used in zip(parts, taken):
        if part is Ellipsis:
            axis += a.ndim - sum(taken)
        if isinstance(part, (list, np.ndarray)):
            counts["put"] += 1  # CuPy sends it to the device
            part = ndarray(np.asarray(part))
        if isinstance(part, ndarray):
            copied = True
            if is_mask(part):
                counts["scalar"] += 1  # the size of the result has to be known
            elif axis < a.ndim and a.shape[axis]:
                part = ndarray(part._a % a.shape[axis])
            part = part._a
        out.append(part)
        axis += used
    return (tuple(out) if isinstance(index, tuple) else out[0]), copied


def is_mask(part):
    return hasattr(part, "dtype") and part.dtype.kind == "b"


# ---- between this array and NumPy's


def plain(x):
    """What NumPy computes with instead of x: arrays of the device, and Python's and NumPy's scalars."""
    if isinstance(x, ndarray):
        return x._a
    if isinstance(x, (bool, int, float, complex, np.generic)):
        return x
    raise TypeError(f"Unsupported type {type(x)}")


def inside(x):
    """The same for any argument: lists and tuples of arrays, axes, dtypes."""
    if isinstance(x, (list, tuple)):
        return type(x)(map(inside, x))
    if isinstance(x, ndarray):
        return x._a
    if isinstance(x, np.ndarray):
        raise TypeError(f"Unsupported type {type(x)}")
    return x


def wrap(y):
    """NumPy's result as an array of the device; scalars too."""
    if isinstance(y, tuple):
        return tuple(map(wrap, y))
    return ndarray(np.asarray(y)) if isinstance(y, (np.ndarray, np.generic)) else y


def view(y, of):
    return ndarray(y, of if of.base is None else of.base)


def result(y, args):
    """Wrap a result, as a view of an argument where it is one; broadcast views can be written to in CuPy."""
    if isinstance(y, np.ndarray) and y.size:
        for x in args:
            if isinstance(x, ndarray) and x.size and np.may_share_memory(y, x._a):
                if not y.flags.writeable:  # of broadcast_to, which begins where x does
                    y = np.lib.stride_tricks.as_strided(x._a, y.shape, y.strides, writeable=True)
                return view(y, x)
    return wrap(y)


def function(name, text):
    """NumPy's function of this name, with CuPy's arguments only."""
    allowed = signature(text)
    numpys = getattr(np, name)

    def call(*args, **kwargs):
        allowed.bind(*args, **kwargs)
        if name == "where" and not isinstance(args[0], ndarray):
            raise AttributeError(f"{type(args[0]).__name__!r} object has no attribute 'astype'")
        if name in ("stack", "concatenate") and not all(isinstance(x, ndarray) for x in args[0]):
            raise TypeError("Only cupy arrays can be concatenated")
        y = numpys(*map(inside, args), **{key: inside(x) for key, x in kwargs.items()})
        if name == "empty" and y.dtype.kind in "fc":
            y.fill(np.nan)
        return result(y, args)

    call.__name__ = name
    return call


class Ufunc:
    """An elementwise function: arrays and scalars in, ``out=`` and ``dtype=`` and nothing else."""

    def __init__(self, name):
        self.name, self.numpys = name, getattr(np, name)
        self.nin = self.numpys.nin

    def __call__(self, *args, out=None, dtype=None):
        if not self.nin <= len(args) <= self.nin + self.numpys.nout:
            raise TypeError(f"Wrong number of arguments for {self.name!r}")
        options = {} if dtype is None else {"dtype": dtype}
        with np.errstate(all="ignore"):
            if out is None:
                return wrap(self.numpys(*map(plain, args), **options))
            if not isinstance(out, ndarray):
                raise TypeError("Output arguments must be cupy.ndarray")
            self.numpys(*map(plain, args), out=out._a, **options)
        return out

    def at(self, a, indices, b=None):
        if self.name != "add":
            raise NotImplementedError(f"`{self.name}.at` is not supported yet")
        if a.dtype.name not in SCATTERED:
            raise TypeError(f"cupyx.scatter_add does not support {a.dtype}")
        np.add.at(a._a, device_index(a._a, indices)[0], plain(b))


def method(name, text):
    allowed = signature(text)

    def call(self, *args, **kwargs):
        allowed.bind(*args, **kwargs)
        kwargs = {key: inside(x) for key, x in kwargs.items()}
        if name == "copy":
            kwargs.setdefault("order", "C")
        with np.errstate(all="ignore"):
            y = getattr(self._a, name)(*map(inside, args), **kwargs)
        return wrap(y) if name in ("copy", "astype") else result(y, [self])

    return call


def binary(name):
    operate = getattr(operator, {"and": "and_", "or": "or_"}.get(name, name))

    def forward(self, other):
        with np.errstate(all="ignore"):
            return wrap(operate(self._a, plain(other)))

    def reflected(self, other):
        with np.errstate(all="ignore"):
            return wrap(operate(plain(other), self._a))

    def in_place(self, other):
        with np.errstate(all="ignore"):
            inplace(self._a, plain(other))
        return self

    inplace = getattr(operator, {"and": "iand", "or": "ior"}.get(name, f"i{name}"), None)
    setattr(ndarray, f"__{name}__", forward)
    if inplace is not None:
        setattr(ndarray, f"__r{name}__", reflected)
        setattr(ndarray, f"__i{name}__", in_place)


for _name in "add sub mul truediv floordiv mod pow matmul and or xor rshift lshift lt le gt ge eq ne".split():
    binary(_name)
ndarray.__neg__ = lambda self: wrap(-self._a)
ndarray.__invert__ = lambda self: wrap(~self._a)
ndarray.__abs__ = lambda self: wrap(abs(self._a))
for _name, _text in METHODS.items():
    setattr(ndarray, _name, method(_name, _text))


def asarray(a, dtype=None, order=None, *, copy=None, blocking=False):
    """Values of the host on the device."""
    if isinstance(a, ndarray):
        return a if dtype is None or a.dtype == dtype else a.astype(dtype)
    counts["put"] += 1
    made = np.array(a, dtype=dtype)
    if made.dtype.kind not in "biufc" or made.dtype.itemsize > 8 * (1 + (made.dtype.kind == "c")):
        raise ValueError(f"Unsupported dtype {made.dtype}")
    return ndarray(made)


class CUDARuntimeError(RuntimeError):
    """An error of the driver."""


class OutOfMemoryError(MemoryError):
    """No memory left on the device."""


class CompileException(Exception):
    """Source text that is no program."""


class CUDADriverError(RuntimeError):
    """An error of the driver's lower half."""


def compile_using_nvrtc(source, options=(), arch=None, filename="kern.cu"):
    """No GPU, no compiler."""
    raise CompileException(f"{filename}(1): warning: odd\n{filename}(7): error: no compiler in the stand-in\n1 error")


class MODULE:
    """What ``import cupy`` would give."""

    __version__ = __version__
    ndarray = ndarray
    asarray = staticmethod(asarray)
    linalg = SimpleNamespace(eigh=lambda a, UPLO="L": tuple(map(wrap, np.linalg.eigh(plain(a), UPLO))))
    cuda = SimpleNamespace(
        get_current_stream=lambda: SimpleNamespace(synchronize=lambda: counts.update(["wait"])),
        get_allocator=lambda: MODULE.allocator,
        set_allocator=lambda allocator: setattr(MODULE, "allocator", staticmethod(allocator)),
        memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
        Device=lambda: SimpleNamespace(compute_capability="00"), nvrtc=SimpleNamespace(getVersion=lambda: (12, 8)),
        driver=SimpleNamespace(CUDADriverError=CUDADriverError),
        compiler=SimpleNamespace(CompileException=CompileException, compile_using_nvrtc=compile_using_nvrtc),
        runtime=SimpleNamespace(
            CUDARuntimeError=CUDARuntimeError, getDeviceCount=lambda: 1, driverGetVersion=lambda: 12080,
            runtimeGetVersion=lambda: 12080, memGetInfo=lambda: (1000, 8000),
            getDeviceProperties=lambda device: {"name": b"a stand-in"},
        ),
    )  # fmt: skip
    pool = SimpleNamespace(used_bytes=lambda: 64, total_bytes=lambda: 512, free_all_blocks=lambda: None)
    get_default_memory_pool = staticmethod(lambda: MODULE.pool)
    allocator = staticmethod(lambda size: size)


def real(val):
    """The real part; of a number too an array, as in CuPy."""
    return val.real if isinstance(val, ndarray) else asarray(val)


for _name in UFUNCS:
    setattr(MODULE, _name, Ufunc(_name))
for _name, _text in SIGNATURES.items():
    setattr(MODULE, _name, staticmethod(function(_name, _text)))
MODULE.real = staticmethod(real)
