"""layers.py - who may include whom, and where each foreign header lives: the tables of docs/style.md."""

import posixpath
import re

# A layer includes itself and these. Absent: the folder is on top and may include anything.
LAYERS = {
    "base": set(),
    "wire": {"base"},
    "transport": {"base"},
    "l1": {"base"},
    "pool": {"transport", "wire", "base"},
    "l2": {"transport", "wire", "base"},
    "controllers": {"l1", "l2", "base"},
    "client": {"controllers", "l1", "l2", "transport", "wire", "base"},
    "include": set(),
    "examples": set(),
    "bindings": set(),
}
TOP = {"tools", "tests"}
# Only x/x.h of these is seen by the layers named.
FRONT_ONLY = {"controllers": {"l1", "l2"}}
# Backends of one folder do not know each other; what is in the shared ones is for all of them.
BACKENDS = {"transport": {"mem", "gpu"}, "l2": set()}
# Of the public headers, key.h alone is for every layer: it is the one struct that all share.
PUBLIC_FOR_ALL = {"farpool/key.h"}
PUBLIC_USERS = {"client", "include", "examples", "bindings", "tools", "tests"}

# (beginnings of the header's name, the folders that may include it)
FOREIGN = [
    (("infiniband/", "rdma/"), ("transport/verbs/",)),
    (("ucp/", "ucs/", "uct/"), ("transport/ucx/", "tests/bench/", "tests/support/attacker/")),
    (("cuda", "nv-p2p"), ("transport/mem/", "tests/gpu/", "tests/support/cuda_standin/")),
    (("numa.h", "numaif.h"), ("base/",)),
    (("sodium", "xxhash.h", "isa-l", "crc.h", "yaml.h"), ("base/",)),
    (("uv.h",), ("client/", "tools/")),
    (("zlib.h", "jansson.h", "argp.h", "microhttpd.h"), ("tools/",)),
    (("curl/",), ("client/", "tools/")),
    (("cmocka.h",), ("tests/",)),
]
# The tests stand above every seam, but replace what is behind it.
TESTS_MAY = ("argp.h", "zlib.h", "jansson.h", "uv.h", "sodium", "xxhash.h", "isa-l", "yaml.h")

MODULE = re.compile(r"\bfar_module\s*\(([^)]*)\)", re.S)


def layer_of(path):
    return path.split("/", 1)[0]


def backend_of(path):
    """transport/shm/link.c -> shm; None outside a folder of backends."""
    parts = path.split("/")
    return parts[1] if parts[0] in BACKENDS and len(parts) > 2 else None


def check_quoted(source, include, exists):
    """The reasons against one of our own includes."""
    here, path = layer_of(source.path), include.path
    if "/" not in path or path.startswith("."):
        # Tables (x.def) too: the layer has to be readable on the line.
        yield f'"{path}" is not path-qualified; write "{posixpath.dirname(source.path)}/{path}"'
        return
    if path.startswith("farpool/"):
        if path not in PUBLIC_FOR_ALL and here not in PUBLIC_USERS:
            yield f'"{path}" is above {here}/; only client/ implements the public interface'
        return
    there = layer_of(path)
    if not exists(path):
        yield f'"{path}" does not exist below the include root; correct the path'
        return
    if there != here:
        if here in LAYERS and there not in LAYERS[here]:
            may = ", ".join(sorted(LAYERS[here])) or "the public headers alone"
            yield f"{here}/ may not include {there}/; it may include {may}"
        elif path.endswith("_priv.h") and here != "tests":
            yield f'"{path}" never leaves {there}/; declare what is needed in a front header'
        elif there in FRONT_ONLY.get(here, ()) and path != f"{there}/{there}.h":
            yield f"{here}/ sees only {there}/{there}.h; use that"
        return
    mine, theirs = backend_of(source.path), backend_of(path)
    if mine and theirs and mine != theirs and theirs not in BACKENDS[here]:
        yield f"backends do not know each other: {here}/{mine} includes {here}/{theirs}; move it up"


def check_foreign(source, include):
    for heads, folders in FOREIGN:
        if not include.path.startswith(heads):
            continue
        if source.path.startswith(folders):
            return
        if source.path.startswith("tests/") and include.path.startswith(TESTS_MAY):
            return
        yield f"<{include.path}> belongs to {' and '.join(folders)}; go through its front header"
        return


def check_order(source, includes, exists):
    """Own header first, then system headers, then ours."""
    own = re.sub(r"\.c$", ".h", source.path)
    if not source.path.endswith(".c") or not includes:
        return
    # x_priv.h includes x.h before all else, so it serves as well.
    if exists(own) and includes[0].path not in (own, own[:-2] + "_priv.h"):
        yield includes[0].line, f'the own header comes first; begin with #include "{own}"'
    ours_seen = False
    for include in includes[1:]:
        if include.quoted and not include.path.endswith(".def"):
            ours_seen = True
        elif not include.quoted and ours_seen:
            yield include.line, f"<{include.path}> stands behind our own headers; system headers first"
            return


def check_source(source, exists):
    includes = list(source.includes())
    for include in includes:
        reasons = (
            check_quoted(source, include, exists)
            if include.quoted
            else check_foreign(source, include)
        )
        for reason in reasons:
            yield include.line, reason
    yield from check_order(source, includes, exists)


def modules(text):
    """(line, folder name, [(line, layer depended on)]) for each far_module() of a CMakeLists.txt."""
    clean = re.sub(r"#[^\n]*", lambda m: " " * len(m.group(0)), text)
    for match in MODULE.finditer(clean):
        line = clean.count("\n", 0, match.start()) + 1
        depends = []
        words = match.group(1).split()
        for dep in re.finditer(r"far::([a-z0-9_]+)", match.group(1)):
            at = clean.count("\n", 0, match.start(1) + dep.start()) + 1
            depends.append((at, dep.group(1)))
        yield line, words[0] if words else "", depends


def check_cmake(path, text, layers_included):
    """DEPENDS agrees with the table, and with what the folder's sources include."""
    for line, name, depends in modules(text):
        here = layer_of(name)
        named = {layer for _, layer in depends} | {here}
        for at, there in depends:
            if there != here and here in LAYERS and there not in LAYERS[here]:
                yield at, f"{here} may not depend on far::{there}; remove it"
        allowed = LAYERS.get(here, LAYERS.keys() - {"include", "examples"})
        for there in sorted(layers_included.get(here, set()) - named):
            if there in allowed:
                yield line, f"{here}/ includes {there}/; add far::{there} to DEPENDS"
