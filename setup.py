"""The build of the update step's kernels; everything static stands in pyproject.toml.

In the environment: TAOKE_NATIVE=0 builds none, TAOKE_CUDA=0 none for NVIDIA GPUs, TAOKE_CUDA=1 makes it an error if
those cannot be built (otherwise they are where nvcc is found, with or without a GPU), TAOKE_CXX_FLAGS adds to the
compiler's flags.
Where no compiler is found the installation goes on without kernels.
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

ROOT = Path(__file__).resolve().parent
X86 = platform.machine().lower() in ("x86_64", "amd64")
FLAGS = (
    "-std=c++17 -O3 -fPIC -fvisibility=hidden -Wall -Wextra -Wno-psabi"
    " -ffp-contract=off -fno-math-errno -fno-trapping-math"  # the last two change no bit
)
ISA_FLAGS = {
    "avx2": "-mavx2",
    "avx512": "-mavx512f -mavx512bw -mavx512dq -mavx512vl -mprefer-vector-width=512",
}
CUDA_FLAGS = (
    "-std=c++17 -O3 -fmad=false -Xcompiler -fPIC,-fvisibility=hidden -cudart static --threads 0"
    " -gencode arch=compute_80,code=sm_80 -gencode arch=compute_90,code=[sm_90,compute_90]"
)


class Ninja(build_ext):
    """Writes a build.ninja for each extension and has it run: every file has flags of its own."""

    def build_extension(self, ext: Extension) -> None:
        folder = Path(self.build_temp).resolve() / ext.name
        target = Path(self.get_ext_fullpath(ext.name)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        lines = cuda(target) if ext.name.endswith("._cuda") else native(target)
        (folder / "build.ninja").write_text("\n".join(lines) + "\n", encoding="utf-8")
        try:
            subprocess.run([sys.executable, "-m", "ninja", "-C", str(folder)], check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            for old in (ROOT / "core" / "optim").glob(f"{ext.name.rpartition('.')[2]}.*.so"):
                old.unlink()  # of other sources: none is better
            raise CompileError(f"{ext.name} was not built: {error}") from error


def native(target: Path) -> list[str]:
    """The kernels for the CPU."""
    compiler = os.environ.get("CXX") or next((c for c in ("c++", "g++", "clang++") if shutil.which(c)), None)
    if compiler is None:
        raise CompileError("core.optim._native was not built: no C++ compiler; set CXX, or install one")
    import pybind11

    names = ["bindings", "cpu/run", "cpu/threads", "cpu/scalar"] + (["cpu/avx2", "cpu/avx512"] if X86 else [])
    defines = ["-DTAOKE_X86"] if X86 else []
    more = os.environ.get("TAOKE_CXX_FLAGS", "")
    folders = (pybind11.get_include(), sysconfig.get_paths()["include"])
    includes = " ".join(f"-isystem {shlex.quote(folder)}" for folder in folders)
    libraries = "-undefined dynamic_lookup" if sys.platform == "darwin" else "-ldl"
    lines = [
        "rule compile",
        f" command = {compiler} {FLAGS} {' '.join(defines)} $extra {more} -MMD -MF $out.d -c $in -o $out",
        " depfile = $out.d",
        "rule link",
        f" command = {compiler} -shared {more} $in -o $out {libraries}",
    ]
    objects = []
    for name in names:
        extra = includes if name == "bindings" else ISA_FLAGS.get(Path(name).name, "")
        objects.append(f"{Path(name).name}.o")
        lines += [
            f"build {objects[-1]}: compile {escaped(ROOT / 'csrc' / f'{name}.cpp')}",
            f" extra = {extra}",
        ]
    return [*lines, f"build {escaped(target)}: link {' '.join(objects)}"]


def cuda(target: Path) -> list[str]:
    """The kernels for NVIDIA GPUs; no GPU is needed to build them."""
    compiler = shutil.which("nvcc")
    if compiler is None:
        raise CompileError("core.optim._cuda was not built: TAOKE_CUDA=1, but there is no nvcc on the path")
    return [
        "rule cuda",
        f" command = {compiler} {CUDA_FLAGS} -MMD -MF $out.d -shared $in -o $out",
        " depfile = $out.d",
        f"build {escaped(target)}: cuda {escaped(ROOT / 'csrc' / 'cuda' / 'update.cu')}",
    ]


def escaped(path: Path) -> str:
    return str(path).replace("$", "$$").replace(" ", "$ ").replace(":", "$:")


extensions = []
if os.environ.get("TAOKE_NATIVE") != "0" and sys.platform != "win32":
    extensions.append(Extension("core.optim._native", sources=[], optional=True))
    cuda_wanted = os.environ.get("TAOKE_CUDA")
    if cuda_wanted == "1" or (cuda_wanted != "0" and shutil.which("nvcc")):
        extensions.append(Extension("core.optim._cuda", sources=[], optional=cuda_wanted != "1"))

setup(ext_modules=extensions, cmdclass={"build_ext": Ninja})
