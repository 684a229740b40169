"""Sources of a package that uses its own modules in every way, and versions made of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from perdure.packages.loading import PackageCode

# `{n}` is the number of the version.
SHOP = {
    "shop/__init__.py": "from shop.constants import NUMBER\n",
    "shop/constants.py": "NUMBER = {n}\n",
    "shop/models.py": """\
from __future__ import annotations

import dataclasses
import enum
from typing import NamedTuple, TypedDict

import msgspec

from . import constants


class Order(msgspec.Struct, tag="order"):
    lines: list[Line]
    number: int = constants.NUMBER


class Line(msgspec.Struct):
    sku: str
    of: Order | None = None


@dataclasses.dataclass(order=True)
class Address:
    street: str
    kind: Kind | None = None


class Kind(enum.Enum):
    HOME = "home"


class Point(NamedTuple):
    address: Address


class Page(TypedDict):
    address: Address


class Broken(ValueError):
    def __init__(self, text, *, number=constants.NUMBER):
        super().__init__(text)
        self.number = number
""",
    "shop/left.py": "from . import right\nNUMBER = {n}\ndef other():\n    return right.NUMBER\n",
    "shop/right.py": "from . import left\nfrom .constants import NUMBER\ndef other():\n    return left.NUMBER\n",
    "shop/deep/below.py": "from ..constants import NUMBER\n",
    "shop/late.py": "NUMBER = {n}\n",
    "shop/shared.py": "import shared\nNUMBER = shared.NUMBER + 1000\n",
    "shop/data/grüße.txt": "hällo {n}\n",
    "shared.py": "import shop.constants\nNUMBER = shop.constants.NUMBER\n",
    "shop/ways.py": '''\
"""Each function returns the number of its version, by another way to import."""

import asyncio
import importlib
import threading
from shop.constants import *


def star():
    return NUMBER


def absolute():
    import shop.late
    return shop.late.NUMBER


def absolute_as():
    import shop.late as found
    return found.NUMBER


def from_absolute():
    from shop.late import NUMBER as found
    return found


def from_package():
    from shop import late
    return late.NUMBER


def relative():
    from . import late
    return late.NUMBER


def relative_from():
    from .late import NUMBER as found
    return found


def circular():
    from . import left, right
    return (left.other() + right.other()) / 2


def below():
    from .deep.below import NUMBER as found
    return found


def another_top():
    import shared
    return shared.NUMBER


def relative_of_a_name_at_the_top():
    from .shared import NUMBER as found
    return found - 1000


def class_body():
    class Body:
        from shop.late import NUMBER as found
    return Body.found


def by_dunder():
    return __import__("shop.late").late.NUMBER


def by_dunder_with_names():
    return __import__("shop.late", globals(), locals(), ["NUMBER"], 0).NUMBER


def by_dunder_with_keywords():
    return __import__(name="late", globals=globals(), fromlist=["NUMBER"], level=1).NUMBER


def by_exec():
    found = {}
    exec("from shop.late import NUMBER", found)
    return found["NUMBER"]


def by_eval():
    return eval("__import__('shop.late').late.NUMBER")


def by_package():
    return importlib.import_module(".late", __package__).NUMBER


def by_name():
    return importlib.import_module(__name__.replace("ways", "late")).NUMBER


def in_thread():
    found = []
    thread = threading.Thread(target=lambda: found.append(absolute()))
    thread.start()
    thread.join()
    return found[0]


def in_task():
    async def look():
        await asyncio.sleep(0)
        from shop import late
        return late.NUMBER

    return asyncio.run(look())
''',
}
WAYS = [
    "star",
    "absolute",
    "absolute_as",
    "from_absolute",
    "from_package",
    "relative",
    "relative_from",
    "circular",
    "below",
    "another_top",
    "relative_of_a_name_at_the_top",
    "class_body",
    "by_dunder",
    "by_dunder_with_names",
    "by_dunder_with_keywords",
    "by_exec",
    "by_eval",
    "by_package",
    "by_name",
    "in_thread",
    "in_task",
]


def made(files: Mapping[str, str | bytes], *, name: str = "shop", **more: Any) -> PackageCode:
    """A version of these files; its hash is of them, and its names at the top are theirs."""
    data = {path: file.encode() if isinstance(file, str) else file for path, file in files.items()}
    content_hash = hashlib.sha256(json.dumps({path: file.hex() for path, file in data.items()}).encode()).hexdigest()
    tops = sorted({path.partition("/")[0].removesuffix(".py") for path in data})
    given: dict[str, Any] = {"content_hash": content_hash, "top_levels": tuple(tops), **more}
    return PackageCode(name=name, files=data, **given)


def written(text: str, module: Any) -> Any:
    """What an expression means in a module."""
    return eval(text, vars(module))


def numbered(number: int, more: Mapping[str, str] | None = None, *, entries: tuple[str, ...] = ("shop.models:Order",)) -> PackageCode:
    """The version of the shop with this number, with more files."""
    files = {path: text.replace("{n}", str(number)) for path, text in {**SHOP, **(more or {})}.items()}
    return made(files, entries=entries)
