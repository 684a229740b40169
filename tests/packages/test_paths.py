"""Paths of a package: which are refused, with which code, and which module each is."""

from __future__ import annotations

import keyword
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure import limits
from perdure.errors import PackagePathRefused
from perdure.packages.paths import check_paths, module_of, top_level_names

DEEPEST = "/".join(["a"] * limits.PACKAGE_DEPTH_MAX)
LONGEST = "/".join(["ü" * 100] * 2 + ["b" * (limits.PACKAGE_PATH_MAX - 402)])

INVALID = [
    "",
    "/",
    "/etc/passwd",
    "a/",
    "a//b",
    ".",
    "..",
    "../x",
    "a/../b",
    "a/./b",
    "a/..",
    "..\\x",
    "a\\b",
    "C:\\x",
    "C:/x",
    "a:stream",
    "a*",
    "a?",
    'a"b',
    "<a",
    "a>",
    "a|b",
    "a\0b.py",
    "a\nb",
    "a\x1b[2J",
    "a\x7f",
    "a\x85b",
    "a\x9fb",
    "a.",
    "a./b",
    "a ",
    "a /b",
    "...",
    "con",
    "CON.txt",
    "a/nul",
    "NUL .py",
    "prn.tar.gz",
    "aux/b",
    "com1",
    "LPT9.py",
    "com¹",
    "conin$",
    "CONOUT$.txt",
    "Gru\u0308n.py",
    "\u212b.py",
    "\ud800.py",
    DEEPEST + "/a",
    LONGEST + "b",
]
DUPLICATE = [
    ["a.py", "a.py"],
    ["a.py", "A.py"],
    ["a/b.py", "a/B.PY"],
    ["a/x.py", "A/y.py"],
    ["a/b/c/x", "a/B/d"],
    ["straße.py", "STRASSE.py"],
    ["ﬁ.txt", "fi.txt"],
    ["ά.py", "Ά.py"],
    ["\u1fb3.py", "\u1fbc.py"],
    ["a", "a/b"],
    ["a/b", "a"],
    ["a/b/c", "a/b"],
    ["A", "a/b"],
    ["a/b", "A"],
]
NATIVE = [
    "a.so",
    "a/b.cpython-311-x86_64-linux-gnu.so",
    "a/lib.so.1",
    "a/lib.so.1.2.30",
    "a.PYD",
    "a.dll",
    "a.dylib",
    "a.pyc",
    "__pycache__/a.cpython-311.txt",
    "a/__PyCache__/b",
]
RESERVED = [
    "json.py",
    "json/a.txt",
    "os/__init__.py",
    "perdure/__init__.py",
    "perdure.py",
    "__main__.py",
    "sitecustomize.py",
    "usercustomize/__init__.py",
    "_thread.py",
    "distutils/a.py",  # gone since Python 3.12
    "cgi.py",  # since 3.13
    "annotationlib.py",  # there since 3.14
]
FINE = [
    "a.py",
    "shop/json.py",
    "shop/perdure/__init__.py",
    "shop/con_.py",
    "shop/console.py",
    "shop/com10.txt",
    "shop/com.py",
    "shop/.hidden",
    "shop/..a",
    "shop/a b.txt",
    "shop/ a",
    "shop/a.so.py",
    "shop/so",
    "shop/Grüße.txt",
    "shop/日本.py",
    "shop/\U0001f600.txt",
    "shop/a+b@c#d%e&f=g~h!i$j(k)[l]{m}'n`o;p,q^r",
    "requirements.lock",
    "json.txt",
    "JSON.py",
    "tests/a.py",
    DEEPEST,
    LONGEST,
]


def code_of(paths: list[str]) -> str:
    with pytest.raises(PackagePathRefused) as caught:
        check_paths(paths)
    assert caught.value.path in paths
    return caught.value.code


@pytest.mark.parametrize("path", INVALID, ids=ascii)
def test_a_path_that_does_not_mean_one_file_everywhere_is_refused(path: str) -> None:
    assert code_of(["shop/__init__.py", path]) == "package-path-invalid"


@pytest.mark.parametrize("path", FINE, ids=ascii)
def test_a_path_of_any_other_form_is_taken(path: str) -> None:
    check_paths(["shop/__init__.py", path])


@pytest.mark.parametrize("paths", DUPLICATE, ids=ascii)
def test_paths_that_are_one_file_or_a_file_and_a_folder_on_some_system_are_refused(paths: list[str]) -> None:
    assert code_of(["shop/a.py", *paths, "shop/b.py"]) == "package-path-duplicate"


