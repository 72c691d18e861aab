"""What these tests need: the compiled kernels."""

from __future__ import annotations

import pytest

from palate.model.native.build import native

needs_native = pytest.mark.skipif(native().library is None, reason=native().reason)
