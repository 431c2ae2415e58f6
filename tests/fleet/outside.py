"""What the shipped playbooks promise, as pytest-testinfra sees it over ssh.

It is written by hand from playbooks/ and environments/tiers.toml, and reads neither: what the tool
makes of them is judged here.
"""

import json

import pytest

PORTS = {
    "lb-1": [4317, 4318, 8404, 13133],
    "collector-1": [4317, 4318, 8888, 13133],
    "collector-2": [4317, 4318, 8888, 13133],
    "storage-1": [4317, 4318, 8888, 13133],
}
SERVICES = {"lb-1": "haproxy"}
MEMORY = {"collector-1": 2 << 30, "collector-2": 2 << 30, "storage-1": 4 << 30}


@pytest.fixture
def name(host):
    found = host.check_output("hostname")
    assert found in PORTS
    return found


def only(name, *groups):
    if not name.startswith(groups):
        pytest.skip(f"{name} has none")


def test_its_service_runs_and_is_enabled(host, name):
    service = host.service(SERVICES.get(name, "otel-collector"))
    assert service.is_running
    assert service.is_enabled


def test_it_listens_at_its_ports(host, name):
    everywhere = "" if name == "lb-1" else "0.0.0.0:"
    for port in PORTS[name]:
        assert host.socket(f"tcp://{everywhere}{port}").is_listening, port


def test_nothing_else_listens_for_others(host, name):
    lines = host.check_output("ss -Hltn").splitlines()
    found = {line.split()[3] for line in lines}
    ports = {int(at.rsplit(":", 1)[1]) for at in found if not at.startswith("127.")}
    assert ports == {*PORTS[name], 22}


def test_packages(host, name):
    assert host.package("haproxy").is_installed == (name == "lb-1")


def test_haproxy(host, name):
    only(name, "lb")
    config = host.file("/etc/haproxy/haproxy.cfg")
    assert (config.user, config.group, config.mode) == ("root", "root", 0o644)
    for gateway in ["10.77.0.21", "10.77.0.22"]:
        assert config.contains(f"{gateway}:4317")
    assert host.run("haproxy -c -f /etc/haproxy/haproxy.cfg").rc == 0


def test_sysctls(host, name):
    only(name, "lb", "collector")
    assert host.sysctl("net.core.somaxconn") == 8192
    lasting = host.file("/etc/sysctl.d/60-net.core.somaxconn.conf")
    assert lasting.contains("8192")


def test_the_account(host, name):
    only(name, "collector", "storage")
    user = host.user("otel")
    assert user.exists
    assert user.uid < 1000
    assert user.group == "otel"
    assert user.home == "/var/lib/otel-collector"
    assert user.shell == "/usr/sbin/nologin"
    assert host.group("otel").exists


def test_the_collector(host, name):
    only(name, "collector", "storage")
    program = host.file("/usr/local/bin/collector")
    assert program.is_file
    assert (program.user, program.group, program.mode) == ("root", "root", 0o755)
    folder = host.file("/etc/otel-collector")
    assert folder.is_directory
    assert (folder.user, folder.group, folder.mode) == ("root", "otel", 0o750)
    config = host.file("/etc/otel-collector/config.yaml")
    assert (config.user, config.group, config.mode) == ("otel", "otel", 0o640)
    unit = host.file("/etc/systemd/system/otel-collector.service")
    assert (unit.user, unit.mode) == ("root", 0o644)
    processes = host.process.filter(comm="collector")
    assert [process.user for process in processes] == ["otel"]


def test_its_limits(host, name):
    only(name, "collector", "storage")
    shown = host.service("otel-collector").systemd_properties
    assert shown["MemoryMax"] == str(MEMORY[name])
    assert shown["LimitNOFILE"] == "65536"
    assert shown["NoNewPrivileges"] == "yes"


def test_the_volume(host, name):
    only(name, "storage")
    mount = host.mount_point("/mnt/data")
    assert mount.exists
    assert mount.filesystem == "ext4"
    assert "noatime" in mount.options
    folder = host.file("/mnt/data/otel")
    assert (folder.user, folder.group, folder.mode) == ("otel", "otel", 0o750)
    assert host.file("/etc/fstab").contains(" /mnt/data ext4 .*nofail")


def test_what_the_tool_keeps_is_for_root_alone(host):
    state = host.file("/var/lib/provision")
    assert (state.user, state.mode) == ("root", 0o700)
    manifest = json.loads(host.file("/var/lib/provision/manifest.json").content_string)
    assert manifest
