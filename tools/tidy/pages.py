"""pages.py - what a page of docs/ says about the tree is true: tests that it names are there."""

import re

# `tests/unit/l1/read.c`: `a_claim`, `another_claim`
NAMED = re.compile(r"`(tests/[\w./-]+)`:((?:\s*,?\s*`\w+`)+)")
NAME = re.compile(r"`(\w+)`")
# A cmocka test is a function of its state; in Python it is a method.
TEST_C = re.compile(r"^(\w+)\(void \*\*\w+\)", re.M)
TEST_PY = re.compile(r"^\s*def (test_\w+)\(", re.M)


def tests_of(text):
    return set(TEST_C.findall(text)) | set(TEST_PY.findall(text))


def check_page(text, text_of):
    """@text_of: path -> the text of a file of the tree, or None."""
    for idx, line in enumerate(text.split("\n")):
        for match in NAMED.finditer(line):
            path = match.group(1)
            named = text_of(path)
            if named is None:
                yield idx + 1, f"names {path}, which is not there; name the file that has the test"
                continue
            known = tests_of(named)
            for name in NAME.findall(match.group(2)):
                if name not in known:
                    yield idx + 1, f"names the test {name}, which {path} has not; name one it has"
