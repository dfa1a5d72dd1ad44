"""The program in the throwaway's image: its bytes, read and run."""

from __future__ import annotations

import io
import platform
import struct
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

from ds01_policy.selftest import elf

NUMBERS = {"x86_64": 62, "aarch64": 183}
CODE = 64 + 56


@pytest.mark.parametrize("machine", sorted(elf.MACHINES))
def test_it_is_a_static_executable_of_that_machine(machine: str) -> None:
    """As a loader reads it: one segment that holds the whole file, and begins to run behind the headers."""
    content = elf.program(machine, 180)
    assert content[:7] == b"\x7fELF\x02\x01\x01"
    kind, number, version, entry, segments, sections, _, size, of_segment, count = struct.unpack_from(
        "<2HI3QI3H", content, 16
    )
    assert (kind, version, sections, size, of_segment, count) == (2, 1, 0, 64, 56, 1)
    assert number == NUMBERS["aarch64" if machine in ("aarch64", "arm64") else "x86_64"]
    load, flags, offset, address, physical, in_file, in_memory, page = struct.unpack_from("<2I6Q", content, segments)
    assert (load, flags, offset, in_file, in_memory) == (1, 5, 0, len(content), len(content))
    assert (entry, physical) == (address + CODE, address)
    assert address % page == offset % page == 0
    assert struct.unpack("<2q", content[-16:]) == (180, 0)
    assert len(content) < 200


@pytest.mark.skipif(platform.machine() not in elf.MACHINES, reason="there is no program of ours for this machine")
def test_it_sleeps_and_ends_well(tmp_path: Path) -> None:
    """Run on this machine: not before its time is over, and then by itself."""
    path = tmp_path / "selftest"
    for seconds in (0, 100):
        path.write_bytes(elf.program(platform.machine(), seconds))
        path.chmod(0o755)
        with subprocess.Popen([path], env={}) as process:
            if seconds:
                stat = Path(f"/proc/{process.pid}/stat")
                while process.poll() is None and stat.read_text().rpartition(") ")[2][0] != "S":
                    time.sleep(0.01)
                assert process.poll() is None
                process.kill()
            process.wait(60)  # one that reads another time would sleep for ages
        assert process.returncode == (-9 if seconds else 0)


def instructions(machine: str) -> list[int]:
    content = elf.program(machine, 180)
    return list(struct.unpack(f"<{(len(content) - 16 - CODE) // 4}I", content[CODE:-16]))


def test_on_arm_it_makes_the_same_two_calls() -> None:
    """Its instructions carried out on paper: nanosleep of the time behind the code, then exit with 0."""
    words = instructions("aarch64")
    registers: dict[int, int] = {}
    calls = []
    for number, word in enumerate(words):
        if word & 0x9F000000 == 0x10000000:  # adr: this instruction's place and so many bytes
            registers[word & 31] = 4 * number + ((word >> 5 & 0x7FFFF) << 2 | word >> 29 & 3)
        elif word & 0xFFE00000 == 0xD2800000:  # movz: a number
            registers[word & 31] = word >> 5 & 0xFFFF
        elif word == 0xD4000001:  # svc: the call in x8
            calls.append((registers[8], registers[0], registers[1]))
        else:
            assert word == 0xD503201F  # nop
    nanosleep, leave = 101, 93
    assert calls == [(nanosleep, 4 * len(words), 0), (leave, 0, 0)]


def test_on_intel_the_time_is_read_from_right_behind_the_code() -> None:
    """The displacement of its first instruction, seven bytes long, and the two numbers of its calls."""
    content = elf.program("x86_64", 180)
    code = content[CODE:-16]
    (displacement,) = struct.unpack_from("<i", code, 3)
    assert 7 + displacement == len(code)
    assert (code[9:14], code[18:23]) == (b"\xb8\x23\0\0\0", b"\xb8\x3c\0\0\0")


def test_for_other_machines_there_is_none() -> None:
    """That is said by whoever asks."""
    with pytest.raises(KeyError):
        elf.program("riscv64", 1)


def test_its_image_has_what_a_runtime_expects() -> None:
    """Folders to mount over, and one program that everybody may run; all of it root's."""
    content = elf.program("x86_64", 1)
    with tarfile.open(fileobj=io.BytesIO(elf.archive(content))) as tar:
        members = {member.name: member for member in tar}
        assert {name for name, member in members.items() if member.isdir()} >= {"dev", "etc", "proc", "sys", "usr/bin"}
        files = [member for member in members.values() if not member.isdir()]
        assert [(file.name, file.mode, file.uid) for file in files] == [("selftest", 0o755, 0)]
        packed = tar.extractfile(files[0])
        assert packed is not None
        assert packed.read() == content
