"""source.py - a C file as the checks see it: comments and strings blanked, functions found."""

import re

TOKEN = re.compile(
    r"""/\*.*?(?:\*/|\Z)|//[^\n]*|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'""", re.S
)
DIRECTIVE = re.compile(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", re.M)
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(?:"([^"\n]+)"|<([^>\n]+)>)', re.M)
NAME_AT_START = re.compile(r"^[A-Za-z_]\w*\s*\(")


def blank(text):
    """The same length and the same lines, with nothing on them."""
    return re.sub(r"[^\n]", " ", text)


def without_comments(text, keep_strings):
    def replace(match):
        token = match.group(0)
        if token[0] == "/":
            return blank(token)
        return token if keep_strings else token[0] + blank(token[1:-1]) + token[-1]

    return TOKEN.sub(replace, text)


class Include:
    """One #include line: path, whether in quotes, and its line number."""

    def __init__(self, path, quoted, line):
        self.path, self.quoted, self.line = path, quoted, line


class Function:
    """One definition: where its declarator and its body stand."""

    def __init__(self, line, name_in_column_0, line_count):
        self.line, self.name_in_column_0, self.line_count = line, name_in_column_0, line_count


class Source:
    """One C source or header, read once."""

    def __init__(self, path, text):
        self.path = path  # relative to the root, with slashes
        self.text = text
        self.lines = text.split("\n")
        if self.lines and self.lines[-1] == "":
            self.lines.pop()
        # Include paths are strings: they are taken before strings are blanked.
        self.directives = without_comments(text, keep_strings=True)
        stripped = without_comments(text, keep_strings=False)
        self.code = DIRECTIVE.sub(lambda m: blank(m.group(0)), stripped)
        self.code_lines = self.code.split("\n")
        # Macros hide calls from self.code, so banned names are looked for here.
        self.code_with_macros = stripped

    def includes(self):
        for match in INCLUDE.finditer(self.directives):
            line = self.directives.count("\n", 0, match.start()) + 1
            yield Include(match.group(1) or match.group(2), match.group(1) is not None, line)

    def functions(self):
        """Definitions, found by the brace that stands alone in column 0 behind a ')'."""
        lines = self.code_lines
        for idx, line in enumerate(lines):
            if re.match(r"^[A-Za-z_].*\)\s*\{\s*$", line) and "=" not in line:
                yield Function(idx + 1, False, self.body_line_count(idx))
            if line.rstrip() != "{":
                continue
            head = self.declarator_above(idx)
            if head is not None:
                in_column_0 = bool(NAME_AT_START.match(lines[head]))
                yield Function(head + 1, in_column_0, self.body_line_count(idx))

    def declarator_above(self, brace_idx):
        """The line where the parameter list that ends above the brace begins; None: no function."""
        idx = brace_idx - 1
        while idx >= 0 and not self.code_lines[idx].strip():
            idx -= 1
        if idx < 0 or not self.code_lines[idx].rstrip().endswith(")"):
            return None
        depth = 0
        while idx >= 0:
            line = self.code_lines[idx]
            depth += line.count(")") - line.count("(")
            if depth <= 0:
                return idx
            idx -= 1
        return None

    def body_line_count(self, brace_idx):
        """Lines of the body, both braces included."""
        for idx in range(brace_idx, len(self.code_lines)):
            if self.code_lines[idx].startswith("}"):
                return idx - brace_idx + 1
        return len(self.code_lines) - brace_idx

    def declaration_line_count(self):
        """Lines that declare something: no comments, no directives."""
        return sum(1 for line in self.code_lines if line.strip())