def test_a_folder_and_names_that_differ_are_many_paths() -> None:
    check_paths(["a/x.py", "a/y.py", "a/b/x.py", "b/a/x.py", "x.py", "ss.txt", "ax/y.py"])


@pytest.mark.parametrize("folder", ["", "shop/", "shop/my-data/"])
def test_a_module_beside_a_package_of_its_name_is_refused(folder: str) -> None:
    paths = [f"{folder}a.py", f"{folder}a/__init__.py"]

    assert code_of(paths) == code_of(paths[::-1]) == "package-module-ambiguous"
    check_paths([f"{folder}a.py", f"{folder}a/data.txt", f"{folder}b/__init__.py", f"{folder}b/a.py"])


@pytest.mark.parametrize("path", NATIVE)
def test_compiled_code_is_refused(path: str) -> None:
    assert code_of(["shop/a.py", path]) == "package-native-code"


@pytest.mark.parametrize("path", RESERVED)
def test_a_name_of_the_standard_library_or_of_perdure_is_refused_at_the_top(path: str) -> None:
    assert code_of(["shop/a.py", path]) == "package-name-reserved"
    check_paths([f"shop/{path}"])


def test_every_module_of_this_python_is_reserved() -> None:
    taken = {name for name in sys.stdlib_module_names if code_of([f"{name}.py"]) == "package-name-reserved"}

    assert taken == sys.stdlib_module_names


def test_what_is_wrong_with_one_path_comes_before_what_is_wrong_with_two() -> None:
    steps = [["os.py"], ["a.so"], ["b.py", "b/__init__.py"], ["c", "C"], ["d."]]
    paths: list[str] = []
    codes = []
    for more in steps:
        paths += more
        codes.append(code_of(paths))

    assert codes == [
        "package-name-reserved",
        "package-native-code",
        "package-module-ambiguous",
        "package-path-duplicate",
        "package-path-invalid",
    ]


def test_the_text_names_the_path_and_cuts_it() -> None:
    with pytest.raises(PackagePathRefused, match=r"'a\\x1b': the character '\\x1b'"):
        check_paths(["a\x1b"])
    with pytest.raises(PackagePathRefused) as caught:
        check_paths(["a" * 60_000])
    assert len(str(caught.value)) < 400


@given(st.lists(st.text(max_size=30), max_size=5))
def test_any_texts_are_taken_or_refused_with_a_code(paths: list[str]) -> None:
    refused: PackagePathRefused | None = None
    try:
        check_paths(paths)
    except PackagePathRefused as error:
        refused = error

    if refused is not None:
        assert refused.path in paths
        return
    assert len({unicodedata.normalize("NFC", path).casefold() for path in paths}) == len(paths)
    assert all(path.encode() and not path.startswith("/") and ".." not in path.split("/") for path in paths)


@pytest.mark.parametrize(
    ("path", "module"),
    [
        ("shop.py", "shop"),
        ("shop/__init__.py", "shop"),
        ("shop/models.py", "shop.models"),
        ("shop/a/b/__init__.py", "shop.a.b"),
        ("shop/日本.py", "shop.日本"),
        ("shop/class.py", "shop.class"),
        ("__init__.py", None),
        ("shop/data.txt", None),
        ("shop/my-flows.py", None),
        ("my-shop/flows.py", None),
        ("shop/ﬁ.py", None),
        ("shop/.py", None),
        ("shop/1.py", None),
        ("shop@0123456789abcdef/a.py", None),
    ],
)
def test_a_path_is_this_module(path: str, module: str | None) -> None:
    assert module_of(path) == module


def test_the_names_at_the_top_are_its_folders_and_modules() -> None:
    paths = ["shop/__init__.py", "shop/a.py", "tools.py", "data/a.txt", "README.md", "my-docs/a.txt", "requirements.lock", "__init__.py"]

    assert top_level_names(paths) == ("data", "shop", "tools")


NAMES = st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True).filter(lambda name: not keyword.iskeyword(name))


@given(st.lists(NAMES, min_size=1, max_size=4))
def test_a_dotted_name_is_the_module_of_its_path(parts: list[str]) -> None:
    parts = ["m_" + part for part in parts]

    assert module_of("/".join(parts) + ".py") == ".".join(parts)
    assert module_of("/".join(parts) + "/__init__.py") == ".".join(parts)
    assert top_level_names(["/".join(parts) + ".py"]) == (parts[0],)
