"""Unpacks chosen parts of a wheel: unpack.py WHEEL DEST FROM=TO...

Every member whose path begins with FROM is written to DEST, with TO in place of FROM. A FROM that matches nothing is an
error: then the wheel is not the one the recipe was written for.
"""

import pathlib
import shutil
import sys
import zipfile

wheel, dest, *rules = sys.argv[1:]
with zipfile.ZipFile(wheel) as archive:
    members = [m for m in archive.namelist() if not m.endswith("/")]
    for rule in rules:
        source, target = rule.split("=")
        matching = [m for m in members if m.startswith(source)]
        if not matching:
            sys.exit(f"{wheel}: holds nothing named {source}")
        for member in matching:
            path = pathlib.Path(dest, target + member[len(source):])
            path.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as packed, path.open("wb") as unpacked:
                shutil.copyfileobj(packed, unpacked, 1 << 20)
