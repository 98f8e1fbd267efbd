"""Binds a library's references to its own symbols: bind_locally.py LIBRARY [OTHER...]

Each reference in a library to a C++ function or object names a symbol, which the dynamic linker looks up in all loaded
libraries whenever a process starts: a fifth of a second for the 300,000 of them in TensorFlow. Those that LIBRARY itself
defines become plain addresses here. Left alone are symbols that another library may define as well: those of OTHER, which
the process loads before LIBRARY, those of C and of the C++ library, and all that are not functions or objects.

elf(5) has the structures; the System V ABI's AMD64 supplement has what relocations mean (section "Relocation").
"""

import mmap
import struct
import sys
from typing import NamedTuple

RELA, DYNAMIC, DYNSYM = 4, 6, 11  # types of sections
DT_RELA, DT_RELACOUNT = 7, 0x6FFFFFF9  # tags of the dynamic section
R_64, R_GLOB_DAT, R_RELATIVE = 1, 6, 8  # types of relocations
GLOBAL, WEAK = 1, 2  # bindings of symbols
OBJECT, FUNC = 1, 2  # types of symbols

# How the names of operators new and delete begin, and those in the namespaces of the C++ library, most of which have
# short forms. Functions, then tables, type information and guards.
CPP_LIBRARY = (b"_Zn", b"_Zd") + tuple(
    start + name
    for start in (b"_Z", b"_ZN", b"_ZNK", b"_ZTV", b"_ZTVN", b"_ZTI", b"_ZTIN", b"_ZTS", b"_ZTSN", b"_ZTT", b"_ZTTN", b"_ZGVN")
    for name in (b"St", b"Sa", b"Sb", b"Ss", b"Si", b"So", b"Sd", b"9__gnu_cxx", b"10__cxxabiv1")
)


class Section(NamedTuple):
    name: int
    type: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    alignment: int
    entry_size: int


class Symbol(NamedTuple):
    name: bytes
    binding: int
    type: int
    section: int
    address: int

    def is_own(self, others):
        """Whether it is surely this library's that is meant. A symbol without a section is defined elsewhere."""
        return (
            self.section != 0
            and self.binding in (GLOBAL, WEAK)
            and self.type in (OBJECT, FUNC)
            and self.name.startswith(b"_Z")
            and not self.name.startswith(CPP_LIBRARY)
            and self.name not in others
        )


class Library:
    def __init__(self, path, access):
        with open(path, "r+b" if access == mmap.ACCESS_WRITE else "rb") as file:
            self.bytes = mmap.mmap(file.fileno(), 0, access=access)
        if self.bytes[:6] != b"\x7fELF\x02\x01":
            sys.exit(f"{path}: expected a 64-bit little-endian ELF file")
        (start,) = struct.unpack_from("<Q", self.bytes, 40)
        size, count = struct.unpack_from("<HH", self.bytes, 58)
        sections = [Section(*struct.unpack_from("<IIQQQQIIQQ", self.bytes, start + size * i)) for i in range(count)]
        (self.symbols,) = [section for section in sections if section.type == DYNSYM]
        self.names = sections[self.symbols.link]
        (dynamic,) = [section for section in sections if section.type == DYNAMIC]
        # From each tag to the place of its value.
        self.tags = {}
        for entry in range(dynamic.offset, dynamic.offset + dynamic.size, 16):
            self.tags.setdefault(*struct.unpack_from("<Q", self.bytes, entry), entry + 8)
        (address,) = struct.unpack_from("<Q", self.bytes, self.tags[DT_RELA])
        (self.relocations,) = [section for section in sections if (section.type, section.address) == (RELA, address)]

    def symbol(self, index):
        name, info, _, section, address, _ = struct.unpack_from("<IBBHQQ", self.bytes, self.symbols.offset + 24 * index)
        name += self.names.offset
        return Symbol(self.bytes[name : self.bytes.find(b"\0", name)], info >> 4, info & 15, section, address)

    def defined(self):
        """The names of all symbols that are defined here."""
        symbols = map(self.symbol, range(self.symbols.size // 24))
        return {symbol.name for symbol in symbols if symbol.section != 0}

    def bound(self, others):
        """The relocations, those by the library's own symbols as addresses."""
        start, size = self.relocations.offset, self.relocations.size
        addresses = {}
        for place, info, addend in struct.iter_unpack("<QQq", self.bytes[start : start + size]):
            kind, index = info & 0xFFFFFFFF, info >> 32
            if kind in (R_64, R_GLOB_DAT):
                if index not in addresses:
                    symbol = self.symbol(index)
                    addresses[index] = symbol.address if symbol.is_own(others) else None
                if addresses[index] is not None:
                    # R_X86_64_GLOB_DAT is the symbol's address, whatever its addend.
                    addend = addresses[index] + (addend if kind == R_64 else 0)
                    info = R_RELATIVE
            yield place, info, addend

    def bind(self, others):
        relocations = list(self.bound(others))
        # The dynamic linker wants the plain addresses first, and their count.
        plain = sorted(entry for entry in relocations if entry[1] == R_RELATIVE)
        rest = [entry for entry in relocations if entry[1] != R_RELATIVE]
        for index, entry in enumerate(plain + rest):
            struct.pack_into("<QQq", self.bytes, self.relocations.offset + 24 * index, *entry)
        struct.pack_into("<Q", self.bytes, self.tags[DT_RELACOUNT], len(plain))
        self.bytes.flush()


def main(path, *others):
    defined = (Library(other, mmap.ACCESS_READ).defined() for other in others)
    Library(path, mmap.ACCESS_WRITE).bind(set().union(*defined))


main(*sys.argv[1:])
