"""Measures `provision` beside Ansible, Ansible with Mitogen and pyinfra on the same hosts.

Goes in: the programs, the pinned Python environment, numbers of hosts and repetitions. Comes out:
figures as JSON. After every run that changes hosts, pytest-testinfra checks all of them. All of it
runs inside the lab's network, so that no proxy stands between any tool and sshd.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
LAB = "bench"
AGENT_BYTES = 20 * 1024 * 1024
FLOOR_STATS = 60
DELAY_SECONDS = 0.05
# A second delay, as what a run waits for grows by the difference and by nothing else.
LONG_DELAY_SECONDS = 0.25
DELAY_PORT = 2222
MANY_HOSTS = 1000
MANY_RESOURCES = 100
TOOLS = ("provision", "provision (kept)", "pyinfra", "Ansible with Mitogen", "Ansible")
# What is left after it: a host as it was made, with Python for Ansible.
CLEAN = """
systemctl disable --now agent 2>/dev/null
rm -rf /etc/systemd/system/agent.service /etc/agent /var/lib/agent /var/log/agent /var/spool/agent \
    /usr/local/bin/agent /etc/default/agent /etc/security/limits.d/agent.conf \
    /etc/tmpfiles.d/agent.conf /etc/profile.d/agent.sh /etc/logrotate.d/agent \
    /etc/sysctl.d/60-* /var/lib/provision /root/.ansible /tmp/pyinfra* /tmp/.pyinfra*
