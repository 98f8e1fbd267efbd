"""Prints the settings of pip that say how an index is reached: pip_settings.py LOG FOLDER

LOG is what `pip config list --log` wrote, and FOLDER what relative paths start from. Each setting comes as a variable,
NAME=VALUE, with a zero byte after it. Settings that would choose what is downloaded, or where it goes, are left out.
"""

import ast
import os
import re
import sys

NAMES = """index-url extra-index-url find-links no-index trusted-host proxy cert client-cert keyring-provider timeout
    default-timeout retries use-feature use-deprecated""".split()
# Of the features that can be switched on, those that decide whose certificates count.
FEATURES = {"use-feature": ["truststore"], "use-deprecated": ["legacy-certs"]}

log, folder = sys.argv[1:]


def absolute(path):
    there = os.path.join(folder, os.path.expanduser(path))
    return there if os.path.exists(there) else path


def usable(name, value):
    if name in FEATURES:
        return " ".join(word for word in value.split() if word in FEATURES[name])
    if name in ("cert", "client-cert"):
        return absolute(value)
    if name == "find-links":
        return " ".join(absolute(word) for word in value.split())
    return value


with open(log, encoding="utf-8", errors="surrogateescape") as file:
    listed = [re.fullmatch(r"\S+ (\S+?)\.([\w-]+)=(.*)\n", line) for line in file]
settings = {}
# The later wins, as in pip.
for section in ("global", "download", ":env:"):
    for line in listed:
        if line and line[1] == section:
            settings[line[2].lower().replace("_", "-")] = ast.literal_eval(line[3])
for name in filter(settings.get, NAMES):
    value = usable(name, settings[name])
    if value:
        variable = "PIP_%s=%s\0" % (name.upper().replace("-", "_"), value)
        sys.stdout.buffer.write(variable.encode("utf-8", "surrogateescape"))
