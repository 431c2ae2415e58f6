"""The same 23 tasks as in ../playbooks/bench.toml, for pyinfra."""

import io

from pyinfra import host
from pyinfra.operations import apt, files, server, systemd

FOLDER = host.data.bench_folder
SETTINGS = host.data.settings

server.group(name="group", group="agent", system=True)
server.user(
    name="user", user="agent", system=True, group="agent", home="/var/lib/agent",
    create_home=False, shell="/usr/sbin/nologin",
)
for path in ("/etc/agent", "/etc/agent/conf.d", "/var/lib/agent", "/var/log/agent", "/var/spool/agent"):
    files.directory(name=f"directory {path}", path=path, user="agent", group="agent", mode="750")
program = files.put(
    name="program", src=f"{FOLDER}/agent", dest="/usr/local/bin/agent", mode="755"
)
restarting = [program]
for path, template in {
    "/etc/agent/agent.yaml": "agent.yaml",
    "/etc/agent/conf.d/input.conf": "input.conf",
    "/etc/agent/conf.d/filter.conf": "filter.conf",
    "/etc/agent/conf.d/output.conf": "output.conf",
    "/etc/default/agent": "agent.env",
}.items():
    changed = files.template(
        name=f"template {path}", src=f"{FOLDER}/templates/bench/{template}.tera", dest=path,
        mode="644", settings=SETTINGS,
    )
    if path in ("/etc/agent/agent.yaml", "/etc/default/agent"):
        restarting.append(changed)
for path, text in {
    "/etc/security/limits.d/agent.conf": "agent soft nofile 65536\n",
    "/etc/tmpfiles.d/agent.conf": "d /run/agent 0750 agent agent -\n",
    "/etc/profile.d/agent.sh": "export AGENT_HOME=/var/lib/agent\n",
    "/etc/logrotate.d/agent": "/var/log/agent/*.log { weekly }\n",
}.items():
    files.put(name=f"file {path}", src=io.StringIO(text), dest=path, mode="644")
for key, value in {
    "net.core.somaxconn": "8192",
    "net.ipv4.tcp_fin_timeout": "30",
    "net.ipv4.ip_local_port_range": "10240 65000",
}.items():
    server.sysctl(
        name=f"sysctl {key}", key=key, value=value, persist=True,
        persist_file=f"/etc/sysctl.d/60-{key}.conf",
    )
apt.packages(name="package", packages=["tree"])
unit = files.template(
    name="unit", src=f"{FOLDER}/templates/bench/agent.service.tera",
    dest="/etc/systemd/system/agent.service", mode="644", settings=SETTINGS,
)
systemd.service(name="service", service="agent", running=True, enabled=True, daemon_reload=True)
systemd.service(
    name="restart", service="agent", restarted=True,
    _if=lambda: any(one.did_change() for one in [*restarting, unit]),
)
