#!/usr/bin/env python3
"""Finds files of a crate that need each other: file_circles.py CRATE_FOLDER...

A file needs another if it names something that is there: by `use`, or by a path such as `crate::cost::Fuel` in its code.
What a name passes through on its way (`crate::compiler` in `crate::compiler::child::run`) is not needed, and declaring a
module needs nothing of it; re-exporting what it has does. What is only compiled for tests does not count.
"""

import re
import sys
from pathlib import Path

PATH = re.compile(r"(?<![\w:])(\w+(?:::\w+)+)")
MODULE = re.compile(r"(?<![\w!#])mod\s+(\w+)\s*([;{])")
USE = re.compile(r"(?<![\w#])use\s+([^;]+);")
VISIBILITY = re.compile(r"pub\(in [^)]*\)")
FOR_TESTS = re.compile(r"#\[cfg\((?:test|all\(test\b[^\]]*)\)\]")
# Strings and characters before comments, as `"//"` is none; a lifetime is no character.
NO_CODE = re.compile(
    r"""b?r(?P<marks>\#*)".*?"(?P=marks) | b?"(?:\\.|[^"\\])*" | b?'(?:\\.[^']*|[^'\\])' | //[^\n]*""",
    re.VERBOSE | re.DOTALL,
)


def code_of(text):
    """The text without comments, texts and what is for tests."""
    text = VISIBILITY.sub("pub", NO_CODE.sub(" ", without_block_comments(text)))
    while found := FOR_TESTS.search(text):
        text = text[: found.start()] + text[end_of_item(text, found.end()) :]
    return text


def without_block_comments(text):
    while (start := text.find("/*")) >= 0 and (end := text.find("*/", start)) >= 0:
        start = text.rfind("/*", start, end)  # They nest.
        text = text[:start] + " " + text[end + 2 :]
    return text


def end_of_item(text, at):
    """Behind the item that begins here: its `;` or its closing brace."""
    depth = 0
    for at in range(at, len(text)):
        if text[at] in "{[(":
            depth += 1
        elif text[at] in "}])":
            depth -= 1
        if depth == 0 and text[at] in ";}":
            return at + 1
    return len(text)


class Crate:
    """The files of a crate, and which of them need which."""

    def __init__(self, root):
        self.folder = root.parent
        self.files = {}  # Path of a module, as a tuple of names -> its file.
        self.code = []  # Path of a module, its file, its own code.
        self.needs = {}  # File -> file -> names.
        self.read(root, (), root.parent)
        for module, file, code in self.code:
            self.link(module, file, code)

    def read(self, file, module, children):
        self.add(module, file, code_of(file.read_text()), children)

    def add(self, module, file, code, children):
        self.files[module] = file
        while found := MODULE.search(code):
            name, inline = found.group(1), found.group(2) == "{"
            end = end_of_item(code, found.start())
            inner, code = code[found.end() : end - 1], code[: found.start()] + code[end:]
            if inline:
                self.add(module + (name,), file, inner, children / name)
            else:
                child = children / f"{name}.rs"
                child = child if child.exists() else children / name / "mod.rs"
                self.read(child, module + (name,), children / name)
        self.code.append((module, file, code))

    def link(self, module, file, code):
        uses = [leaf for found in USE.finditer(code) for leaf in leaves(found.group(1))]
        local = {name: path for path, name in uses}
        # A module that is imported is needed where something of it is named.
        targets = [target for path, _ in uses if (target := self.resolve(module, path, {})) not in self.files]
        targets += [self.resolve(module, path.split("::"), local) for path in PATH.findall(USE.sub(" ", code))]
        for target in filter(None, targets):
            within = max((target[:n] for n in range(len(target) + 1) if target[:n] in self.files), key=len)
            other = self.files[within]
            if other != file:
                name = target[len(within)] if len(target) > len(within) else within[-1]
                self.needs.setdefault(file, {}).setdefault(other, set()).add(name)

    def resolve(self, module, path, local):
        """The path from the crate's root, or None where it leads out of the crate. `local` are names of `use`."""
        first, rest = path[0], tuple(path[1:])
        if first == "crate":
            return rest
        if first in ("self", "super"):
            module = module if first == "self" else module[:-1]
            while rest and rest[0] == "super":
                module, rest = module[:-1], rest[1:]
            return module + rest
        if module + (first,) in self.files:
            return module + tuple(path)
        if first in local:
            return self.resolve(module, (*local[first], *rest), {})
        return None

    def circles(self):
        """Lists of files each of which needs all others of its list, if by way of a third."""
        reach = {file: self.reached(file) for file in self.needs}
        seen = set()
        for file in sorted(reach):
            circle = {other for other in reach[file] if file in reach.get(other, ())}
            if circle and file not in seen:
                seen |= circle
                yield sorted(circle)

    def reached(self, file):
        found, todo = set(), [file]
        while todo:
            for other in self.needs.get(todo.pop(), ()):
                if other not in found:
                    found.add(other)
                    todo.append(other)
        return found


def leaves(tree, before=()):
    """Path and local name of all that a `use` names."""
    tree = tree.strip()
    if (brace := tree.find("{")) < 0:
        path, _, alias = re.sub(r"\s+as\s+", " ", tree).partition(" ")
        path = list(before) + [part for part in path.split("::") if part]
        if path[-1] == "self":
            path.pop()
        return [(path, alias or path[-1])]
    before = list(before) + [part for part in tree[:brace].strip().split("::") if part]
    return [leaf for part in parts(tree[brace + 1 : tree.rindex("}")]) for leaf in leaves(part, before)]


def parts(text):
    """What commas part that are in no braces."""
    depth, start = 0, 0
    for at, char in enumerate(text + ","):
        depth += {"{": 1, "}": -1}.get(char, 0)
        if char == "," and depth == 0:
            if text[start:at].strip():
                yield text[start:at]
            start = at + 1


def main(folders):
    found = False
    for folder in folders:
        for root in (Path(folder, "src", "lib.rs"), Path(folder, "src", "main.rs")):
            crate = Crate(root) if root.exists() else None
            for circle in crate.circles() if crate else ():
                found = True
                print(f"{folder}: {len(circle)} files need each other")
                for file in circle:
                    for other, names in sorted(crate.needs[file].items()):
                        if other in circle:
                            ours, theirs = (f.relative_to(crate.folder) for f in (file, other))
                            print(f"  {ours} needs {', '.join(sorted(names))} of {theirs}")
    if found:
        print("move what ties them into a file that needs none of them", file=sys.stderr)
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
