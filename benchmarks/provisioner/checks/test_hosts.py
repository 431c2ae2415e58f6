"""What every host must be after each tool's run; pytest-testinfra knows none of the tools."""

import os

import pytest

INTERVAL = os.environ["BENCH_INTERVAL"]


def test_the_account(host):
    user = host.user("agent")
    assert user.group == "agent" and user.home == "/var/lib/agent"
    assert user.shell == "/usr/sbin/nologin"


@pytest.mark.parametrize("path", ["/etc/agent", "/etc/agent/conf.d", "/var/lib/agent", "/var/log/agent", "/var/spool/agent"])
def test_directories(host, path):
    found = host.file(path)
    assert found.is_directory and found.user == "agent" and found.mode == 0o750


@pytest.mark.parametrize("path", ["/etc/agent/agent.yaml", "/etc/agent/conf.d/input.conf", "/etc/agent/conf.d/filter.conf", "/etc/agent/conf.d/output.conf", "/etc/default/agent", "/etc/security/limits.d/agent.conf", "/etc/tmpfiles.d/agent.conf", "/etc/profile.d/agent.sh", "/etc/logrotate.d/agent"])
def test_files(host, path):
    found = host.file(path)
    assert found.is_file and found.user == "root" and found.mode == 0o644 and found.size > 0


def test_the_content_of_the_template(host):
    assert f"interval: {INTERVAL}s" in host.file("/etc/agent/agent.yaml").content_string


def test_the_program(host):
    found = host.file("/usr/local/bin/agent")
    assert found.mode == 0o755 and found.size == 20 * 1024 * 1024


def test_the_service(host):
    service = host.service("agent")
    assert service.is_running and service.is_enabled
    (agent,) = host.process.filter(user="agent", comm="agent")
    interval = host.file(f"/proc/{agent.pid}/environ").content_string
    assert f"AGENT_INTERVAL={INTERVAL}" in interval, "it was not restarted"


def test_the_package(host):
    assert host.package("tree").is_installed


@pytest.mark.parametrize("key, value", [("net.core.somaxconn", "8192"), ("net.ipv4.tcp_fin_timeout", "30"), ("net.ipv4.ip_local_port_range", "10240 65000")])
def test_the_kernel(host, key, value):
    assert str(host.sysctl(key)).split() == value.split()
