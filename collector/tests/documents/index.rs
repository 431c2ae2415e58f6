//! Where the documents' configurations are, and what is said of each.
//!
//! In: `COLLECTOR_DOCUMENTS`, or a folder `document-configs` around the project. Out: rows of its
//! `INDEX.md`. Invariant: a folder that is found has a table with rows.

use std::path::{Path, PathBuf};

/// The folder, if there is one.
pub(crate) fn folder() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("COLLECTOR_DOCUMENTS") {
        return Some(named.into());
    }
    let around = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let places = around.flat_map(|place| [place.to_owned(), place.join("shared")]);
    places
        .map(|place| place.join("document-configs"))
        .find(|folder| folder.join("INDEX.md").is_file())
}

/// One configuration.
pub(crate) struct Row {
    /// The file's name.
    pub(crate) name: String,
    /// The file.
    pub(crate) path: PathBuf,
    /// `accepted …` or `refused: why`.
    pub(crate) verdict: String,
}

/// The rows of the table.
pub(crate) fn rows(folder: &Path) -> Vec<Row> {
    let index = std::fs::read_to_string(folder.join("INDEX.md")).unwrap();
    let rows = index.lines().filter_map(|line| {
        let (name, verdict) = line.strip_prefix("| ")?.split_once(" | ")?;
        name.ends_with(".yaml").then(|| Row {
            name: name.to_owned(),
            path: folder.join("collector-complete").join(name),
            verdict: verdict.trim_end_matches(" |").to_owned(),
        })
    });
    let rows: Vec<Row> = rows.collect();
    assert!(!rows.is_empty(), "the table has no rows");
    rows
}
