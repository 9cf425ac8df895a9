"""How commands come by Keras."""

from __future__ import annotations

import os
import tempfile
from typing import Any

from kzoo.errors import KzooError


def import_models() -> Any:
    """Import the zoo, and with it Keras and its backend, without the notes that backends print at the door.

    They come from C++ before any log level holds, so they are caught at the file descriptor, and shown only if the
    import fails.
    """
    with tempfile.TemporaryFile() as notes:
        saved = os.dup(2)
        os.dup2(notes.fileno(), 2)
        try:
            from kzoo import models
        except KzooError:
            raise
        except BaseException:
            notes.seek(0)
            os.write(saved, notes.read())
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)
    return models
