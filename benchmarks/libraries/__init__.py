"""The same work in each library.

Every module has ``versions()``, {package: version}, which raises Missing when it cannot run here, and
``make(case, flags)``, which prepares a case and gives ``run`` and ``results``: ``run()`` does the work once (a training
step returns its loss), ``results()`` gives the arrays of the last run that must be the same in every library. A module
raises Missing, too, for a case that the library has no way to do.
"""

from __future__ import annotations


class Missing(Exception):
    """What is needed and is not here; the text goes into the report."""
