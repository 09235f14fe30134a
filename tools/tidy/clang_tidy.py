#!/usr/bin/env python3
"""clang_tidy.py - clang-tidy over what changed: a file is read again only if what it sees changed.

The key of a file is the digest of its preprocessed text (comments included, they hold NOLINT), of
.clang-tidy and of the tool's version; files that were clean under their key are remembered in the
build folder. The last line of the output says how far it is.
"""

import argparse
import concurrent.futures
import hashlib
import json
import os
import re
import shlex
import subprocess
import sys

# Flags of the compiler that wrote compile_commands.json are not all known to clang.
EXTRA_ARGS = ["--extra-arg=-Wno-unknown-warning-option"]
# These are errors to clang, not warnings.
GCC_ONLY = re.compile(r" -mmem(?:cpy|set)-strategy=\S+")
# The analyzer walks each function until it has made so many states; its own bound is 225,000, which takes
# four times as long and is what --deep leaves.
SHALLOW_ARGS = [
    f"--extra-arg={word}" for word in ["-Xclang", "-analyzer-config", "-Xclang", "max-nodes=50000"]
]
# Paths through a test say little and take most of the time, and its products are small constants;
# the other checks are for tests too.
TEST_ARGS = ["--checks=-clang-analyzer-*,-bugprone-implicit-widening-of-multiplication-result"]
FINDING = re.compile(r"^\S+:\d+:\d+: (?:error|warning): .*$", re.M)


def run(command, folder):
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def compile_command(entry):
    """The entry's arguments without what writes a file, and without a launcher before the compiler."""
    words = shlex.split(entry["command"])
    if os.path.basename(words[0]) == "ccache":
        words = words[1:]
    kept, skip = [], False
    for word in words:
        if skip or word in ("-c", "-MD", "-MMD"):
            skip = False
        elif word in ("-o", "-MF", "-MT", "-MQ"):
            skip = True
        else:
            kept.append(word)
    return kept


class Checker:
    """One run over a build folder."""

    def __init__(self, root, build, deep=False):
        self.root, self.build = root, build
        self.args = EXTRA_ARGS + ([] if deep else SHALLOW_ARGS)
        self.commands = self.write_commands()
        self.memory_path = os.path.join(build, "clang-tidy-clean.json")
        with open(os.path.join(root, ".clang-tidy"), encoding="utf-8") as file:
            self.salt = file.read() + run(["clang-tidy", "--version"], root).stdout
        self.salt += "deep" if deep else ""
        try:
            with open(self.memory_path, encoding="utf-8") as file:
                self.clean = json.load(file)
        except (OSError, ValueError):
            self.clean = {}

    def read_commands(self):
        with open(os.path.join(self.build, "compile_commands.json"), encoding="utf-8") as file:
            return json.load(file)

    def write_commands(self):
        """A folder with the commands as clang takes them."""
        folder = os.path.join(self.build, "clang-tidy")
        os.makedirs(folder, exist_ok=True)
        entries = self.read_commands()
        for entry in entries:
            entry["command"] = GCC_ONLY.sub("", entry["command"])
        with open(os.path.join(folder, "compile_commands.json"), "w", encoding="utf-8") as file:
            json.dump(entries, file)
        return folder

    def entries(self):
        """Our own files, each once."""
        entries = self.read_commands()
        inside = os.path.join(self.root, "")
        seen = {}
        for entry in entries:
            path = os.path.realpath(os.path.join(entry["directory"], entry["file"]))
            if path.startswith(inside) and os.path.exists(path):
                seen.setdefault(path, entry)
        return sorted(seen.items())

    def is_test(self, path):
        return os.path.relpath(path, self.root).startswith("tests" + os.sep)

    def key(self, entry):
        result = run(compile_command(entry) + ["-E", "-C"], entry["directory"])
        if result.returncode != 0:
            return None  # clang-tidy says why
        return hashlib.sha256((self.salt + result.stdout).encode()).hexdigest()

    def check(self, path, entry):
        """(path, key, report): an empty report is a clean file."""
        key = self.key(entry)
        if key is not None and self.clean.get(path) == key:
            return path, key, ""
        args = self.args + (TEST_ARGS if self.is_test(path) else [])
        result = run(["clang-tidy", "--quiet", "-p", self.commands, *args, path], self.root)
        if result.returncode == 0:
            return path, key, ""
        return path, None, result.stdout + result.stderr

    def remember(self, clean):
        with open(self.memory_path + ".new", "w", encoding="utf-8") as file:
            json.dump(clean, file)
        os.replace(self.memory_path + ".new", self.memory_path)


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    root = os.path.realpath(os.path.join(here, "..", ".."))
    parser = argparse.ArgumentParser(description="Runs clang-tidy on files that changed.")
    parser.add_argument("--build", default=os.path.join(root, "build", "plain"))
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--deep", action="store_true", help="all that the analyzer would look at")
    args = parser.parse_args()

    checker = Checker(root, os.path.realpath(args.build), args.deep)
    entries = checker.entries()
    clean, reports = {}, []
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        pending = [pool.submit(checker.check, path, entry) for path, entry in entries]
        for done in concurrent.futures.as_completed(pending):
            path, key, report = done.result()
            if report:
                reports.append(report)
            elif key:
                clean[path] = key
            count = len(clean) + len(reports)
            print(f"[{count}/{len(entries)}] {os.path.relpath(path, root)}", flush=True)
    checker.remember(clean)
    for report in sorted(reports):
        print(report)
    # A header's finding comes with each file that includes it: once is enough, and last of all.
    findings = {line for report in reports for line in FINDING.findall(report)}
    for line in sorted(findings):
        print(line.removeprefix(os.path.join(root, "")))
    print(f"clang-tidy: {len(entries)} files, {len(reports)} with findings")
    return 1 if reports else 0


if __name__ == "__main__":
    sys.exit(main())
