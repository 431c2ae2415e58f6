//! The results as a document.
//!
//! In: [`Results`]. Out: `benchmarks.md` in a folder.
//! Invariant: what is not in the results is not in the document.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context as _;

use crate::result::{Cell, Results};
use crate::row::ROWS;
use crate::subject::Name;

/// Writes the document into `folder`.
pub fn write(results: &Results, folder: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder)?;
    let path = folder.join("benchmarks.md");
    let text = render(results)?;
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn render(results: &Results) -> anyhow::Result<String> {
    let mut out = String::from("# Benchmarks\n\n");
    for line in &results.machine {
        writeln!(out, "- {line}")?;
    }
    writeln!(
        out,
        "\n| row | subject | CPU-s per million items |\n|---|---|---|"
    )?;
    for row in ROWS {
        for name in Name::ALL {
            let Some(cell) = results
                .rows
                .get(row.name)
                .and_then(|cells| cells.get(&name))
            else {
                continue;
            };
            let said = match cell {
                Cell::Ran(ran) => format!("{:.3}", ran.saturation.cpu_seconds_per_million),
                Cell::CannotRun(why) => format!("cannot run: {why}"),
            };
            writeln!(out, "| {} | {} | {said} |", row.name, name.title())?;
        }
    }
    Ok(out)
}
