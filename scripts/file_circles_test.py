#!/usr/bin/env python3
"""Tests of file_circles.py."""

import tempfile
import unittest
from pathlib import Path

from file_circles import Crate


def circles(**files):
    """The circles of a crate of these files: `a__b` is a/b.rs."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "src")
        for name, code in files.items():
            file = source / (name.replace("__", "/") + ".rs")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(code)
        found = Crate(source / "lib.rs").circles()
        return [[str(file.relative_to(source)) for file in circle] for circle in found]


class FileCircles(unittest.TestCase):
    def test_two_files_that_import_from_each_other(self):
        found = circles(lib="mod a; mod b;", a="use crate::b::B; struct A;", b="use super::a::{self, A}; struct B;")
        self.assertEqual(found, [["a.rs", "b.rs"]])

    def test_a_path_in_code_counts_as_an_import_does(self):
        found = circles(lib="mod a; mod b;", a="fn a() -> crate::b::B {}", b="use crate::a; fn b() { a::a() }")
        self.assertEqual(found, [["a.rs", "b.rs"]])

    def test_by_way_of_a_third(self):
        found = circles(
            lib="mod a; mod b; mod c; mod d;", a="use crate::b::B;", b="use crate::c::C;", c="use crate::a::A;", d="use crate::a::A;"
        )
        self.assertEqual(found, [["a.rs", "b.rs", "c.rs"]])

    def test_a_parent_that_re_exports_what_its_child_has_and_is_needed_by_it(self):
        found = circles(lib="mod a;", a="mod b; pub use b::B; pub struct A;", a__b="use super::A; pub struct B;")
        self.assertEqual(found, [["a/b.rs", "a.rs"]])

    def test_a_sibling_by_way_of_what_the_root_re_exports(self):
        found = circles(lib="mod a; mod b; pub use a::A; pub use b::B;", a="struct A;", b="use crate::A; struct B;")
        self.assertEqual(found, [["b.rs", "lib.rs"]])

    def test_a_module_alone_is_no_need(self):
        self.assertEqual(circles(lib="mod a;", a="pub mod b; pub struct A;", a__b="use super::A;"), [])

    def test_what_a_path_passes_through_is_not_needed(self):
        found = circles(
            lib="mod a; mod c;", a="pub mod b; use crate::c::C;", a__b="pub struct B;", c="use crate::a::b::B; struct C;"
        )
        self.assertEqual(found, [])

    def test_what_is_only_for_tests_does_not_count(self):
        tests = "#[cfg(test)] mod tests { use crate::b::B; } #[cfg(test)] use crate::b::C; #[cfg(test)] mod more;"
        self.assertEqual(circles(lib="mod a; mod b;", a=tests, b="use crate::a::A;"), [])

    def test_comments_and_texts_are_no_code(self):
        words = """/// [`crate::b::B`] /* crate::b::B */
            const S: &str = "\\" crate::b::B"; const R: &str = r#"crate::b::B " "#; const C: char = '"';
            /* /* nested */ crate::b::B */ fn a<'a>() {}"""
        self.assertEqual(circles(lib="mod a; mod b;", a=words, b="use crate::a::A;"), [])

    def test_code_behind_a_text_is_code(self):
        words = """const S: &str = "//"; const C: char = '\\''; use crate::b::B;"""
        self.assertEqual(circles(lib="mod a; mod b;", a=words, b="use crate::a::A;"), [["a.rs", "b.rs"]])

    def test_a_module_within_a_file_is_that_file(self):
        inner = "struct A; mod inner { use super::A; use super::super::b::B; }"
        self.assertEqual(circles(lib="mod a; mod b;", a=inner, b="struct B;"), [])
        self.assertEqual(circles(lib="mod a; mod b;", a=inner, b="use crate::a::A;"), [["a.rs", "b.rs"]])

    def test_who_may_see_something_is_no_need(self):
        found = circles(lib="mod a;", a="mod b; use b::B;", a__b="pub(in crate::a) struct B;")
        self.assertEqual(found, [])


if __name__ == "__main__":
    unittest.main()
