#!/usr/bin/env python3
"""tidy_test.py - a small tree that tidy likes, broken once per rule: each breach is reported once.

Names are claims, as in the C tests. The first argument is tools/tidy/tidy.py.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import unittest

TIDY = ""

API_H = """\
/* farpool/farpool.h - the public interface of a small tree. */
#ifndef FARPOOL_FARPOOL_H
#define FARPOOL_FARPOOL_H
#define FAR_API __attribute__((visibility("default")))
#ifdef __cplusplus
extern "C" {
#endif

/* Opens it. Thread: any. */
FAR_API int far_open(int count);
FAR_API int far_close(int count);

#ifdef __cplusplus
}
#endif
#endif
"""
API_C = """\
/* client.c - implements the public interface. */
#include "farpool/farpool.h"

#include <errno.h>

#include "l1/l1.h"

int
far_open(int count)
{
	return count > 0 ? 0 : -EINVAL; /* malloc( in a comment is no call */
}

int
far_close(int count)
{
	return l1_size(count, "malloc(1)");
}
"""
ERR_DEF = """\
/* err.def - the closed list. */
X(EINVAL, CALL, "correct the call")
"""
GOOD = {
    "base/base.h": "/* base.h - nothing yet. */\n",
    "base/err.def": ERR_DEF,
    "base/README.md": "# base/\n",
    "base/CMakeLists.txt": "far_module(base SOURCES a.c)\n",
    "l1/l1.h": "/* l1.h - the arena. */\nint l1_size(int count, const char *name);\n",
    "l1/README.md": "# l1/\n",
    "l1/CMakeLists.txt": "far_module(l1 SOURCES l1.c DEPENDS far::base)\n",
    "pool/README.md": "# pool/\n",
    "pool/pool.h": "/* pool.h - the donor. */\n",
    "pool/pool_priv.h": "/* pool_priv.h - inside. */\n",
    "transport/README.md": "# transport/\n",
    "transport/shm/README.md": "# transport/shm/\n",
    "transport/shm/shm.h": "/* shm.h - same host. */\n",
    "transport/loop/README.md": "# transport/loop/\n",
    "transport/loop/loop.h": "/* loop.h - in process. */\n",
    "client/client.c": API_C,
    "client/README.md": "# client/\n",
    "client/CMakeLists.txt": "far_module(client SOURCES client.c\n    DEPENDS far::l1 far::base)\n",
    "include/README.md": "# include/\n",
    "include/farpool/farpool.h": API_H,
    "dev": "#!/usr/bin/env bash\n# dev - all commands.\n",
}


def lines(count):
    return "/* long.c - long. */\n" + "int far_x;\n" * (count - 1)


class Tidy(unittest.TestCase):
    """Each test writes the good tree, breaks one thing, and reads the report."""

    def setUp(self):
        self.root = tempfile.mkdtemp(prefix="farpool-tidy-")
        self.addCleanup(shutil.rmtree, self.root)

    def report(self, changes, *options):
        for path, text in {**GOOD, **changes}.items():
            if text is None:
                continue
            full = os.path.join(self.root, path)
            os.makedirs(os.path.dirname(full), exist_ok=True)
            with open(full, "w", encoding="utf-8") as file:
                file.write(text)
        result = subprocess.run(
            [sys.executable, TIDY, "--root", self.root, *options],
            capture_output=True, text=True, check=False,
        )
        self.assertEqual(result.stderr, "")
        found = result.stdout.splitlines()[:-1]
        self.assertEqual(result.returncode, 1 if found else 0)
        return found

    def one(self, path, line, words, changes, *options):
        """Exactly one finding: at this line, with these words, and with advice behind a semicolon."""
        found = self.report(changes, *options)
        self.assertEqual(len(found), 1, found)
        self.assertTrue(found[0].startswith(f"{path}:{line}: "), found)
        self.assertIn(words, found[0])
        self.assertIn("; ", found[0])

    def source(self, words, body, path="l1/x.c", line=2):
        head = f"/* {os.path.basename(path)} - broken once. */\n"
        self.one(path, line, words, {path: head + body})

    def test_a_good_tree_has_no_finding(self):
        self.assertEqual(self.report({}), [])

    # ---- pages ----

    TEST_C = "/* x.c - tests. */\nstatic void\na_claim(void **state)\n{\n\t(void)state;\n}\n"

    def page(self, cell):
        text = f"# Page\n\n| row | {cell} |\n"
        return {"tests/unit/x.c": self.TEST_C, "tests/README.md": "# tests/\n", "docs/page.md": text}

    def test_a_page_that_names_tests_that_are_there_is_no_finding(self):
        self.assertEqual(self.report(self.page("`tests/unit/x.c`: `a_claim`")), [])

    def test_a_page_that_names_a_test_that_is_gone_is_reported(self):
        changes = self.page("`tests/unit/x.c`: `a_claim`, `a_dream`")
        self.one("docs/page.md", 3, "a_dream", changes)

    def test_a_page_that_names_a_file_that_is_gone_is_reported(self):
        self.one("docs/page.md", 3, "not there", self.page("`tests/unit/gone.c`: `a_claim`"))

    # ---- layers ----

    def test_an_include_upward_is_reported(self):
        self.source("l1/ may not include pool/", '#include "pool/pool.h"\n')

    def test_client_including_pool_is_reported(self):
        self.source("client/ may not include pool/", '#include "pool/pool.h"\n', "client/x.c")

    def test_an_include_without_a_path_is_reported(self):
        self.source("not path-qualified", '#include "l1.h"\n')

    def test_an_include_of_nothing_is_reported(self):
        self.source("does not exist", '#include "base/gone.h"\n')

    def test_a_private_header_that_leaves_its_folder_is_reported(self):
        self.one("tools/x.c", 2, "never leaves pool/", {
            "tools/x.c": '/* x.c - broken once. */\n#include "pool/pool_priv.h"\n',
            "tools/README.md": "# tools/\n",
        })

    def test_controllers_past_the_front_header_are_reported(self):
        self.one("controllers/x.c", 2, "sees only l1/l1.h", {
            "controllers/x.c": '/* x.c - broken once. */\n#include "l1/table.h"\n',
            "controllers/README.md": "# controllers/\n",
            "l1/table.h": "/* table.h - blocks. */\n",
        })

    def test_a_backend_that_knows_another_is_reported(self):
        self.source("backends do not know each other", '#include "transport/shm/shm.h"\n',
                    "transport/loop/x.c")

    def test_the_public_header_below_client_is_reported(self):
        self.source("is above l1/", '#include "farpool/farpool.h"\n')

    def test_a_foreign_header_outside_its_seam_is_reported(self):
        self.source("belongs to transport/verbs/", "#include <infiniband/verbs.h>\n")

    def test_the_own_header_behind_another_is_reported(self):
        self.one("l1/l1.c", 2, "the own header comes first", {
            "l1/l1.c": '/* l1.c - broken once. */\n#include "base/base.h"\n#include "l1/l1.h"\n',
        })

    def test_the_own_private_header_may_come_first(self):
        self.assertEqual(self.report({
            "pool/pool.c": '/* pool.c - the donor. */\n#include "pool/pool_priv.h"\n',
        }), [])

    def test_a_system_header_behind_ours_is_reported(self):
        self.one("l1/l1.c", 4, "system headers first", {
            "l1/l1.c": '/* l1.c - broken once. */\n#include "l1/l1.h"\n#include "base/base.h"\n'
                       "#include <errno.h>\n",
        })

    def test_a_dependency_upward_is_reported(self):
        self.one("l1/CMakeLists.txt", 2, "l1 may not depend on far::pool", {
            "l1/CMakeLists.txt": "far_module(l1 SOURCES l1.c\n    DEPENDS far::pool far::base)\n",
        })

    def test_a_dependency_that_is_not_named_is_reported(self):
        self.one("client/CMakeLists.txt", 1, "add far::l1", {
            "client/CMakeLists.txt": "far_module(client SOURCES client.c DEPENDS far::base)\n",
        })

    # ---- calls ----

    def test_each_seam_is_kept(self):
        for name in ("malloc", "calloc", "realloc", "free", "strdup", "clock_gettime",
                     "gettimeofday", "time", "getenv", "rand", "random"):
            with self.subTest(name):
                self.source(f"{name}()", f"int x = {name}(1);\n")

    def test_each_unbounded_call_is_reported_even_in_base(self):
        for name in ("sprintf", "strcpy", "strcat", "gets", "alloca"):
            with self.subTest(name):
                self.source(f"{name}()", f"int x = {name}(1);\n", "base/x.c")

    def test_base_may_call_what_it_wraps_and_a_member_of_that_name_is_no_call(self):
        self.assertEqual(self.report({
            "base/x.c": "/* x.c - wraps. */\nint x = malloc(1);\n",
            "l1/x.c": "/* x.c - members. */\nint x = ops->free(1) + ops.random(2);\n",
        }), [])

    def test_an_errno_that_is_not_listed_is_reported(self):
        self.source("-ENOTTY is not in base/err.def", "int\nfar_x(void)\n{\n\treturn -ENOTTY;\n}\n",
                    line=5)
        self.assertEqual(self.report({
            "l1/x.c": "/* x.c - asks. */\nint\nfar_x(int rc)\n{\n"
                      "\treturn rc == -ENOTTY ? -EINVAL : 0;\n}\n",
        }), [])

    # ---- sizes and names ----

    def test_a_file_of_801_lines_is_reported_and_one_of_800_is_not(self):
        self.assertEqual(self.report({"l1/long.c": lines(800)}), [])
        self.one("l1/long.c", 801, "file of 801 lines", {"l1/long.c": lines(801)})

    def test_a_function_of_71_lines_is_reported_and_one_of_70_is_not(self):
        def body(count):
            return "/* x.c - long. */\nint\nfar_x(void)\n{\n" + "\t;\n" * (count - 2) + "}\n"

        self.assertEqual(self.report({"l1/x.c": body(70)}), [])
        self.one("l1/x.c", 3, "function of 71 lines", {"l1/x.c": body(71)})

    def test_a_front_header_of_201_declarations_is_reported_and_comments_do_not_count(self):
        comments = "/* a comment of its own line */\n" * 300
        head = "/* pool.h - the donor. */\n"
        self.assertEqual(self.report({"pool/pool.h": head + comments + "int x;\n" * 200}), [])
        self.one("pool/pool.h", 1, "front header with 201 lines",
                 {"pool/pool.h": head + "int x;\n" * 201})

    def test_a_definition_behind_its_type_is_reported(self):
        self.source("name in column 0", "static int far_x(int a,\n\t\t int b)\n{\n\treturn a;\n}\n")

    def test_a_missing_purpose_line_is_reported(self):
        self.one("l1/x.c", 1, "no purpose line", {"l1/x.c": "int x;\n"})

    def test_a_purpose_line_of_another_file_is_reported(self):
        self.one("l1/x.c", 1, "no purpose line", {"l1/x.c": "/* y.c - moved. */\n"})

    def test_a_script_without_a_purpose_line_is_reported(self):
        self.one("dev", 1, "no purpose line", {"dev": "#!/usr/bin/env bash\necho\n"})

    def test_unfinished_work_is_reported(self):
        for word in ("TO" "DO", "FIX" "ME", "X" "XX"):
            with self.subTest(word):
                self.source(f"{word} in the tree", f"int x; /* {word}: later */\n")

    # ---- pages and the public interface ----

    def test_a_folder_without_a_page_is_reported(self):
        self.one("l1/l1.h", 1, "l1/ has no README.md", {"l1/README.md": None})

    def test_a_page_of_41_lines_is_reported(self):
        self.one("l1/README.md", 41, "folder page of 41 lines", {"l1/README.md": "line\n" * 41})

    def test_a_public_function_that_does_not_name_its_thread_is_reported(self):
        broken = API_H.replace("/* Opens it. Thread: any. */\nFAR_API int far_open(int count);\n",
                               "/* Opens it. */\nFAR_API int far_open(int count);\n\n"
                               "/* Thread: any. */\n")
        self.one("include/farpool/farpool.h", 10, "no Thread:",
                 {"include/farpool/farpool.h": broken})

    def test_a_public_function_without_a_comment_is_reported(self):
        broken = API_H.replace("FAR_API int far_close", "\nFAR_API int far_close")
        self.one("include/farpool/farpool.h", 12, "no Thread:",
                 {"include/farpool/farpool.h": broken})

    def test_a_public_header_that_needs_another_is_reported(self):
        broken = API_H.replace("far_open(int count)", "far_open(uint32_t count)")
        self.one("include/farpool/farpool.h", 1, "does not compile alone as C11",
                 {"include/farpool/farpool.h": broken}, "--cxx", "")

    @unittest.skipUnless(shutil.which("c++"), "no C++ compiler here")
    def test_a_public_header_that_is_no_cplusplus_is_reported(self):
        broken = API_H.replace("far_open(int count)", "far_open(int class)")
        self.one("include/farpool/farpool.h", 1, "does not compile alone as C++11",
                 {"include/farpool/farpool.h": broken})

    def library(self, text):
        source = os.path.join(self.root, "lib.c")
        library = os.path.join(self.root, "lib.so")
        with open(source, "w", encoding="utf-8") as file:
            file.write(text)
        subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
        os.unlink(source)
        return library

    def test_exports_that_match_the_header_are_no_finding(self):
        library = self.library("int far_open(void) { return 0; } int far_close(void) { return 0; }")
        self.assertEqual(self.report({}, "--library", library), [])

    def test_a_declared_function_that_is_not_exported_is_reported(self):
        library = self.library("int far_open(void) { return 0; }")
        self.one("include/farpool/farpool.h", 11, "far_close() is not exported",
                 {}, "--library", library)

    def test_an_export_that_is_not_declared_is_reported(self):
        library = self.library("int far_open(void) { return 0; } int far_close(void) { return 0; }"
                               "int far_leak;")
        self.one("include/farpool/farpool.h", 1, "far_leak is exported but not declared",
                 {}, "--library", library)


if __name__ == "__main__":
    TIDY = os.path.abspath(sys.argv.pop(1))
    unittest.main()