systemctl daemon-reload
userdel agent 2>/dev/null; groupdel agent 2>/dev/null
dpkg --purge tree >/dev/null 2>&1
true
"""


class Bench:
    """One lab, and what is run against it."""

    def __init__(self, options: argparse.Namespace, hosts: int) -> None:
        self.options = options
        self.names = [f"node-{at:02}" for at in range(1, hosts + 1)]
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="bench-", dir="/tmp"))
        for part in ("environments", "playbooks", "templates"):
            shutil.copytree(HERE / part, self.folder / part)
        shutil.copy(HERE.parents[1] / "environments/tiers.toml", self.folder / "environments")
        (self.folder / "inventories").mkdir()
        (self.folder / "run").mkdir(mode=0o700)
        self.addresses = {name: f"10.78.0.{10 + at}" for at, name in enumerate(self.names, 1)}
        lines = [f'hosts.{name} = {{ address = "{self.addresses[name]}" }}' for name in self.names]
        packages = '["python3", "python3-apt", "tree"]'
        (self.folder / "inventories/lab.toml").write_text(
            f'provider = "lab"\n[lab]\nname = "{LAB}"\nsubnet = "10.78.0.0/24"\n'
            f"packages = {packages}\n[groups.nodes]\n" + "\n".join(lines) + "\n"
        )
        self.environment = dict(os.environ, XDG_RUNTIME_DIR=str(self.folder / "run"))
        self.environment.pop("SSH_AUTH_SOCK", None)
        self.interval = 15

    def provision(self, *words: str) -> list[str]:
        return [self.options.provision, *words, "--project", str(self.folder)]

    def up(self) -> None:
        """Hosts with Python, and a copy of what is 20 MB and runs."""
        run(self.provision("lab", "up"), self.environment)
        listed = json.loads(
            run(self.provision("lab", "list", "--output", "json"), self.environment).stdout
        )
        identity = listed["identity"]
        keys = {host["name"]: host["host_key"] for host in listed["hosts"]}
        known = "".join(f"{name},{self.addresses[name]} {keys[name]}\n" for name in self.names)
        (self.folder / "known_hosts").write_text(known)
        config = "".join(f"Host {n}\n  HostName {self.addresses[n]}\n" for n in self.names)
        config += (
            f"Host *\n  User root\n  IdentityFile {identity}\n  IdentitiesOnly yes\n"
            f"  UserKnownHostsFile {self.folder}/known_hosts\n  StrictHostKeyChecking yes\n"
            "  ControlMaster no\n  LogLevel ERROR\n"
        )
        (self.folder / "ssh_config").write_text(config)
        # Hundreds of looks at one host need not each be a connection.
        shared = f"  ControlMaster auto\n  ControlPath {self.folder}/run/check-%h\n"
        shared += "  ControlPersist 5s\n"
        (self.folder / "check_config").write_text(config.replace("  ControlMaster no\n", shared))
        self.identity, self.keys = identity, keys
        self.write_inventory("keep_connection = \"0s\"")
        shutil.copy("/bin/sleep", self.folder / "agent")
        with open(self.folder / "agent", "ab") as agent:
            agent.write(random.Random(1).randbytes(AGENT_BYTES - agent.tell()))
        settings = {"interval_seconds": 15, "workers": 4, "endpoint": "10.78.0.1:4317"}
        settings["level"] = "info"
        self.settings = {"agent": settings}
        self.everywhere(
            "apt-get update -qq && apt-get install -qq -y python3 python3-apt >/dev/null"
        )

    def write_inventory(self, ssh: str, port: int | None = None) -> None:
        lines = []
        for name in self.names:
            address = "10.78.0.1" if port else self.addresses[name]
            own = f", ssh = {{ port = {port} }}" if port else ""
            lines.append(
                f'{name} = {{ address = "{address}", host_key = "{self.keys[name]}"{own} }}'
            )
        (self.folder / "inventories/bench.toml").write_text(
            f'provider = "on-prem"\n[ssh]\nuser = "root"\nidentity = "{self.identity}"\n{ssh}\n'
            "[groups.nodes.hosts]\n" + "\n".join(lines) + "\n"
        )

    def down(self) -> None:
        subprocess.run(self.provision("lab", "down"), env=self.environment, check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    def inside(self, words: list[str]) -> list[str]:
        return ["nsenter", f"--net=/run/netns/provision-{LAB}", "--", *words]

    def ssh(self, name: str, script: str) -> None:
        run(
            self.inside(["ssh", "-F", str(self.folder / "ssh_config"), name, "sh -s"]),
            self.environment,
            script,
        )

    def everywhere(self, script: str) -> None:
        with concurrent.futures.ThreadPoolExecutor(len(self.names)) as pool:
            list(pool.map(lambda name: self.ssh(name, script), self.names))

    def floor(self) -> float:
        """Fresh connections in parallel, each with one execution of a script of 60 `stat`s."""
        script = "stat / >/dev/null\n" * FLOOR_STATS
        return timed(lambda: self.everywhere(script))

    def change(self, interval: int) -> None:
        """Changes one variable, and so what two files and a service must become."""
        self.interval = interval
        self.settings["agent"]["interval_seconds"] = interval
        path = self.folder / "environments/bench.toml"
        text = (HERE / "environments/bench.toml").read_text()
        path.write_text(text.replace("interval_seconds = 15", f"interval_seconds = {interval}"))

    def command(self, tool: str) -> tuple[list[str], dict[str, str]]:
        environment = dict(self.environment)
        python = pathlib.Path(self.options.python).parent
        if tool.startswith("provision"):
            words = self.provision("apply", "--env", "bench", "--yes")
            return self.inside(words), environment
        config = self.folder / "ssh_config"
        if tool == "pyinfra":
            (self.folder / "inventory.py").write_text(
                f"nodes = ({self.names!r}, {{'bench_folder': {str(self.folder)!r},"
                f" 'settings': {self.settings!r}, 'ssh_config_file': {str(config)!r},"
                f" 'ssh_known_hosts_file': {str(self.folder / 'known_hosts')!r},"
                " 'ssh_strict_host_key_checking': 'yes', 'ssh_user': 'root',"
                f" 'ssh_key': {self.identity!r}}})\n"
            )
            words = [
                str(python / "pyinfra"), "-y", "--parallel", str(len(self.names)),
                str(self.folder / "inventory.py"), str(HERE / "pyinfra/deploy.py"),
            ]
            return self.inside(words), environment
        inventory = self.folder / "hosts.json"
        inventory.write_text(
            json.dumps({"nodes": {"hosts": {name: {} for name in self.names}, "vars": {
                "bench_folder": str(self.folder), "settings": self.settings,
                "ansible_python_interpreter": "/usr/bin/python3",
            }}})
        )
        environment |= {
            "ANSIBLE_PIPELINING": "1",
            "ANSIBLE_FORKS": str(len(self.names)),
            "ANSIBLE_HOST_KEY_CHECKING": "1",
            "ANSIBLE_SSH_ARGS": f"-F {config} -o ControlMaster=auto -o ControlPersist=60s",
            "ANSIBLE_SSH_CONTROL_PATH_DIR": str(self.folder / "run"),
            "ANSIBLE_LOCALHOST_WARNING": "0",
            "ANSIBLE_HOME": str(self.folder / "ansible"),
            "ANSIBLE_NOCOLOR": "1",
        }
        if "Mitogen" in tool:
            found = run([self.options.python, "-c", "import ansible_mitogen as a; print(a.__path__[0])"], environment)
            environment |= {
                "ANSIBLE_STRATEGY_PLUGINS": found.stdout.strip() + "/plugins/strategy",
                "ANSIBLE_STRATEGY": "mitogen_linear",
            }
        words = [str(python / "ansible-playbook"), "-i", str(inventory), str(HERE / "ansible/playbook.yml")]
        return self.inside(words), environment

    def end_connections(self) -> None:
        """Ends the connections that a tool left, so that each figure begins with none."""
        own = f"{self.folder}/run/".encode()
        for process in pathlib.Path("/proc").iterdir():
            try:
                words = (process / "cmdline").read_bytes() if process.name.isdigit() else b""
                if words.startswith(b"ssh") and own in words:
                    os.kill(int(process.name), signal.SIGTERM)
            except (OSError, ProcessLookupError):
                continue
        time.sleep(0.2)

    def check(self) -> None:
        """Outside opinion: every host is as the playbooks say."""
        environment = dict(self.environment, BENCH_INTERVAL=str(self.interval))
        hosts = ",".join(f"ssh://{name}" for name in self.names)
        run(
            self.inside([
                self.options.python, "-m", "pytest", "-q", "-p", "no:cacheprovider",
                f"--hosts={hosts}", f"--ssh-config={self.folder}/check_config",
                str(HERE / "checks/test_hosts.py"),
            ]),
            environment,
        )

    def measure(self, tool: str, repetitions: int) -> dict[str, list[float]]:
        """First run, nothing to do, one changed template."""
        figures: dict[str, list[float]] = {"first": [], "nothing": [], "changed": []}
        kept = tool == "provision (kept)"
        self.write_inventory('keep_connection = "%s"' % ("10m" if kept else "0s"))
        words, environment = None, None

        def go(figure: str) -> None:
            nonlocal words, environment
            words, environment = self.command(tool)
            if not kept:
                self.end_connections()
            figures[figure].append(timed(lambda: run(words, environment)))

        for _ in range(repetitions):
            self.end_connections()
            self.everywhere(CLEAN)
            self.change(15)
            go("first")
            self.check()
            go("nothing")
            self.change(30)
            go("changed")
            self.check()
        for _ in range(max(0, 3 - repetitions)):
            go("nothing")
        self.end_connections()
        return figures

    def round_trips(self) -> dict[str, object]:
        """Nothing to do with 50 ms each way, with 10 and with 500 resources.

        They are counted twice: by the line, and by the clock, as what a run takes longer where the
        delay is longer, in round trips.
        """
        self.everywhere(CLEAN)
        name, found = self.names[0], {}
        all_names, self.names = self.names, [name]
        for resources in (10, 500):
            playbook = '[[play]]\nhosts = "nodes"\n'
            for at in range(resources):
                playbook += (
                    f'[[play.resource]]\nfile = {{ path = "/etc/agent-{at}", content = "x" }}\n'
                )
            (self.folder / "playbooks/bench.toml").write_text(playbook)
            for kept in (False, True):
                self.write_inventory(f'keep_connection = "{"10m" if kept else "0s"}"', DELAY_PORT)
                short, long = (
                    self.behind_delay(name, delay) for delay in (DELAY_SECONDS, LONG_DELAY_SECONDS)
                )
                longer = long["seconds"] - short["seconds"]
                found[f"{resources} {'kept' if kept else 'fresh'}"] = short | {
                    "waited_for": longer / (2 * (LONG_DELAY_SECONDS - DELAY_SECONDS)),
                    "long_seconds": long["seconds"],
                }
            self.ssh(name, "rm -rf /etc/agent-* /var/lib/provision")
        self.names = all_names
        shutil.copy(HERE / "playbooks/bench.toml", self.folder / "playbooks/bench.toml")
        return found

    def behind_delay(self, name: str, delay: float) -> dict[str, float]:
        """Runs with nothing to do on a host that is this many seconds away."""
        words, environment = self.command("provision")
        proxy = subprocess.Popen(
            self.inside([
                sys.executable, str(HERE / "delay.py"), str(DELAY_PORT), self.addresses[name],
                str(delay),
            ]),
            stdout=subprocess.PIPE, text=True,
        )
        assert proxy.stdout is not None
        assert proxy.stdout.readline() == "ready\n", "the line with the delay does not stand"

        def count() -> dict[str, int]:
            # What the run does not wait for is still under way.
            time.sleep(0.3 + 4 * delay)
            proxy.send_signal(signal.SIGUSR1)
            return json.loads(proxy.stdout.readline())

        figures: dict[str, list[float]] = {"connections": [], "round_trips": [], "seconds": []}
        run(words, environment)
        for _ in range(self.options.repetitions):
            before = count()
            figures["seconds"].append(timed(lambda: run(words, environment)))
            after = count()
            for figure, then in before.items():
                figures[figure].append(after[figure] - then)
        proxy.terminate()
        proxy.wait()
        self.end_connections()
        return {
            "connections": max(figures["connections"]),
            "round_trips": max(figures["round_trips"]),
            # Of the fastest, as whatever else the machine does only adds.
            "seconds": min(figures["seconds"]),
        }

    def many(self) -> dict[str, object]:
        """A plan for 1,000 hosts with 100 resources each, which answer as one of these hosts does.

        The answers are recorded from its helper; the helpers of the many only repeat them.
        """
        self.everywhere(CLEAN)
        self.change(15)
        self.write_inventory('keep_connection = "0s"')
        playbook = (HERE / "playbooks/bench.toml").read_text()
        for at in range(MANY_RESOURCES - playbook.count("[[play.resource]]")):
            playbook += (
                f'\n[[play.resource]]\nfile = {{ path = "/etc/agent/conf.d/more-{at}.conf",'
                ' template = "bench/input.conf.tera" }\n'
            )
        (self.folder / "playbooks/bench.toml").write_text(playbook)
        # What one host has must be what all of them shall have.
        named = self.folder / "templates/bench/agent.yaml.tera"
        named.write_text(named.read_text().replace("{{ host.name }}", "one-of-many"))
        words, environment = self.command("provision")
        run(words, environment)
        programs = self.folder / "programs"
        programs.mkdir()
        shutil.copy(self.options.provision, programs / "provision")
        shutil.copy(self.options.recorded_host, programs / "provision-host")
        found = {}
        for figure, interval in (("nothing", 15), ("changed", 30)):
            self.change(interval)
            recording = self.folder / f"recording-{figure}"
            self.record(recording, programs)
            self.write_local(MANY_HOSTS)
            figures = [self.plan(recording, programs) for _ in range(self.options.repetitions)]
            codes = {code for code, _, _ in figures}
            assert codes == {0 if figure == "nothing" else 2}, codes
            found[figure] = {
                "seconds": statistics.median(seconds for _, seconds, _ in figures),
                "peak_mib": statistics.median(mib for _, _, mib in figures),
            }
        shutil.copy(HERE / "playbooks/bench.toml", self.folder / "playbooks/bench.toml")
        self.everywhere(CLEAN)
        return found

    def write_local(self, count: int) -> None:
        """Hosts whose helper runs here, without SSH."""
        lines = [f'many-{at:04} = {{ address = "10.78.1.1", local = true }}' for at in range(count)]
        (self.folder / "inventories/bench.toml").write_text(
            'provider = "on-prem"\n[groups.nodes.hosts]\n' + "\n".join(lines) + "\n"
        )

    def record(self, recording: pathlib.Path, programs: pathlib.Path) -> None:
        """Puts what a plan is answered by the helper of a host into a folder."""
        recording.mkdir()
        helper = "/var/lib/provision/helper/provision-host-*"

        def ask(requests: list[bytes]) -> bytes:
            words = ["ssh", "-F", str(self.folder / "ssh_config"), self.names[0], helper]
            done = subprocess.run(
                self.inside(words), env=self.environment, input=b"".join(requests),
                capture_output=True, check=True,
            )
            return done.stdout

        known = ask([])
        (recording / "hello").write_bytes(known)
        requests = []
        self.write_local(1)
        while self.plan(recording, programs)[0] == 1:
            requests.append((recording / f"request-{len(requests)}").read_bytes())
            answers = ask(requests)
            (recording / f"answer-{len(requests) - 1}").write_bytes(answers[len(known):])
            known = answers

    def plan(self, recording: pathlib.Path, programs: pathlib.Path) -> tuple[int, float, float]:
        """The exit code, the seconds and the most memory of one plan, in MiB."""
        words = [str(programs / "provision"), "plan", "--env", "bench", "--project", str(self.folder)]
        environment = dict(self.environment, RECORDED_HOST=str(recording))
        begun = time.monotonic()
        with open(self.folder / "plan.log", "w") as log:
            child = subprocess.Popen(words, env=environment, stdout=log, stderr=log)
            _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        return child.returncode, time.monotonic() - begun, usage.ru_maxrss / 1024


def run(words, environment, text=None) -> subprocess.CompletedProcess:
    done = subprocess.run(
        words, env=environment, input=text if text is not None else "", text=True,
        capture_output=True, check=False,
    )
    if done.returncode != 0:
        sys.exit(f"error: {words} ended with {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
    return done


def timed(work) -> float:
    begun = time.monotonic()
    work()
    return time.monotonic() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--provision", required=True, help="the program that is measured")
    parser.add_argument("--python", required=True, help="the Python of the pinned environment")
    parser.add_argument("--recorded-host", required=True, help="the example of provision-protocol")
    parser.add_argument("--results", required=True, type=pathlib.Path)
    parser.add_argument("--hosts", type=int, action="append", help="how many; several are rows")
    parser.add_argument("--quick", action="store_true", help="once each instead of five times")
    parser.add_argument("--tools", default=",".join(TOOLS))
    options = parser.parse_args()
    repetitions = options.repetitions = 1 if options.quick else 5
    results = {}
    if options.results.exists():
        results = json.loads(options.results.read_text())
    results["machine"] = f"{os.cpu_count()} cores, {os.uname().sysname} {os.uname().release}."
    results |= {"repetitions": repetitions, "rows": results.get("rows", {})}
    for hosts in options.hosts or [1, 10]:
        bench = Bench(options, hosts)
        try:
            bench.up()
            row = results["rows"].setdefault(str(hosts), {})
            floors = []
            for tool in options.tools.split(","):
                floors.append(bench.floor())
                figures = bench.measure(tool, repetitions)
                floors.append(bench.floor())
                row[tool] = {key: statistics.median(of) for key, of in figures.items()}
                # What else the machine does changes: each tool has the floor beside it.
                row[tool]["floor"] = statistics.mean(floors[-2:])
                print(hosts, "hosts", tool, row[tool], flush=True)
            row["floor"] = statistics.median(floors)
            if hosts == 1:
                results["round_trips"] = bench.round_trips()
                print(results["round_trips"], flush=True)
                results["many"] = bench.many()
                print(results["many"], flush=True)
        finally:
            bench.down()
        options.results.write_text(json.dumps(results, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
