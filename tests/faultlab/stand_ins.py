"""Programs that stand in for ssh, virsh, VBoxManage and vagrant where no VM can run: they note what they were told.

A VM is a word in a file, `<name>.state`. What ssh would have asked in a VM is answered without being done.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.source_tree import ROOT

_HEAD = f"#!{sys.executable}\nimport json, os, sys\nfrom pathlib import Path\nhere = Path({{here!r}})\n"
_NOTE = 'with open(here / "said.jsonl", "a") as said: said.write(json.dumps({0}) + "\\n")\n'

_SSH = """
def network(name):
    path = here / f"{name}.network"
    return json.loads(path.read_text()) if path.exists() else {}

name, command = sys.argv[-2:]
if (here / f"{name}.state").read_text() != "running":
    sys.exit(f"ssh: connect to host {name}: timed out")
if "journalctl" in command:
    print("a line of the log of", name)
    sys.exit()
print("ready", flush=True)
answers = {
    "endpoints": json.loads((here / "endpoints.json").read_text()),
    "status": {"service": "active", "faults": ["clock-drift"], "time_s": 0.0, "network": network(name)},
    "kill_worker": "process 77",
    "forget_options": False,
}
for line in sys.stdin:
    verb, *arguments = json.loads(line)
    note([name, verb, *arguments])
    if verb == "network":
        (here / f"{name}.network").write_text(json.dumps(arguments[0]))
    answers["status"]["network"] = network(name)
    broken = (here / "broken").exists()
    print(json.dumps({"error": "it is broken"} if broken else {"value": answers.get(verb)}), flush=True)
"""
_VIRSH = """
verb, name, *rest = sys.argv[4:]
state = here / f"{name}.state"
after = {"suspend": "paused", "resume": "running", "destroy": "shut off", "start": "running"}
if verb == "domstate":
    print(state.read_text())
elif verb == "dumpxml":
    kind = here / f"{name}.type"
    print(f"<domain type='{kind.read_text() if kind.exists() else 'kvm'}' id='1'>")
elif verb == "domiflist":
    print(" vnet0 network vagrant-libvirt virtio 52:54:00:00:00:01\\n vnet1 network raftlog0 virtio 52:54:00:00:00:02")
elif verb == "domif-getlink":
    print(rest[0], "down" if (here / f"{name}.unplugged").exists() else "up")
else:
    note(["virsh", name, verb, *rest])
    if verb == "domif-setlink":
        unplugged = here / f"{name}.unplugged"
        unplugged.touch() if rest[1] == "down" else unplugged.unlink(missing_ok=True)
    state.write_text(after.get(verb, state.read_text()))
"""
_VBOXMANAGE = """
verb, name, *rest = sys.argv[1:]
state = here / f"{name}.state"
after = {"pause": "paused", "resume": "running", "poweroff": "poweroff", "startvm": "running"}
if verb == "showvminfo":
    print(f'name="{name}"\\nVMState="{state.read_text()}"\\nVMStateChangeTime="1"')
else:
    note(["VBoxManage", name, verb, *rest])
    state.write_text(after.get((rest or [verb])[0], after.get(verb, state.read_text())))
"""
_VAGRANT = """
note(["vagrant", *sys.argv[1:]])
"""


class StandIns:
    """Three VMs of one provider, as files in `folder`; put `environment` around the commands."""

    def __init__(self, folder: Path, provider: str = "libvirt") -> None:
        self.folder = folder
        (folder / "bin").mkdir()
        (folder / "Vagrantfile").touch()
        self.set_endpoints({node_id: f"127.0.0.{node_id}:1" for node_id in (1, 2, 3)})
        for name in ("n1", "n2", "n3"):
            path = folder / ".vagrant" / "machines" / name / provider / "id"
            path.parent.mkdir(parents=True)
            path.write_text(name)
            self.set_state(name, "running")
        for name, body in (("ssh", _SSH), ("virsh", _VIRSH), ("VBoxManage", _VBOXMANAGE), ("vagrant", _VAGRANT)):
            path = folder / "bin" / name
            note = "def note(what):\n    " + _NOTE.format("what")
            path.write_text(_HEAD.format(here=str(folder)) + note + body)
            path.chmod(0o755)

    @property
    def environment(self) -> dict[str, str]:
        path = os.pathsep.join((str(self.folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]))
        # The stand-ins start Python too, and nothing in the current directory is theirs.
        return {**os.environ, "PATH": path, "VAGRANT_CWD": str(self.folder), "PYTHONPATH": str(ROOT)}

    def set_endpoints(self, endpoints: Mapping[int, object]) -> None:
        told = {node_id: str(endpoint) for node_id, endpoint in endpoints.items()}
        (self.folder / "endpoints.json").write_text(json.dumps(told))

    def set_state(self, name: str, state: str) -> None:
        (self.folder / f"{name}.state").write_text(state)

    def said(self) -> list[list[object]]:
        """What was done, without what was only asked."""
        path = self.folder / "said.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return [
            line for line in lines if line[1] not in ("endpoints", "status") and line[:2] != ["vagrant", "ssh-config"]
        ]
