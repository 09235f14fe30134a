#!/usr/bin/env python3
"""tidy.py - the house rules that a program can check, run as the test `tidy`.

Every finding is one line: file:line: what; what to do. Exit status 1 if there is one.
"""

import argparse
import os
import posixpath
import re
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True  # the tree stays as it was checked out

import checks
import layers
import pages
from source import Source

C_SUFFIXES = (".c", ".h")
TEXT_SUFFIXES = C_SUFFIXES + (".def", ".py", ".sh", ".cmake", ".md", ".txt", ".yaml", ".yml")
SKIPPED_FOLDERS = {"build", "out", ".git", ".cache", "__pycache__"}
# Made by the linker of every shared library.
LINKER_SYMBOLS = {"_init", "_fini", "_edata", "_end", "__bss_start"}


class Tree:
    """The files of a checkout, read once, and what was found in them."""

    def __init__(self, root):
        self.root = root
        self.paths = sorted(self.list_paths())
        self.known = set(self.paths)
        self.texts = {path: self.read(path) for path in self.paths if self.is_text(path)}
        self.sources = {
            path: Source(path, text)
            for path, text in self.texts.items()
            if path.endswith(C_SUFFIXES)
        }
        self.findings = []

    def list_paths(self):
        if os.path.exists(os.path.join(self.root, ".git")):
            command = ["git", "-C", self.root, "ls-files", "-z", "-co", "--exclude-standard"]
            found = subprocess.run(command, capture_output=True, text=True, check=False)
            if found.returncode == 0:
                names = [name for name in found.stdout.split("\0") if name]
                return [name for name in names if os.path.isfile(os.path.join(self.root, name))]
        names = []
        for folder, children, files in os.walk(self.root):
            children[:] = [child for child in children if child not in SKIPPED_FOLDERS]
            for name in files:
                path = os.path.relpath(os.path.join(folder, name), self.root)
                names.append(path.replace(os.sep, "/"))
        return names

    def read(self, path):
        with open(os.path.join(self.root, path), encoding="utf-8", errors="replace") as file:
            return file.read()

    def is_text(self, path):
        if path.endswith(TEXT_SUFFIXES):
            return True
        if "." in posixpath.basename(path):
            return False
        with open(os.path.join(self.root, path), "rb") as file:
            return file.read(2) == b"#!"

    def exists(self, include_path):
        return include_path in self.known or "include/" + include_path in self.known

    def report(self, path, found):
        for line, reason in found:
            self.findings.append((path, line, reason))


def check_files(tree):
    listed = set(checks.ERRNO_DEF.findall(tree.texts.get("base/err.def", "")))
    for path, text in tree.texts.items():
        tree.report(path, checks.check_purpose(path, text))
        tree.report(path, checks.check_unfinished(path, text))
        if posixpath.basename(path) == "README.md" and "/" in path:
            tree.report(path, checks.check_readme(path, text))
        if path.startswith("docs/") and path.endswith(".md"):
            tree.report(path, pages.check_page(text, tree.texts.get))
    for path, source in tree.sources.items():
        tree.report(path, layers.check_source(source, tree.exists))
        tree.report(path, checks.check_calls(source))
        tree.report(path, checks.check_size(source))
        tree.report(path, checks.check_functions(source))
        if listed:
            tree.report(path, checks.check_errnos(source, listed))
        if path.startswith("include/") and path.endswith(".h"):
            tree.report(path, checks.check_public_header(source))


def check_modules(tree):
    included = {}
    for path, source in tree.sources.items():
        here = included.setdefault(layers.layer_of(path), set())
        for include in source.includes():
            if include.quoted and "/" in include.path and not include.path.startswith("farpool/"):
                here.add(layers.layer_of(include.path))
    for path, text in tree.texts.items():
        if posixpath.basename(path) == "CMakeLists.txt":
            tree.report(path, layers.check_cmake(path, text, included))


