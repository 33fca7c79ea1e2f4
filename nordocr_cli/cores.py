"""How many CPU cores this process may use: its affinity, and the quota of its control group."""

import os
from pathlib import Path

# Of version 2: "200000 100000", or "max 100000"
_CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def usable_cores(quota_file: Path = _CGROUP_QUOTA) -> int:
    """Return the number of cores: those that the scheduler may run this process on, and no more
    than its control group allows; at least 1.
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    quota = _quota(quota_file)
    if quota is not None:
        cores = min(cores, max(1, int(quota)))
    return cores


def _quota(file: Path) -> float | None:
    """Return the cores that the control group allows; None where it sets no limit."""
    try:
        limit, period = file.read_text(encoding="ascii").split()
        if limit == "max":
            return None
        return int(limit) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None  # no control group, or one of version 1
