"""Faults in loading versions of packages side by side, in letting them go, and in the names that are told of them."""

from __future__ import annotations

from typing import Final

from tests.faults.fault import Fault

HERE: Final = "src/perdure"
FINDING: Final = f"{HERE}/packages/finding.py"
LOADING: Final = f"{HERE}/packages/loading.py"
CATALOG: Final = f"{HERE}/packages/catalog.py"
UNLOADING: Final = f"{HERE}/packages/unloading.py"
REQUIREMENTS: Final = f"{HERE}/packages/requirements.py"
OUTCOMES: Final = f"{HERE}/engine/outcomes.py"
SIDE: Final = ("tests/packages/test_loading.py",)
TRAPS: Final = ("tests/packages/test_loading_traps.py",)
FAILURES: Final = ("tests/packages/test_load_failures.py",)
NEEDS: Final = ("tests/packages/test_requirements.py",)
USES: Final = ("tests/packages/test_catalog.py",)
GONE: Final = ("tests/packages/test_unloading.py",)
NAMES: Final = ("tests/packages/test_public_names.py",)
TOGETHER: Final = ("tests/packages/test_side_by_side.py",)

FAULTS: Final = (
    # --- finding -----------------------------------------------------------------------------------------
    Fault("version-imports-public-names", FINDING, "            if top in names:\n", "            if False:\n", SIDE, imports=True),
    Fault("version-renames-relative-imports", FINDING, "        if not level:\n", "        if True:\n", SIDE, imports=True),
    Fault(
        "version-imports-past-hooks",
        FINDING,
        "        return builtins.__import__(name, *given, **named)",
        "        return importlib.__import__(name, *given, **named)",
        TRAPS,
    ),
    Fault(
        "version-with-the-builtins-of-all",
        FINDING,
        '        vars(module)["__builtins__"] = self.builtins',
        '        vars(module)["__builtins__"] = vars(builtins)',
        SIDE,
        imports=True,
    ),
    Fault(
        "version-lacks-a-module-and-others-are-asked",
        FINDING,
        "        return version.spec(fullname)\n",
        "        return version.spec(fullname) if version.holds(public_name(fullname)) else None\n",
        TRAPS,
        imports=True,
    ),
    Fault(
        "version-found-behind-others",
        FINDING,
        "    if not sys.meta_path or sys.meta_path[0] is not _FIRST:\n",
        "    if _FIRST not in sys.meta_path:\n",
        TRAPS,
        imports=True,
    ),
    Fault(
        "version-advises-before-others-are-asked",
        FINDING,
        "(found := finder.find_spec(fullname, None, target)) is not None",
        "(found := None) is not None",
        TRAPS,
        imports=True,
    ),
    Fault("version-advises-who-only-asks", FINDING, "owners[0] if importing else None\n", "owners[0]\n", TRAPS, imports=True),
    Fault("version-advises-for-another", FINDING, "            return wanted, owner\n", "            break\n", TRAPS, imports=True),
    Fault("version-runs-after-it-was-let-go", FINDING, "        if VERSIONS.get(self.tag) is not self:", "        if False:", TRAPS),
    Fault(
        "version-has-modules-under-two-names",
        FINDING,
        '        return f"{public_name(top)}{dot}{rest}"\n',
        '        return f"{public_name(top)}{dot}{public_name(rest)}"\n',
        TRAPS,
    ),
    Fault("version-has-modules-by-path", FINDING, '        if "/" in name:\n', "        if False:\n", TRAPS, imports=True),
    Fault(
        "version-keeps-no-namespace-packages",
        FINDING,
        "        return (None, True) if self.files.is_folder(path) else None\n",
        "        return None\n",
        SIDE,
        imports=True,
    ),
    # --- loading -----------------------------------------------------------------------------------------
    Fault(
        "load-with-names-of-the-standard-library",
        LOADING,
        "        if is_reserved(name) or not name.isidentifier():\n",
        "        if not name.isidentifier():\n",
        FAILURES,
    ),
    Fault("load-two-versions-of-the-same-digits", LOADING, "    if other is not version:\n", "    if False:\n", FAILURES),
    Fault("load-leaves-half-of-it", LOADING, "        withdraw(version)\n        return failure\n", "        return failure\n", FAILURES),
    Fault(
        "load-lets-an-import-end-the-engine",
        LOADING,
        "        except BaseException as error:",
        "        except Exception as error:",
        FAILURES,
    ),
    Fault(
        "load-keeps-the-code-that-failed",
        LOADING,
        "            return _import_failed(code, version, entry, error)\n",
        "            raise _import_failed(code, version, entry, error)\n",
        FAILURES,
    ),
    Fault("load-tells-the-entry-not-the-module", LOADING, "    module = _innermost(error) or ", "    module = ", FAILURES),
    Fault(
        "load-tells-its-own-frames",
        LOADING,
        "    told = traceback.TracebackException.from_exception(error)\n    _leave_out_ours(told)\n",
        "    told = traceback.TracebackException.from_exception(error)\n",
        FAILURES,
    ),
    Fault("load-tells-a-traceback-of-any-length", LOADING, "traceback=text[-limits.PACKAGE_TRACEBACK_MAX :]", "traceback=text", FAILURES),
    Fault("load-tells-private-names", LOADING, 'storable(text.replace(f"@{version.tag}", ""))', "storable(text)", FAILURES),
    Fault(
        "load-without-what-it-needs",
        LOADING,
        "    found = check_requirements(",
        "    found: dict[str, str] = {} and check_requirements(",
        NEEDS,
    ),
    Fault("load-imports-again", LOADING, "            made = held.loaded or _imported", "            made = _imported", SIDE),
    Fault("load-lets-go-for-all", LOADING, "        if held.holders:\n", "        if False:\n", SIDE, imports=True),
    Fault("load-entries-unseen", LOADING, "            if _entry(version, entry) is None:\n", "            if False:\n", FAILURES),
    # --- requirements ------------------------------------------------------------------------------------
    Fault("needs-no-pre-releases", REQUIREMENTS, "prereleases=True", "prereleases=False", NEEDS),
    Fault(
        "needs-what-others-need",
        REQUIREMENTS,
        "        if wanted.marker is not None and not wanted.marker.evaluate():\n",
        "        if False:\n",
        NEEDS,
    ),
    Fault("needs-without-extras", REQUIREMENTS, "for extra in wanted.extras", "for extra in ()", NEEDS),
    Fault("needs-extras-for-ever", REQUIREMENTS, " if one not in seen]", "]", NEEDS, hangs=True),
    Fault("needs-without-python", REQUIREMENTS, '    yield "Python", python, PYTHON\n', '    yield "Python", "", PYTHON\n', NEEDS),
    # --- letting go --------------------------------------------------------------------------------------
    Fault("gone-but-for-typing", UNLOADING, "        clear()  #", "        str()  #", GONE),
    Fault("gone-but-for-unions", UNLOADING, "    _push_out_unions()\n    marks", "    marks", GONE),
    Fault(
        "gone-but-for-the-latest-unions",
        UNLOADING,
        "    for union in _unions():\n",
        "    for union in _unions()[:32]:\n",
        GONE,
    ),
    Fault("gone-but-for-sources-and-loggers", UNLOADING, "            cache.pop(key, None)\n", "            pass\n", GONE),
    Fault("gone-with-those-of-others", UNLOADING, "if any(mark in key for mark in marks)]", 'if "@" in key or "<package" in key]', GONE),
    Fault(
        "gone-while-its-functions-are-in-use",
        UNLOADING,
        '    yield version.builtins["__import__"]\n',
        "    yield from ()\n",
        GONE,
    ),
    Fault("gone-while-its-classes-are-in-use", UNLOADING, "                yield thing\n", "                pass\n", GONE),
    Fault(
        "gone-with-a-look-behind-proxies",
        UNLOADING,
        "            if issubclass(type(thing), type) and ",
        "            if isinstance(thing, type) and ",
        GONE,
    ),
    Fault("gone-but-for-its-modules", UNLOADING, "        sys.modules.pop(name, None)\n", "        pass\n", GONE),
    Fault(
        "gone-but-for-its-steps",
        f"{HERE}/engine/functions.py",
        "        self._remembered = functools.lru_cache(maxsize=_REMEMBERED)(self._made)\n",
        '        self._remembered = globals().setdefault("_all", functools.lru_cache(maxsize=_REMEMBERED)(self._made))\n',
        GONE,
    ),
    # --- the catalog -------------------------------------------------------------------------------------
    Fault(
        "catalog-evicts-what-was-loaded-first",
        CATALOG,
        "        self._slots[content_hash] = self._slots.pop(content_hash)\n",
        "",
        USES,
    ),
    Fault(
        "catalog-evicts-what-is-in-use",
        CATALOG,
        "if not slot.pins and slot.loading is None]",
        "if slot.loading is None]",
        USES,
        imports=True,
    ),
    Fault(
        "catalog-evicts-in-use-when-told-to",
        CATALOG,
        "        if slot.pins or slot.loading is not None:\n",
        "        if False:\n",
        USES,
        imports=True,
    ),
    Fault("catalog-evicts-nothing", CATALOG, "(*unloaded, *unused)", "unloaded", USES),
    Fault("catalog-keeps-pins", CATALOG, "        self._slots[content_hash].pins -= 1\n", "        pass\n", USES),
    Fault("catalog-imports-for-each", CATALOG, "        if slot.loading is None:\n", "        if True:\n", USES),
    Fault("catalog-stops-with-who-asked-first", CATALOG, "        await asyncio.wait([loading])", "        await loading", USES),
    Fault("catalog-never-tries-again", CATALOG, "        slot.loading = None\n        if", "        if", USES, hangs=True),
    Fault("catalog-of-any-version", CATALOG, "        if code.content_hash != content_hash:\n", "        if False:\n", USES),
    Fault("catalog-imports-in-the-context-of-a-thread", CATALOG, "submit(Context().run, load, code)", "submit(load, code)", USES),
    Fault("catalog-forgets-what-a-thread-loads", CATALOG, "            thread.add_done_callback(_unload)", "            pass", USES),
    Fault(
        "catalog-goes-on-when-it-is-closed",
        CATALOG,
        "        if self._closed:\n            raise",
        "        if False:\n            raise",
        USES,
        hangs=True,
    ),
    Fault("catalog-counts-what-is-gone", CATALOG, "for remains in self._evicted if remains.alive]", "for remains in self._evicted]", GONE),
    # --- names -------------------------------------------------------------------------------------------
    Fault("names-of-errors-are-private", OUTCOMES, "    module = public_name(kind.__module__)\n", "    module = kind.__module__\n", NAMES),
    Fault("names-in-texts-of-errors-are-private", OUTCOMES, "    return storable(public_text(text))", "    return storable(text)", NAMES),
    Fault(
        "names-in-arguments-of-errors-are-private",
        OUTCOMES,
        "    return public_text(value) if isinstance(value, str) else value",
        "    return value",
        NAMES,
    ),
    Fault("names-of-errors-are-found-anywhere", OUTCOMES, "imported(failure.module, by=by)", 'imported(failure.module, by="")', NAMES),
    Fault(
        "names-of-errors-are-found-by-no-turn",
        f"{HERE}/engine/app.py",
        "turn.module, turn.known = self.target.__module__, ",
        'turn.module, turn.known = "", ',
        TOGETHER,
    ),
    Fault(
        "names-of-errors-are-found-by-no-caller", f"{HERE}/engine/engine.py", 'by=getattr(handler, "__module__", ""))', 'by="")', TOGETHER
    ),
    Fault("names-of-errors-are-found-by-no-sender", f"{HERE}/engine/engine.py", "by=type(message).__module__)", 'by="")', TOGETHER),
    Fault(
        "names-in-prose-are-taken-for-tags",
        f"{HERE}/names.py",
        "    return found[1] if found[0] in sys.modules else found[0]\n",
        "    return found[1]\n",
        NAMES,
    ),
    Fault(
        "names-of-payloads-are-private",
        f"{HERE}/codec.py",
        'public_name(str(getattr(kind, "__name__", kind)))',
        'str(getattr(kind, "__name__", kind))',
        NAMES,
    ),
    Fault(
        "names-of-types-without-schema-are-private",
        f"{HERE}/schemas/expressions.py",
        "shown(getattr(node, 'cls', type(node)))",
        "repr(getattr(node, 'cls', type(node)))",
        NAMES,
    ),
)
