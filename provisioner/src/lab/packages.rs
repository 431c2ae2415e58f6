//! The package repository that every host of a lab sees at `/srv/packages`.
//!
//! In: names of packages, and the base image that they are to be installed on. Out: a directory
//! in the cache with `archive` (the package files and their index) and `layer` (the files that
//! make apt on a host know them).
//!
//! Invariant: each package comes with all that it needs beyond the base image, so that apt on a
//! host never needs another source.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::command::{isolated, run};
use super::error::{AtPath as _, LabError};
use super::event::{Events, LabEvent};
use super::image::{Sources, building_directory, hash, write_file};
use super::name::PackageName;
use super::record::CACHE;
use super::spec::package_set;

/// Changes whenever the same packages would make another repository.
const RECIPE: u32 = 1;

/// How long one step may take.
const STEP_LIMIT: Duration = Duration::from_secs(20 * 60);

/// The only source of packages that a host has.
const SOURCE: &str = "deb [trusted=yes] file:/srv/packages ./\n";

/// Indexes the directory that is the first argument.
const INDEX: &str = r#"set -e
cd "$1"
apt-ftparchive packages . >Packages
gzip --keep --no-name Packages
apt-ftparchive release . >../Release
mv ../Release Release"#;

/// Lets apt in the image read the index; what it learns ends in the layer.
/// Arguments: the image and the directory that is being built.
const LEARN: &str = r#"set -e
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/layer,workdir=$2/work" "$2/root"
mount --bind "$2/archive" "$2/root/srv/packages"
chroot "$2/root" apt-get update --quiet"#;

/// Returns the repository, after making it if the cache has none. The cache must be locked.
pub(super) fn ensure(
    image: &Path,
    packages: &[PackageName],
    events: Events<'_>,
) -> Result<PathBuf, LabError> {
    let packages: Vec<PackageName> = package_set(packages).into_iter().cloned().collect();
    let path = Path::new(CACHE).join(format!("packages-{}", fingerprint(image, &packages)));
    if path.exists() {
        return Ok(path);
    }
    events(LabEvent::FetchingPackages(packages.clone()));
    let started = Instant::now();
    let building = building_directory("packages")?;
    for directory in [
        "archive",
        "layer",
        "work",
        "root",
        "state/lists/partial",
        "cache/archives/partial",
    ] {
        let directory = building.join(directory);
        fs::create_dir_all(&directory).at("make", &directory)?;
    }
    let files = if packages.is_empty() {
        0
    } else {
        fetch(image, &building, &packages)?
    };
    let archive = building.join("archive");
    run(isolated("sh", STEP_LIMIT)
        .args(["-c", INDEX, "sh"])
        .arg(&archive))?;
    write_file(&building.join("layer"), "etc/apt/sources.list", SOURCE)?;
    run(isolated("sh", STEP_LIMIT)
        .args(["-c", LEARN, "sh"])
        .arg(image)
        .arg(&building))?;
    for directory in ["work", "root", "state", "cache"].map(|directory| building.join(directory)) {
        fs::remove_dir_all(&directory).at("remove", &directory)?;
    }
    fs::rename(&building, &path).at("rename", &building)?;
    events(LabEvent::FetchedPackages {
        files,
        elapsed: started.elapsed(),
    });
    Ok(path)
}

fn fingerprint(image: &Path, packages: &[PackageName]) -> String {
    let recipe = RECIPE.to_string();
    let image = image.to_string_lossy();
    let mut parts = vec![&*recipe, &*image];
    parts.extend(packages.iter().map(PackageName::as_str));
    hash(&parts)
}

/// Downloads each package with its dependencies, one package at a time, as two of them may well
/// exclude each other.
fn fetch(image: &Path, building: &Path, packages: &[PackageName]) -> Result<usize, LabError> {
    let sources = &Sources::of_this_machine();
    let configuration = building.join("apt.conf");
    let list = building.join("sources.list");
    fs::write(&list, sources.lines.join("\n") + "\n").at("write", &list)?;
    fs::write(
        &configuration,
        apt_configuration(sources, image, building, &list),
    )
    .at("write", &configuration)?;
    let apt = |arguments: &[&str]| {
        run(isolated("apt-get", STEP_LIMIT)
            .env("APT_CONFIG", &configuration)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .arg("--quiet")
            .args(arguments))
    };
    apt(&["update"])?;
    for package in packages {
        apt(&["install", "--yes", "--download-only", package.as_str()])?;
    }
    let downloads = building.join("cache/archives");
    let mut files = 0;
    for entry in fs::read_dir(&downloads).at("list", &downloads)? {
        let file = entry.at("list", &downloads)?.path();
        if let (Some("deb"), Some(name)) = (
            file.extension().and_then(|end| end.to_str()),
            file.file_name(),
        ) {
            fs::rename(&file, building.join("archive").join(name)).at("rename", &file)?;
            files += 1;
        }
    }
    for file in [&configuration, &list] {
        fs::remove_file(file).at("remove", file)?;
    }
    Ok(files)
}

/// Makes the machine's apt act for the image, with no word of the machine's own configuration
/// except how to fetch.
fn apt_configuration(sources: &Sources, image: &Path, building: &Path, list: &Path) -> String {
    let mut text = format!(
        "Dir::Etc::main \"/dev/null\";
Dir::Etc::parts \"/dev/null\";
Dir::Etc::sourcelist \"{list}\";
Dir::Etc::sourceparts \"/dev/null\";
Dir::Etc::preferences \"/dev/null\";
Dir::Etc::preferencesparts \"/dev/null\";
Dir::State \"{building}/state\";
Dir::State::status \"{image}/var/lib/dpkg/status\";
Dir::Cache \"{building}/cache\";
APT::Install-Recommends \"false\";
APT::Keep-Downloaded-Packages \"true\";
APT::Sandbox::User \"root\";
Acquire::Languages \"none\";
",
        list = list.display(),
        building = building.display(),
        image = image.display(),
    );
    text.push_str(&sources.settings);
    text
}
