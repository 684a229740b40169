"""A package is made of a folder: what is taken, what is said of it, and what is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from perdure import limits
from perdure.deploying.building import STEPS, build
from perdure.deploying.trial import try_load
from perdure.errors import (
    DefinitionError,
    PackageBuildRefused,
    PackageEnvironmentFailed,
    PackageImportFailed,
    PackageImportsByText,
    PackageNativeCode,
    PackagePathInvalid,
    PackageRequirementUnmet,
    PackageTooLarge,
    PackageUnstable,
)
from perdure.packages.archive import unpack
from tests.deploying.conftest import Lay
from tests.deploying.samples import FLOWS, PYPROJECT

SECTION = "[tool.perdure.package]\n"
OWN = f'{SECTION}name = "shop"\npython = ">=3.11"\n'


async def test_a_folder_becomes_a_package(lay: Lay) -> None:
    steps: list[str] = []

    built = await build(lay({"src/shop/data/Grüße.txt": "hällo\r\n"}), on_step=steps.append)

    package = unpack(built.archive, identity=built.identity)
    assert package.manifest == built.manifest
    assert built.manifest.name == "shop"
    assert built.manifest.python == ">=3.11"
    assert built.manifest.requires == ("msgspec>=0.21", "perdure")
    assert built.manifest.isolation == "shared"
    assert [(process.type, process.object) for process in built.manifest.processes] == [
        ("Order", "shop.flows:Order"),
        ("hello", "shop.flows:hello"),
    ]
    assert dict(package.files) == {"shop/__init__.py": b"", "shop/data/Grüße.txt": "hällo\r\n".encode(), "shop/flows.py": FLOWS.encode()}
    assert built.file_name == f"shop-{built.identity[:12]}.zip"
    assert built.warnings == ()
    assert steps == list(STEPS)
    assert (await try_load(built.archive)).processes == built.manifest.processes


async def test_what_it_was_built_with_is_told_and_is_not_its_identity(lay: Lay) -> None:
    folder = lay()
    before = await build(folder)

    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-qm", "first")
    after = await build(folder)
    (folder / "README.md").touch()
    changed = await build(folder)

    assert before.built_with["python"] == ".".join(map(str, sys.version_info[:3]))
    assert set(before.built_with["distributions"]) == {"msgspec", "perdure"}
    assert before.built_with["builder"].startswith("perdure ")
    assert "commit" not in before.built_with
    assert (len(after.built_with["commit"]), after.built_with["clean"]) == (40, True)
    assert changed.built_with["clean"] is False
    assert before.archive == after.archive == changed.archive


def git(folder: Path, *arguments: str) -> None:
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    subprocess.run(["git", "-C", str(folder), *arguments], check=True, env=environment)


# --- which files -------------------------------------------------------------------------------------------------

LEFT = {
    "src/shop/__pycache__/flows.cpython-311.pyc": "",
    "src/shop/.hidden": "",
    "src/.venv/x.py": "",
    "src/shop/tests/test_flows.py": "",
    "src/shop/test_flows.py": "",
    "src/shop/flows_test.py": "",
    "src/shop/conftest.py": "",
    "src/shop.egg-info/PKG-INFO": "",
    "README.md": "",
    "beside.py": "",
}


async def paths(folder: Path) -> list[str]:
    return [file.path for file in (await build(folder)).manifest.files]


async def test_tests_caches_and_what_begins_with_a_dot_are_left_out(lay: Lay) -> None:
    assert await paths(lay(LEFT)) == ["shop/__init__.py", "shop/flows.py"]


async def test_without_src_the_names_at_the_top_of_the_entries_are_taken(lay: Lay) -> None:
    files = {"shop/__init__.py": "", "shop/flows.py": FLOWS, "shop/a.txt": "", "other/x.py": "", "lone.py": "import shop.flows\n"}
    nothing = {"src/shop/__init__.py": None, "src/shop/flows.py": None}

    folder = lay({**files, **nothing}, pyproject=PYPROJECT.replace('["shop.flows"]', '["shop.flows", "lone"]'))

    assert await paths(folder) == ["lone.py", "shop/__init__.py", "shop/a.txt", "shop/flows.py"]


async def test_include_says_which_files_are_taken(lay: Lay) -> None:
    more = {
        "src/shop/a.txt": "",
        "src/shop/deep/er/b.txt": "",
        "src/shop/deep/c.csv": "",
        "src/other.py": "",
        "src/shop/tests/data.json": "{}",
    }
    pyproject = PYPROJECT + 'include = ["shop/*.py", "**/*.txt", "shop/tests/data.json"]\n'

    assert await paths(lay({**LEFT, **more}, pyproject=pyproject)) == [
        "shop/__init__.py",
        "shop/a.txt",
        "shop/deep/er/b.txt",
        "shop/flows.py",
        "shop/tests/data.json",
    ]


async def test_a_package_with_an_interpreter_of_its_own_is_imported_there_and_has_its_lock_file(lay: Lay, tmp_path: Path) -> None:
    pyproject = PYPROJECT + 'isolation = "process"\n'
    flows = FLOWS + "import importlib, os, sys\nos.environ['CHANGED'] = 'by it'\nimportlib.import_module('shop.more')\n"
    flows += "assert 'pytest' not in sys.modules and importlib.util.find_spec('pytest') is None, 'the environment is its own'\n"
    files: dict[str, str | bytes | None] = {"requirements.lock": "# nothing more\n", "src/shop/flows.py": flows, "src/shop/more.py": ""}

    built = await build(lay(files, pyproject=pyproject), environments=tmp_path / "environments")

    assert built.manifest.isolation == "process"
    assert [file.path for file in built.manifest.files] == ["requirements.lock", "shop/__init__.py", "shop/flows.py", "shop/more.py"]
    assert built.warnings == ()
    with pytest.raises(PackageBuildRefused, match=r"requirements\.lock: there is no such file"):
        await build(lay(folder="other", pyproject=pyproject))


async def test_an_environment_that_cannot_be_made_is_told_with_what_pip_says(
    lay: Lay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    folder = lay({"requirements.lock": f"nowhere==1 --hash=sha256:{64 * '0'}\n"}, pyproject=PYPROJECT + 'isolation = "process"\n')

    with pytest.raises(PackageEnvironmentFailed, match="No matching distribution found for nowhere==1"):
        await build(folder, environments=tmp_path / "environments")


@pytest.mark.parametrize(
    ("flow", "says"),
    [("key=lambda placed: placed.id", "Order: key= or priority= of its flow is a function"), ("concurrency=2, priority=1", "")],
)
async def test_flow_control_that_asks_functions_is_refused_for_an_interpreter_of_its_own(
    lay: Lay, tmp_path: Path, flow: str, says: str
) -> None:
    flows = FLOWS.replace("@app.process\nclass", f"@app.process(flow=perdure.Flow({flow}))\nclass")
    folder = lay({"requirements.lock": "", "src/shop/flows.py": flows}, pyproject=PYPROJECT + 'isolation = "process"\n')

    if not says:
        assert await build(folder, environments=tmp_path / "environments")
        return
    with pytest.raises(DefinitionError, match=says):
        await build(folder, environments=tmp_path / "environments")


# --- pyproject.toml ----------------------------------------------------------------------------------------------


async def test_the_section_goes_before_the_project(lay: Lay) -> None:
    own = 'name = "other-name"\npython = ">=3.11,<4"\nrequires = ["MsgSpec < 9, >= 0.21", "perdure"]\n'

    built = await build(lay(pyproject=PYPROJECT + own))

    assert (built.manifest.name, built.manifest.python) == ("other-name", ">=3.11,<4")
    assert built.manifest.requires == ("msgspec>=0.21,<9", "perdure")


async def test_no_project_is_needed_beside_the_section(lay: Lay) -> None:
    built = await build(lay(pyproject=OWN + 'entries = ["shop.flows"]\n'))

    assert built.manifest.requires == ()
    assert {one.code for one in built.warnings} == {"package-requirement-undeclared"}


@pytest.mark.parametrize(
    ("pyproject", "says"),
    [
        ("[project", "it is no TOML"),
        ('[project]\nname = "shop"\n', r"no section \[tool\.perdure\.package\]"),
        ("tool = 3\n", r"no section \[tool\.perdure\.package\]"),
        (OWN, "missing required field `entries`"),
        (OWN + "entries = []\n", "entries: name the modules"),
        (OWN + 'entries = "shop.flows"\n', r"Expected `array`.*\$\.entries"),
        (
            OWN + 'entries = ["shop.flows"]\nentry = "x"\n',
            "unknown field `entry`; its keys are entries, name, include, isolation, python, requires",
        ),
        (OWN + 'entries = ["shop.nope"]\n', r"'shop\.nope' is no module of the package; expected src/shop/nope\.py"),
        (OWN + 'entries = ["shop.flows"]\nisolation = "none"\n', "isolation"),
        (OWN + 'entries = ["shop.flows"]\ninclude = []\n', "include: it takes no file"),
        (OWN + 'entries = ["shop.flows"]\ninclude = ["shop/*.py", "shop/*.md"]\n', r"'shop/\*\.md' takes no file"),
        (OWN + 'entries = ["shop.flows"]\ninclude = ["../x/*.py"]\n', "expected a pattern such as"),
        (OWN + 'entries = ["shop.flows"]\nrequires = ["msgspec=0.21"]\n', "expected a requirement such as"),
        (SECTION + 'name = "shop"\npython = "3"\nentries = ["shop.flows"]\n', "expected a range of versions"),
        (SECTION + 'name = "shop"\nentries = ["shop.flows"]\n', r"python: it is missing, and \[project\] has no 'requires-python'"),
        (SECTION + 'python = ">=3.11"\nentries = ["shop.flows"]\n', r"name: it is missing, and \[project\] has no 'name'"),
        (SECTION + 'name = "Shop!"\npython = ">=3.11"\nentries = ["shop.flows"]\n', "name: expected 1 to 100 of"),
        (f'[project]\ndynamic = ["dependencies"]\n{OWN}entries = ["shop.flows"]\n', "requires: .* dynamic dependencies"),
        (f'[project]\ndependencies = "x"\n{OWN}entries = ["shop.flows"]\n', "dependencies: expected a list"),
    ],
)
async def test_what_is_wrong_in_pyproject_is_named(lay: Lay, pyproject: str, says: str) -> None:
    with pytest.raises(PackageBuildRefused, match=says) as caught:
        await build(lay(pyproject=pyproject))

    assert "pyproject.toml" in str(caught.value)


async def test_a_folder_without_pyproject_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PackageBuildRefused, match=r"pyproject\.toml: there is none"):
        await build(tmp_path)


# --- what is refused in the files and in the code -----------------------------------------------------------------


@pytest.mark.parametrize("link", ["src", "src/shop/linked.py", "src/shop/linked"])
async def test_links_are_refused(lay: Lay, tmp_path: Path, link: str) -> None:
    folder = lay()
    (tmp_path / "elsewhere.py").touch()
    if link == "src":
        (folder / "src").rename(folder / "real")
    target = {"src": folder / "real", "src/shop/linked.py": tmp_path / "elsewhere.py"}.get(link, folder / "src")
    (folder / link).symlink_to(target)

    with pytest.raises(PackageBuildRefused, match=f"{link}: it is a link"):
        await build(folder)


async def test_links_elsewhere_are_nobodys_concern(lay: Lay) -> None:
    folder = lay()
    (folder / "docs").symlink_to(folder / "src")
    (folder / "src" / ".venv").symlink_to(folder / "src")

    assert await paths(folder) == ["shop/__init__.py", "shop/flows.py"]


async def test_what_is_no_file_is_refused(lay: Lay) -> None:
    folder = lay()
    os.mkfifo(folder / "src" / "shop" / "pipe")

    with pytest.raises(PackageBuildRefused, match="pipe: it is no file"):
        await build(folder)


async def test_files_that_are_too_large_or_too_many_are_refused_unread(lay: Lay, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = lay()
    with (folder / "src" / "shop" / "large.bin").open("wb") as stream:
        stream.truncate(limits.PACKAGE_ARCHIVE_MAX)

    with pytest.raises(PackageTooLarge, match=r"^bytes of its files"):
        await build(folder)
    monkeypatch.setattr(limits, "PACKAGE_FILES_MAX", 2)
    with pytest.raises(PackageTooLarge, match="files: 3, the limit is 2"):
        await build(folder)


@pytest.mark.parametrize(("path", "error"), [("src/shop/fast.so", PackageNativeCode), ("src/shop/a:b.txt", PackagePathInvalid)])
async def test_paths_that_no_package_may_have_are_refused(lay: Lay, path: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        await build(lay({path: ""}))


async def test_an_import_error_is_told_by_the_files_of_the_project(lay: Lay) -> None:
    with pytest.raises(PackageImportFailed, match="ZeroDivisionError") as caught:
        await build(lay({"src/shop/flows.py": "from shop import below\n", "src/shop/below.py": "\n1 / 0\n"}))

    assert 'File "src/shop/below.py", line 2' in str(caught.value)
    assert str(caught.value).startswith("package shop: the import of shop.below failed")


@pytest.mark.parametrize(
    ("flows", "error", "says"),
    [
        ("x = 1\n", PackageBuildRefused, r"shop\.flows: no process type is defined there"),
        (FLOWS + "import importlib\ndef late():\n    importlib.import_module('shop.x')\n", PackageImportsByText, r"shop/flows\.py:26"),
        (FLOWS + 'other = perdure.App("other")\nother.process(hello)\n', DefinitionError, "two apps"),
        (FLOWS + "hello = None\n", PackageBuildRefused, r"shop\.flows:hello: .* under the name that it has there"),
        ("def (:\n", PackageImportFailed, "SyntaxError"),
    ],
)
async def test_code_that_makes_no_package_is_refused(lay: Lay, flows: str, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        await build(lay({"src/shop/flows.py": flows}))


async def test_an_app_that_an_engine_would_not_import_is_refused(lay: Lay) -> None:
    flows = FLOWS.replace('app = perdure.App("shop")\n', "").replace("@app.process\n", "")
    main = "import perdure\nfrom shop.flows import Order\napp = perdure.App('shop')\napp.process(Order)\n"

    with pytest.raises(PackageBuildRefused, match=r"shop\.flows:Order: .* let this one import the app"):
        await build(lay({"src/shop/flows.py": flows, "src/shop/main.py": main}, pyproject=PYPROJECT.replace("shop.flows", "shop.main")))


async def test_a_requirement_that_is_not_met_here_is_told(lay: Lay) -> None:
    with pytest.raises(PackageRequirementUnmet, match="msgspec: expected >=1000"):
        await build(lay(pyproject=PYPROJECT.replace("0.21", "1000")))


async def test_a_type_that_comes_out_otherwise_in_the_next_interpreter_is_refused(lay: Lay) -> None:
    letters = "'abcdefghijklmnop'"
    odd = f"\nOdd = msgspec.defstruct('Odd', [(name, int) for name in set({letters})])\n"
    code = FLOWS + odd + "\n\n@app.process\nasync def late(p: perdure.Process, odd: Odd) -> None:\n    pass\n"

    with pytest.raises(PackageUnstable, match=r"late\[late\(\)\]: .* in one interpreter"):
        await build(lay({"src/shop/flows.py": code}))


async def test_a_type_that_not_every_interpreter_defines_is_refused(lay: Lay) -> None:
    odd = "\nimport os\nif os.environ['PYTHONHASHSEED'] == '2':\n    @app.process\n    async def odd(p: perdure.Process) -> None: ...\n"

    with pytest.raises(PackageUnstable, match="its process types: Order, hello in one interpreter, Order, hello, odd in the next"):
        await build(lay({"src/shop/flows.py": FLOWS + odd}))
