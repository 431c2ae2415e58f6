//! What `scripts/package` makes can be installed, and its programs find each other.

use std::fs;
use std::path::Path;
use std::process::Command;

use fleet_tests::{Lab, Output, Project, Requirement};

use crate::Test;

pub(crate) const TESTS: &[Test] = &[Test {
    name: "packaging::the_debian_package_installs_and_its_programs_find_each_other",
    needs: &[Requirement::Root],
    run: the_debian_package_installs_and_its_programs_find_each_other,
}];

fn the_debian_package_installs_and_its_programs_find_each_other(lab: &Lab) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("dist");
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut package = Command::new(repository.join("scripts/package"));
    package.arg("--programs").arg(Project::programs());
    let _ = Output::of(package.arg("--out").arg(&out)).success();
    let names = fs::read_dir(&out).expect("a folder");
    let names: Vec<_> = names.map(|entry| entry.expect("a file").path()).collect();
    let of = |ending: &str| {
        names
            .iter()
            .find(|path| path.to_string_lossy().ends_with(ending))
    };
    let deb = of(".deb").expect("a Debian package");
    let tarball = of(".tar.gz").expect("a tarball");
    let list = Output::of(Command::new("tar").arg("-tzf").arg(tarball)).success();
    for file in [
        "bin/provision-host",
        "man/man1/provision-apply.1",
        "doc/LICENSE-MIT",
    ] {
        assert!(list.stdout.contains(file), "{file}:\n{}", list.stdout);
    }
    // A root of its own: nothing of this machine's packages is touched.
    let root = folder.path().join("root");
    for below in ["var/lib/dpkg/info", "var/lib/dpkg/updates"] {
        fs::create_dir_all(root.join(below)).expect("a folder");
    }
    fs::write(root.join("var/lib/dpkg/status"), "").expect("a file");
    let mut install = Command::new("dpkg");
    install
        .arg("--root")
        .arg(&root)
        .args(["--force-depends", "--log=/dev/null", "--install"]);
    let _ = Output::of(install.arg(deb)).success();
    for program in ["provision", "collector"] {
        let mut inside = Command::new("chroot");
        inside
            .arg(&root)
            .arg(format!("/usr/bin/{program}"))
            .arg("--version");
        let _ = Output::of(&mut inside)
            .success()
            .says(&[env!("CARGO_PKG_VERSION")]);
    }
    // Through the link in /usr/bin it finds the collector and the helper beside itself.
    let mut check = Command::new(root.join("usr/bin/provision"));
    check
        .args(["plan", "--env", "development", "--project"])
        .arg(lab.project().path(""));
    let plan = Output::of(&mut check);
    assert!(matches!(plan.code, 0 | 2), "{}", plan.describe());
    let init = folder.path().join("new");
    let mut begin = Command::new(root.join("usr/bin/provision"));
    let words = ["init", "192.0.2.1", "192.0.2.2", "--project"];
    let _ = Output::of(begin.args(words).arg(&init)).success();
    let mut check = Command::new(root.join("usr/bin/provision"));
    let check = check.args(["inventory", "check", "--project"]).arg(&init);
    let _ = Output::of(check).success();
}
