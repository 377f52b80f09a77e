"""Settings of `heed env`."""

from __future__ import annotations

from heed.settings.common import Settings


class EnvSettings(Settings):
    """What heed runs on; nothing can be set."""
