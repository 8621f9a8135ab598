"""How this process takes memory from the system and gives it back (glibc; elsewhere nothing is changed).

A server draws every page in a thread of its own. As it comes, glibc gives threads up to eight heaps for each processor,
and after the first large picture takes pictures out of those heaps too; what lives a little longer then holds the pages
around it, so that the process grows with every study although it holds nothing. With two heaps for all threads, and
whatever is larger than `MMAP_BYTES` mapped by itself, memory goes back to the system when it is freed.

Source: mallopt(3) of glibc. Who sets one of its environment variables has decided, and is not overruled.
"""

from __future__ import annotations

import ctypes
import platform

from core.settings import is_in_environment

ARENAS = 2
MMAP_BYTES = 128 * 1024
"""glibc's own value at the start; set by hand it stays, instead of growing to 32 MiB."""
_ARENA_MAX, _MMAP_THRESHOLD = -8, -3
"""M_ARENA_MAX, M_MMAP_THRESHOLD of malloc.h."""
_SETTINGS = ((_ARENA_MAX, ARENAS, "MALLOC_ARENA_MAX"), (_MMAP_THRESHOLD, MMAP_BYTES, "MALLOC_MMAP_THRESHOLD_"))


def give_memory_back() -> tuple[str, ...]:
    """To be called before the process has threads; the names of the variables that stand for what was set."""
    if platform.libc_ver()[0] != "glibc":
        return ()
    library = ctypes.CDLL(None)
    return tuple(
        variable
        for setting, value, variable in _SETTINGS
        if not is_in_environment(variable) and library.mallopt(ctypes.c_int(setting), ctypes.c_int(value))
    )
