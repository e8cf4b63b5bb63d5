"""The allocator of the C library, told what training needs of it."""

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h
_NEVER = -1


def keep_freed_memory() -> None:
    """Keep freed blocks for the next allocation instead of giving them back to the system.

    glibc gives large blocks back at once, so every step faults its gradients and activations in anew: a twelfth of the
    time of a PPO update of SmolLM2-135M on two cores. The peak stays what it is. Nothing happens under another C
    library.
    """
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, _NEVER)
    except (OSError, AttributeError):
        return


def release_freed_memory() -> None:
    """Give back what is free now, so that the memory in use can be read."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):
        return
