"""checks.py - the rules about one file: sizes, names, banned calls, purpose lines, documentation."""

import posixpath
import re

FILE_LINES_MAX = 800
FUNCTION_LINES_MAX = 70
FRONT_HEADER_LINES_MAX = 200
README_LINES_MAX = 40

# name -> what to use instead. Seams that tests replace: only base/ may call these.
SEAMS = {
    "malloc": "far_zalloc()",
    "calloc": "far_zalloc_array()",
    "realloc": "far_zalloc_array() and a bound",
    "aligned_alloc": "far_zalloc_aligned()",
    "posix_memalign": "far_zalloc_aligned()",
    "free": "far_free()",
    "strdup": "far_strdup()",
    "strndup": "far_strdup()",
    "clock_gettime": "the far_clock that was handed in",
    "gettimeofday": "the far_clock that was handed in",
    "time": "the far_clock that was handed in",
    "getenv": "a configured parameter",
}
RANDOM = {name: "the far_rng that was handed in" for name in ("rand", "random", "srand", "drand48")}
# Never, nowhere.
UNSAFE = {
    "sprintf": "snprintf()",
    "vsprintf": "vsnprintf()",
    "strcpy": "a copy with its size",
    "strcat": "snprintf()",
    "gets": "fgets()",
    "alloca": "a member of the object",
}
CALL = re.compile(
    r"(?<![\w.>])("
    + "|".join(sorted({**SEAMS, **RANDOM, **UNSAFE}))
    + r")\s*\("
)
UNFINISHED = re.compile(r"\b(" + "|".join(("TO" "DO", "FIX" "ME", "X" "XX")) + r")\b")
# What a function returns; a comparison may name what a system call said.
RETURN = re.compile(r"\breturn\b([^;]*)")
ERRNO = re.compile(r"(?<![\w)\]])(?<![!=]= )-\s*(E[A-Z][A-Z0-9]*)\b")
ERRNO_DEF = re.compile(r"^X\((E[A-Z0-9]+)\s*,", re.M)
PURPOSE_C = re.compile(r"/\*\*?[ \n*]*([\w./-]+) - \S")
PURPOSE_PY = re.compile(r'(?:#![^\n]*\n)?"""([\w./-]+) - \S')
PURPOSE_SH = re.compile(r"#![^\n]*\n# ([\w./-]+) - \S")


def is_product(path):
    return not path.startswith(("tests/", "examples/", "bindings/"))


def check_calls(source):
    for idx, line in enumerate(source.code_with_macros.split("\n")):
        for match in CALL.finditer(line):
            name = match.group(1)
            if name in UNSAFE:
                yield idx + 1, f"{name}() has no bound; use {UNSAFE[name]}"
            elif source.path.startswith("base/"):
                continue
            elif name in RANDOM:
                yield idx + 1, f"{name}() cannot be repeated; use {RANDOM[name]}"
            elif is_product(source.path):
                yield idx + 1, f"{name}() is called outside base/; use {SEAMS[name]}"


def check_size(source):
    if len(source.lines) > FILE_LINES_MAX:
        yield FILE_LINES_MAX + 1, (
            f"file of {len(source.lines)} lines, {FILE_LINES_MAX} are the most; split it by noun"
        )
    stem = posixpath.splitext(posixpath.basename(source.path))[0]
    front = source.path.endswith(".h") and posixpath.basename(posixpath.dirname(source.path)) == stem
    # The public header is one page for the reader of the interface: see docs/style.md.
    if front and not source.path.startswith("include/"):
        count = source.declaration_line_count()
        if count > FRONT_HEADER_LINES_MAX:
            yield 1, (
                f"front header with {count} lines of declarations, {FRONT_HEADER_LINES_MAX} are "
                "the most; move what only this folder uses into a _priv.h"
            )


def check_functions(source):
    for function in source.functions():
        if not function.name_in_column_0:
            yield function.line, "a definition has its name in column 0; put the type on the line above"
        if function.line_count > FUNCTION_LINES_MAX:
            yield function.line, (
                f"function of {function.line_count} lines, {FUNCTION_LINES_MAX} are the most; "
                "split it"
            )


def purpose_is(pattern, text, path):
    match = pattern.match(text)
    if match is None:
        return False
    return path == match.group(1) or path.endswith("/" + match.group(1))


def check_purpose(path, text):
    """What the file is, in its first sentence, by its own name."""
    name = posixpath.basename(path)
    if path.endswith((".c", ".h", ".def")):
        if not purpose_is(PURPOSE_C, text, path):
            yield 1, f"no purpose line; begin with /* {name} - what it is for. */"
    elif path.endswith(".py") or re.match(r"#![^\n]*python", text):
        if not purpose_is(PURPOSE_PY, text, path):
            yield 1, f'no purpose line; begin with """{name} - what it is for."""'
    elif re.match(r"#![^\n]*sh\n", text):
        if not purpose_is(PURPOSE_SH, text, path):
            yield 1, f"no purpose line; after #! comes # {name} - what it is for."


def check_unfinished(path, text):
    if path == "docs/style.md":  # names the words that are not allowed
        return
    for idx, line in enumerate(text.split("\n")):
        match = UNFINISHED.search(line)
        if match:
            yield idx + 1, (
                f"{match.group(1)} in the tree; do it, or write the question into docs/decisions/"
            )


def check_public_header(source):
    """The comment above each FAR_API function says which thread may call it."""
    comment, comment_ended, previous_was_api = [], False, False
    in_declaration = False
    for idx, line in enumerate(source.lines):
        text = line.strip()
        if in_declaration:
            in_declaration = not text.endswith(";")
            previous_was_api = not in_declaration
            continue
        if text.startswith("/*") or (comment and not comment_ended):
            if text.startswith("/*"):
                comment = []
            comment.append(text)
            comment_ended = text.endswith("*/")
            continue
        if text.startswith("FAR_API"):
            # A run of declarations shares the comment above the first.
            if not any("Thread:" in part for part in comment) or not (comment or previous_was_api):
                yield idx + 1, "no Thread: in the comment above; say any, owner, or one at a time"
            in_declaration = not text.endswith(";")
            previous_was_api = True
            continue
        if not text or text.endswith((";", "{", "}")):
            comment, comment_ended, previous_was_api = [], False, False


def check_errnos(source, listed):
    """Negative errnos come from the closed list of base/err.def."""
    if not is_product(source.path):
        return
    for idx, line in enumerate(source.code_with_macros.split("\n")):
        returned = RETURN.search(line)
        for match in ERRNO.finditer(returned.group(1) if returned else ""):
            if match.group(1) not in listed:
                yield idx + 1, (
                    f"-{match.group(1)} is not in base/err.def; convert it to a listed one, "
                    "or list it with what the caller does next"
                )


def check_readme(path, text):
    count = len(text.rstrip("\n").split("\n"))
    if count > README_LINES_MAX:
        yield README_LINES_MAX + 1, (
            f"folder page of {count} lines, {README_LINES_MAX} are the most; "
            "concepts go to docs/"
        )
