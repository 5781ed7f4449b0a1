"""Let vLLM's early CPU builds load beside a C++ runtime older than GCC 13's, as Debian 12 has it.

Their library asks for version GLIBCXX_3.4.32 of libstdc++ for the sake of one symbol,
std::ios_base_library_init, which it never uses: it only makes the linker take a libstdc++ that
sets up the standard streams, which an older one leaves to each library, torch's among them. So the
version is marked as one that may be missing, which the dynamic linker then passes over. With a
runtime that has the version, nothing changes.
"""

import importlib.util
import struct
import sys
from pathlib import Path

VERSION = b"GLIBCXX_3.4.32"
WEAK = 2  # VER_FLG_WEAK


def elf_hash(name: bytes) -> int:
    """The System V ABI's, by which an ELF file refers to a version."""
    value = 0
    for byte in name:
        value = (value << 4) + byte
        high = value & 0xF0000000
        value = (value ^ high >> 24) & ~high
    return value


def weaken(library: Path) -> None:
    """Mark the version in the list of those that a library needs (an Elf64_Vernaux: the hash, then
    the flags), if it is in there."""
    strong, weak = (struct.pack("<IH", elf_hash(VERSION), flags) for flags in (0, WEAK))
    content = library.read_bytes()
    if content.count(strong) > 1:
        sys.exit(f"{library} names {VERSION.decode()} twice: not changed.")
    library.write_bytes(content.replace(strong, weak))


if __name__ == "__main__":
    found = importlib.util.find_spec("vllm")
    assert found is not None
    for library in Path(str(found.origin)).parent.glob("_C*.so"):
        weaken(library)
