"""PURE: the one program in the throwaway's image: it sleeps for a while and ends.

Owns its bytes: a host may have no registry, no image and no compiler. Runs nothing.
"""

from __future__ import annotations

import io
import struct
import tarfile

PATH = "/selftest"  # where the program lies in the image

# What a container runtime mounts over, or puts a driver's files into: it need not make them in a read-only file system.
_FOLDERS = ("dev", "etc", "lib", "lib64", "proc", "run", "sys", "tmp", "usr", "usr/bin", "usr/lib", "usr/lib64", "var")

_BASE = 0x400000  # any address that every page size of these machines divides
_HEADER = struct.Struct("<4s5B7x2HI3QI6H")  # ElfN_Ehdr, 64 bits, little-endian: elf(5)
_SEGMENT = struct.Struct("<2I6Q")  # Elf64_Phdr
_TIMESPEC = struct.Struct("<2q")
_START = _HEADER.size + _SEGMENT.size
_PAGE = 0x10000  # the largest there is on either machine; a smaller one divides it

# nanosleep(&timespec, NULL); exit(0). The timespec follows right behind the code.
_X86_64 = bytes.fromhex(
    "488d3d15000000"  # lea    rdi, [rip+21]   the timespec, 21 bytes behind this instruction
    "31f6"  # xor    esi, esi        no rest is asked for
    "b823000000"  # mov    eax, 35         nanosleep
    "0f05"  # syscall
    "31ff"  # xor    edi, edi        exit code 0
    "b83c000000"  # mov    eax, 60         exit
    "0f05"  # syscall
    "909090"  # nop               so that the timespec begins at a multiple of 4
)
_AARCH64 = struct.pack(
    "<8I",
    0x10000100,  # adr    x0, #32         the timespec, 8 instructions on
    0xD2800001,  # mov    x1, #0          no rest is asked for
    0xD2800CA8,  # mov    x8, #101        nanosleep
    0xD4000001,  # svc    #0
    0xD2800000,  # mov    x0, #0          exit code 0
    0xD2800BA8,  # mov    x8, #93         exit
    0xD4000001,  # svc    #0
    0xD503201F,  # nop
)
# By what `uname -m` and Docker's `/version` call the machine: the number in the ELF header, and the code.
_CODE = {
    "x86_64": (62, _X86_64),
    "amd64": (62, _X86_64),
    "aarch64": (183, _AARCH64),
    "arm64": (183, _AARCH64),
}
MACHINES = frozenset(_CODE)


def program(machine: str, seconds: int) -> bytes:
    """Build a static executable that sleeps so long and exits with 0.

    As process 1 of a container it has no handler for SIGTERM, which the kernel then does not deliver.

    Raises:
        KeyError: for a machine that is not among MACHINES.

    """
    number, code = _CODE[machine]
    body = code + _TIMESPEC.pack(seconds, 0)
    size = _START + len(body)
    header = _HEADER.pack(
        b"\x7fELF",
        2, 1, 1, 0, 0,  # 64 bits, little-endian, version 1, System V
        2, number, 1,  # an executable for this machine
        _BASE + _START, _HEADER.size, 0,  # where it begins; where the segment's header is; no sections
        0, _HEADER.size, _SEGMENT.size, 1, 0, 0, 0,
    )  # fmt: skip
    readable_and_executable = 5
    segment = _SEGMENT.pack(1, readable_and_executable, 0, _BASE, _BASE, size, size, _PAGE)
    return header + segment + body


def archive(content: bytes) -> bytes:
    """Pack a program as the root file system of an image: a tar with the folders that a runtime expects."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for folder in _FOLDERS:
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        entry = tarfile.TarInfo(PATH.lstrip("/"))
        entry.size, entry.mode = len(content), 0o755
        tar.addfile(entry, io.BytesIO(content))
    return packed.getvalue()
