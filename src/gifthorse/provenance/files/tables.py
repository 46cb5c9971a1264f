"""Which imports are allowed, known to be dangerous, or neither: the lists behind ``standing``."""

import re


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_STORAGES = _names(
    "BFloat16 Bool Byte Char ComplexDouble ComplexFloat Double Float Half Int Long QInt32 "
    "QInt8 QUInt2x4 QUInt4x2 QUInt8 Short"
)

_TENSORS = " ".join(f"{kind}Storage {kind}Tensor" for kind in sorted(_STORAGES))

ALLOWED: dict[str, frozenset[str]] = {
    module: _names(names)
    for module, names in {
        "builtins": "bool bytearray bytes complex dict float frozenset int list object range set "
        "slice str tuple Ellipsis NotImplemented",
        "collections": "OrderedDict Counter deque defaultdict",
        "copyreg": "_reconstructor",
        "_codecs": "encode",
        "datetime": "date datetime time timedelta timezone",
        "decimal": "Decimal",
        "fractions": "Fraction",
        "argparse": "Namespace",
        "types": "SimpleNamespace",
        "pathlib": "Path PosixPath WindowsPath PurePath PurePosixPath PureWindowsPath",
        "pathlib._local": "Path PosixPath WindowsPath PurePath PurePosixPath PureWindowsPath",
        "uuid": "UUID SafeUUID",
        "joblib.numpy_pickle": "NumpyArrayWrapper",
        "sklearn.externals.joblib.numpy_pickle": "NumpyArrayWrapper",
        "sklearn.tree._tree": "Tree",
        "transformers.trainer_utils": "IntervalStrategy SchedulerType HubStrategy SaveStrategy "
        "FSDPOption EvaluationStrategy",
        "transformers.training_args": "OptimizerNames ParallelMode",
        "accelerate.utils.dataclasses": "DistributedType",
        "numpy": "ndarray dtype matrix recarray float16 float32 float64 longdouble int8 int16 "
        "int32 int64 uint8 uint16 uint32 uint64 bool_ bool str_ bytes_ complex64 complex128 "
        "datetime64 timedelta64 object_ void",
        "numpy.dtypes": "*DType",
        "numpy.random": "RandomState Generator",
        "numpy.random._pickle": "__randomstate_ctor __generator_ctor __bit_generator_ctor",
        "numpy.random.bit_generator": "SeedSequence __pyx_unpickle_SeedSequence",
        "numpy.random._mt19937": "MT19937",
        "numpy.random._pcg64": "PCG64 PCG64DXSM",
        "numpy.random._philox": "Philox",
        "numpy.random._sfc64": "SFC64",
        "numpy.ma.core": "_mareconstruct MaskedArray",
        "numpy.matrixlib.defmatrix": "matrix",
        "numpy.core._internal": "_reconstruct",
        "numpy.ma": "_mareconstruct MaskedArray",
        "scipy.sparse._csr": "csr_matrix csr_array",
        "scipy.sparse._csc": "csc_matrix csc_array",
        "scipy.sparse._coo": "coo_matrix coo_array",
        "scipy.sparse.csr": "csr_matrix",
        "scipy.sparse.csc": "csc_matrix",
        "torch": _TENSORS
        + " Size Tensor device dtype Generator UntypedStorage bfloat16 bool complex128 "
        "complex32 complex64 float16 float32 float64 half double float float8_e4m3fn "
        "float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz float8_e8m0fnu float4_e2m1fn_x2 int8 "
        "int16 int32 int64 uint8 uint16 uint32 uint64 qint8 qint32 quint8 quint4x2 "
        "quint2x4 strided sparse_coo per_tensor_affine per_channel_affine "
        "per_tensor_symmetric per_channel_symmetric per_channel_affine_float_qparams "
        "contiguous_format channels_last preserve_format",
        "torch.cuda": _TENSORS,
        "torch.storage": "TypedStorage UntypedStorage _LegacyStorage",
        "torch._utils": "_rebuild_tensor _rebuild_tensor_v2 _rebuild_tensor_v3 _rebuild_parameter "
        "_rebuild_parameter_with_state _rebuild_qtensor _rebuild_sparse_tensor "
        "_rebuild_nested_tensor _rebuild_meta_tensor_no_storage _rebuild_wrapper_subclass "
        "_rebuild_device_tensor_from_numpy _rebuild_device_tensor_from_cpu_tensor "
        "_rebuild_sparse_csr_tensor",
        "torch._tensor": "_rebuild_from_type_v2",
        "torch.nn.parameter": "Parameter Buffer",
        "torch.serialization": "_get_layout",
    }.items()
}
for _core in ("numpy.core", "numpy._core"):
    ALLOWED[f"{_core}.multiarray"] = frozenset({"_reconstruct", "scalar"})
    ALLOWED[f"{_core}.numeric"] = frozenset({"_frombuffer"})

ONLY_BUILT = re.compile(
    r"(sklearn(\.\w+)+|torch\.nn\.modules\.\w+|torch\.optim\.\w+|transformers\.training_args"
    r"|transformers\.trainer_(pt_)?utils|accelerate\.state|accelerate\.utils\.dataclasses)"
)
"""Modules whose classes are allowed if nothing but an empty object is made of them."""

UNKNOWN_NAMES = {
    ("functools", "partial"),
    ("random", "Random"),
    ("re", "_compile"),
    ("_io", "BytesIO"),
    ("_io", "StringIO"),
    ("io", "BytesIO"),
    ("io", "StringIO"),
    ("array", "_array_reconstructor"),
    ("array", "array"),
    ("enum", "Enum"),
    ("itertools", "count"),
    ("builtins", "type"),
    ("collections", "namedtuple"),
    ("threading", "Lock"),
    ("zoneinfo", "ZoneInfo"),
    ("copyreg", "__newobj__"),
    ("copyreg", "__newobj_ex__"),
}
"""Of the standard library, neither data alone nor dangerous by itself."""

FRAMEWORKS = _names(
    "torch numpy scipy sklearn pandas joblib transformers tensorflow keras jax onnx "
    "accelerate datasets torchvision torchaudio safetensors huggingface_hub peft diffusers "
    "xgboost lightgbm PIL setuptools pkg_resources matplotlib sympy networkx"
)

DANGEROUS_PACKAGES = _names(
    "pip wheel distutils lib2to3 idlelib cloudpickle dill requests aiohttp httpx urllib3 "
    "httplib commands paramiko fabric invoke sh plumbum pexpect psutil IPython ipykernel "
    "jupyter_client execnet test nt posix ntpath posixpath _pyrepl _osx_support _aix_support "
    "imp pytest _pytest numexpr pyarrow marshal flask jinja2 mako yaml ruamel boto3 fsspec "
    "smbclient git asyncssh websockets websocket ctypes cffi numba pycparser win32api "
    "win32com pythonwin"
)

DANGEROUS_IN_FRAMEWORKS = re.compile(
    r"(^|[._])(load|loads|load_url|hub|eval|exec|execute|system|popen|run|runstring|shell|command|"
    r"subprocess|import_module|urlopen|urlretrieve|download|open|compile|compile_file|read_pickle|"
    r"fromfile|tofile|memmap|savetxt|genfromtxt|loadtxt|cpp_extension|load_library|"
    r"load_inline|crackfortran|f2py|testing|bottleneck|distutils|getlincoef|myeval)($|[._])",
    re.IGNORECASE,
)

EXECUTING_BUILTINS = _names(
    "eval exec compile open __import__ getattr setattr delattr breakpoint input globals "
    "locals vars apply execfile file reload help exit quit"
)
