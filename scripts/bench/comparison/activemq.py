"""ActiveMQ with its default store: one server, since Debian's has no replicated one; synced before the answer."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from .go_load import GoRunning, missing_client
from .servers import HOST, Servers, free_ports, package_version
from .system import Shape, Variant
from .workloads import TAKEN

_HOME = Path("/usr/share/activemq")
_JVM = ("-Xms512m", "-Xmx1g")
# A broker works on one frame of a connection after the other, and syncs for several connections at once.
_SHAPES = {
    "batches": Shape(50, 50, 50),
    "singles": Shape(1000, 1, 200),
    "offered": Shape(1000, 1, 200),
    "large": Shape(16, 255, 16),
}
# The default, concurrentStoreAndDispatchQueues, stores one message after the other, with a sync for each.
_SETTINGS = """\
<beans xmlns="http://www.springframework.org/schema/beans" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
    xsi:schemaLocation="http://www.springframework.org/schema/beans
      http://www.springframework.org/schema/beans/spring-beans-2.0.xsd
      http://activemq.apache.org/schema/core http://activemq.apache.org/schema/core/activemq-core.xsd">
  <broker xmlns="http://activemq.apache.org/schema/core" brokerName="bench" useJmx="false" dataDirectory="{data}">
    <persistenceAdapter>
      <kahaDB directory="{data}/kahadb" concurrentStoreAndDispatchQueues="false" journalDiskSyncStrategy="always"/>
    </persistenceAdapter>
    <transportConnectors>
      <transportConnector name="stomp" uri="stomp://{host}:{port}"/>
    </transportConnectors>
  </broker>
</beans>
"""


class ActiveMq:
    name = "activemq"
    variants = (Variant("KahaDB", fsync=True, workloads=TAKEN),)
    settle_s = 4.0

    def replicas(self, wanted: int) -> int:
        return 1

    def missing(self) -> str | None:
        if not (_HOME / "bin" / "activemq.jar").exists() or shutil.which("java") is None:
            return "Debian package activemq is not installed"
        return missing_client()

    def version(self) -> str:
        return package_version("activemq")

    @contextlib.contextmanager
    def started(self, directory: Path, replicas: int, variant: Variant) -> Iterator[GoRunning]:
        (port,) = free_ports(1)
        settings = directory / "activemq.xml"
        settings.write_text(_SETTINGS.format(data=directory / "data", host=HOST, port=port))
        command = ["java", *_JVM, f"-Dactivemq.home={_HOME}", f"-Dactivemq.base={directory}"]
        command += ["-jar", str(_HOME / "bin" / "activemq.jar"), "start", f"xbean:file:{settings}"]
        with Servers(directory) as servers:
            servers.start("activemq", command)
            servers.await_ports([port])
            yield GoRunning("activemq", servers, [port], 1, shapes=_SHAPES, consumed=True)