def check_folders(tree):
    """Each folder with code has a page; tests/ mirrors the tree and has one for all of it."""
    folders = {}
    for path in tree.paths:
        folder = posixpath.dirname(path)
        if folder.startswith(("include/", "tests/")):
            folder = folder.split("/")[0]
        if path.endswith((".c", ".h", ".py")) and folder:
            folders.setdefault(folder, path)
    for folder, path in folders.items():
        if folder + "/README.md" not in tree.known:
            tree.report(
                path, [(1, f"{folder}/ has no README.md; say what lives here and what to read first")]
            )


def compiles(command, text):
    with tempfile.NamedTemporaryFile("w", suffix=".c") as file:
        file.write(text)
        file.flush()
        return subprocess.run(command + [file.name], capture_output=True, text=True, check=False)


def check_public_headers_compile(tree, cc, cxx):
    languages = [
        ("C11", [cc, "-x", "c", "-std=c11"], cc),
        ("C++11", [cxx, "-x", "c++", "-std=c++11"], cxx),
    ]
    headers = [path for path in tree.sources if path.startswith("include/") and path.endswith(".h")]
    for name, command, program in languages:
        if not program:
            continue
        flags = ["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only"]
        command = command + flags + ["-I", os.path.join(tree.root, "include")]
        for path in headers:
            result = compiles(command, f'#include "{path[len("include/"):]}"\n')
            if result.returncode != 0:
                first = (result.stderr.strip().split("\n") or [""])[0]
                reason = f"does not compile alone as {name} ({first}); include what it uses"
                tree.report(path, [(1, reason)])


def check_symbols(tree, library, nm):
    """What libfarpool.so exports is what the public headers declare, no more and no less."""
    header = "include/farpool/farpool.h"
    declared = {}
    if tree.sources.get(header) is None:
        return
    for path, source in tree.sources.items():
        if not path.startswith("include/"):
            continue
        text = source.code
        for match in re.finditer(r"\bFAR_API\b[^;{]*?\b(far_\w+)\s*\(", text):
            declared[match.group(1)] = (path, text.count("\n", 0, match.start(1)) + 1)
    result = subprocess.run(
        [nm, "-D", "--defined-only", library], capture_output=True, text=True, check=False
    )
    if result.returncode != 0:
        tree.report(header, [(1, f"{nm} cannot read {library}; build it")])
        return
    exported = {line.split()[-1].split("@")[0] for line in result.stdout.splitlines() if line}
    # The sanitizers' runtimes add their own.
    exported = {name for name in exported - LINKER_SYMBOLS if not name.startswith("__")}
    for name in sorted(set(declared) - exported):
        path, line = declared[name]
        tree.report(path, [(line, f"{name}() is not exported; define it in client/")])
    for name in sorted(exported - set(declared)):
        tree.report(header, [(1, f"{name} is exported but not declared here; hide it")])


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    parser = argparse.ArgumentParser(description="Checks the house rules of docs/style.md.")
    parser.add_argument("--root", default=os.path.dirname(os.path.dirname(here)))
    parser.add_argument("--library", help="libfarpool.so: its exported symbols are checked")
    parser.add_argument("--cc", default="cc", help="C compiler for the public headers")
    parser.add_argument("--cxx", default="c++", help="C++ compiler; empty: not checked")
    parser.add_argument("--nm", default="nm")
    args = parser.parse_args()

    tree = Tree(os.path.abspath(args.root))
    check_files(tree)
    check_modules(tree)
    check_folders(tree)
    check_public_headers_compile(tree, args.cc, args.cxx)
    if args.library:
        check_symbols(tree, args.library, args.nm)
    for path, line, reason in sorted(tree.findings):
        print(f"{path}:{line}: {reason}")
    print(f"tidy: {len(tree.sources)} sources, {len(tree.findings)} findings")
    return 1 if tree.findings else 0


if __name__ == "__main__":
    sys.exit(main())
