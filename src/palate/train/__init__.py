"""The training room, which is also the function `palate.train(RunConfig(...)) -> Run`.

A package and a function cannot share a name, unless the package can be called: so
this module can. The whole run (data, training, measurement, report) is in
`palate.run`; the rooms here only train.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _CallableRoom(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from palate.machine import calm_threads

        calm_threads()  # before torch is imported, where the caller has not done so
        from palate.run import train

        return train(*args, **kwargs)


sys.modules[__name__].__class__ = _CallableRoom
