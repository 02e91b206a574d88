"""What `idemproxy run` is: one serving process, or a parent and its workers."""

from __future__ import annotations

import sys

from idemproxy.config.settings import Settings
from idemproxy.errors import StartError
from idemproxy.observe import logs
from idemproxy.runtime import process, workers
from idemproxy.runtime.reload import Reread
from idemproxy.runtime.service import Service, store_of

__all__ = ["Service", "run", "store_of"]


def run(settings: Settings, reread: Reread | None) -> int:
    """Serve until SIGTERM or SIGINT, then drain. Gives the exit status. On SIGHUP `reread` gives the configuration as it is then; None:
    it stays as it is."""
    logs.set_up(sys.stderr)
    process.say_warnings(settings)
    try:
        number = workers.count(settings)
        if number > 1:
            return workers.run(settings, reread, number)
        process.run_alone(settings, reread)
    except StartError as error:
        sys.stderr.write(f"idemproxy: {error}\n")
        return 1
    return 0
