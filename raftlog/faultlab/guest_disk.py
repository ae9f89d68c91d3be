"""In a VM: the file system of the node's data, which can be filled and made to fail.

    python -m raftlog.faultlab.guest_disk attach

An ext4 in a file, as a loop device behind a device-mapper table. The table passes everything on (`linear`), or lets
each write and sync fail (`flakey` with `error_writes`). `attach` is run at boot, before the node; a power failure
leaves what was synced, since a sync goes through to the VM's own disk.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from raftlog.errors import RaftlogError
from raftlog.faultlab.damage import fill

MOUNT = Path("/var/lib/raftlog")
DATA = MOUNT / "data"
OWNER = "raftlog"
_FILLER = MOUNT / "filler"
_IMAGE = Path("/var/lib/raftlog.ext4")
_IMAGE_BYTES = 1 << 30  # sparse: takes what is written
_NAME = "raftlog-data"
_DEVICE = f"/dev/mapper/{_NAME}"
_FOR_EVER_S = 1_000_000
_UMOUNT_S = 60.0
_FSCK_MENDED = 1


def run(*command: str, check: bool = True) -> str:
    """What it printed. Raises RaftlogError with what it complained of."""
    done = subprocess.run(command, capture_output=True, text=True)
    if check and done.returncode:
        raise RaftlogError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def attach() -> None:
    for module in ("loop", "dm_mod", "dm_flakey"):
        run("modprobe", module, check=False)  # what is built in is no module
    if not _IMAGE.exists():
        with open(_IMAGE, "wb") as image:
            image.truncate(_IMAGE_BYTES)
        run("mkfs.ext4", "-q", "-F", "-m", "0", str(_IMAGE))
    if not os.path.exists(_DEVICE):
        loop = _loop() or run("losetup", "--find", "--show", str(_IMAGE)).strip()
        run("dmsetup", "create", _NAME, "--table", _linear(loop))
    _mount()


def _loop() -> str:
    return run("losetup", "--noheadings", "--output", "NAME", "--associated", str(_IMAGE)).strip()


def _linear(loop: str) -> str:
    return f"0 {run('blockdev', '--getsz', loop).strip()} linear {loop} 0"


def _mount() -> None:
    MOUNT.mkdir(exist_ok=True)
    if not os.path.ismount(MOUNT):
        run("mount", _DEVICE, str(MOUNT))
    DATA.mkdir(exist_ok=True)
    shutil.chown(DATA, OWNER, OWNER)


def is_failing() -> bool:
    return "error_writes" in run("dmsetup", "table", _NAME, check=False)


def is_full() -> bool:
    return _FILLER.exists()


def fail() -> None:
    """Every write and sync fails from now on."""
    loop = _loop()
    sectors = run("blockdev", "--getsz", loop).strip()
    _load(f"0 {sectors} flakey {loop} 0 0 {_FOR_EVER_S} 1 error_writes")


def _load(table: str) -> None:
    # Without a flush: what was not synced is not to get to the disk by this.
    run("dmsetup", "suspend", "--noflush", "--nolockfs", _NAME)
    try:
        run("dmsetup", "load", _NAME, "--table", table)
    finally:
        run("dmsetup", "resume", _NAME)


def repair() -> None:
    """The disk works again, with room. The node must not run: what it wrote in vain is dropped with the page cache."""
    if not is_failing():
        return
    deadline_s = time.monotonic() + _UMOUNT_S
    while os.path.ismount(MOUNT):
        try:
            run("umount", str(MOUNT))
        except RaftlogError:  # processes that were killed may need a moment to go
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.2)
    _load(_linear(_loop()))
    checked = subprocess.run(["fsck.ext4", "-p", _DEVICE], capture_output=True, text=True)
    if checked.returncode > _FSCK_MENDED:
        raise RaftlogError(f"fsck.ext4 -p {_DEVICE}: {checked.stdout.strip()}")
    _mount()
    set_full(False)


def set_full(full: bool) -> None:
    if full:
        fill(_FILLER)
    elif not is_failing():  # else `repair` does it
        _FILLER.unlink(missing_ok=True)


if __name__ == "__main__":
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    if sys.argv[1:] != ["attach"]:
        sys.exit(__doc__)
    attach()
