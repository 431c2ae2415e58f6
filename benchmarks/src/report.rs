//! The results as a document: one table for each measure.
//!
//! In: [`Results`]. Out: `benchmarks.md` and `benchmarks.svg` in a folder.
//! Invariant: every row is there, with its figures, why it cannot run, or that it was not
//! measured; ratios are of this collector to the others, both of the same run of a row.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context as _;

use crate::plot;
use crate::result::{Cell, Measurement, Ran, Results};
use crate::row::ROWS;
use crate::subject::Name;

const INTRODUCTION: &str = include_str!("../introduction.md");

/// A measure of one subject in one row, and how it is written.
struct Measure {
    title: &'static str,
    text: &'static str,
    value: fn(&Measurement) -> f64,
    digits: usize,
    better: Better,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Better {
    Less,
    More,
}

const AT_SATURATION: &[Measure] = &[
    Measure {
        title: "Processor time",
        text: "CPU-seconds of the subject per million items, at saturation. This is the main \
               figure: it changes least with what else the machine does.",
        value: |m| m.cpu_seconds_per_million,
        digits: 3,
        better: Better::Less,
    },
    Measure {
        title: "Throughput",
        text: "Thousands of items per second at saturation, from the first request to the last \
               item that came out. Load and sink share one core, which is the limit of the \
               fastest.",
        value: |m| m.items_per_second / 1e3,
        digits: 0,
        better: Better::More,
    },
    Measure {
        title: "Memory",
        text: "The largest resident set at saturation, in MiB.",
        value: |m| m.peak_kib as f64 / 1024.0,
        digits: 1,
        better: Better::Less,
    },
    Measure {
        title: "Bytes sent on",
        text: "Bytes of request bodies that came out, for each item.",
        value: |m| m.sent_bytes as f64 / m.delivered_items as f64,
        digits: 1,
        better: Better::Less,
    },
    Measure {
        title: "Requests sent on",
        text: "Requests that came out, for each million items.",
        value: |m| m.sent_requests as f64 / m.delivered_items as f64 * 1e6,
        digits: 0,
        better: Better::Less,
    },
];

/// Writes the document and the plot into `folder`.
pub fn write(results: &Results, folder: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder)?;
    let files = [
        ("benchmarks.md", render(results)?),
        ("benchmarks.svg", plot::render(results)?),
    ];
    for (name, text) in files {
        let path = folder.join(name);
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn render(results: &Results) -> anyhow::Result<String> {
    let mut out = INTRODUCTION.to_owned();
    writeln!(out, "\n## The machine and the programs\n")?;
    for line in &results.machine {
        writeln!(out, "- {line}")?;
    }
    for measure in AT_SATURATION {
        writeln!(out, "\n## {}\n\n{}\n", measure.title, measure.text)?;
        table(&mut out, results, measure, |ran| Some(&ran.saturation))?;
    }
    latencies(&mut out, results)?;
    disk(&mut out, results)?;
    idle(&mut out, results)?;
    remarks(&mut out, results)?;
    Ok(out)
}

/// One line for each row: a figure for each subject, then the ratios.
fn table(
    out: &mut String,
    results: &Results,
    measure: &Measure,
    of: fn(&Ran) -> Option<&Measurement>,
) -> anyhow::Result<()> {
    let (above, below) = match measure.better {
        Better::Less => ("{} ÷ collector", "collector ÷ floor"),
        Better::More => ("collector ÷ {}", "floor ÷ collector"),
    };
    write!(out, "| row |")?;
    for name in Name::ALL {
        write!(out, " {} |", name.title())?;
    }
    write!(out, " {below} |")?;
    for peer in [Name::Otelcol, Name::Rotel] {
        write!(out, " {} |", above.replace("{}", peer.title()))?;
    }
    writeln!(out, "\n|---|{}", "--:|".repeat(Name::ALL.len() + 3))?;
    for row in ROWS {
        let value = |name| {
            let measured = results.ran(row.name, name).and_then(of)?;
            Some((measure.value)(measured))
        };
        write!(out, "| {} |", row.name)?;
        for name in Name::ALL {
            match value(name) {
                Some(value) => write!(out, " {value:.*} |", measure.digits)?,
                None => write!(out, " {} |", absence(results, row.name, name))?,
            }
        }
        let collector = value(Name::Collector);
        for other in [Name::Floor, Name::Otelcol, Name::Rotel] {
            let upwards = (other == Name::Floor) == (measure.better == Better::Less);
            match (collector, value(other)) {
                (Some(mine), Some(other)) if upwards => write!(out, " {:.2} |", mine / other)?,
                (Some(mine), Some(other)) => write!(out, " {:.2} |", other / mine)?,
                _ => write!(out, " |")?,
            }
        }
        writeln!(out)?;
    }
    Ok(())
}

/// What stands where there is no figure.
fn absence(results: &Results, row: &str, name: Name) -> &'static str {
    match results.rows.get(row).and_then(|cells| cells.get(&name)) {
        Some(_) => "cannot run",
        None => "not measured",
    }
}

fn latencies(out: &mut String, results: &Results) -> anyhow::Result<()> {
    out.push_str(
        "\n## The send\n\nMilliseconds until a request was answered, p50 / p99. At half its own \
         load each subject is offered 50 % of what it does itself. At 50 % and 90 % all are \
         offered the same rate, which is that share of what the slowest subject of the row does. \
         At an offered rate, a send counts from when it was due.\n\n\
         | row | subject | saturation | half its own load | at 50 % | at 90 % |\n\
         |---|---|--:|--:|--:|--:|\n",
    );
    let send = |m: &Measurement| format!("{:.1} / {:.1}", m.p50_ms, m.p99_ms);
    paces(out, results, send)?;
    out.push_str(
        "\n## Processor time and memory at offered rates\n\nCPU-seconds per million items / \
         largest resident set in MiB, of the same runs.\n\n\
         | row | subject | saturation | half its own load | at 50 % | at 90 % |\n\
         |---|---|--:|--:|--:|--:|\n",
    );
    let cost = |m: &Measurement| {
        let memory_mib = m.peak_kib as f64 / 1024.0;
        format!("{:.3} / {memory_mib:.0}", m.cpu_seconds_per_million)
    };
    paces(out, results, cost)
}

/// One line for each row and subject that ran, with a cell for each pace.
fn paces(
    out: &mut String,
    results: &Results,
    cell: impl Fn(&Measurement) -> String,
) -> anyhow::Result<()> {
    for row in ROWS {
        for name in Name::ALL {
            let Some(ran) = results.ran(row.name, name) else {
                continue;
            };
            write!(out, "| {} | {} |", row.name, name.title())?;
            let all = [
                Some(&ran.saturation),
                ran.own_half.as_ref(),
                ran.half.as_ref(),
            ];
            for measured in all.into_iter().chain([ran.ninety.as_ref()]) {
                write!(out, " {} |", measured.map(&cell).unwrap_or_default())?;
            }
            writeln!(out)?;
        }
    }
    Ok(())
}

fn disk(out: &mut String, results: &Results) -> anyhow::Result<()> {
    let Some(disk) = results.disk else {
        return Ok(());
    };
    let own = disk.bytes_per_second;
    writeln!(
        out,
        "\n## The durable queue and the disk\n\n64 senders, bytes that do not compress. The disk \
         itself takes {:.0} MB/s in 8 MiB writes with O_DSYNC, in the same run; the slowest of a \
         hundred takes {:.0} ms.\n\n| row | subject | MB/s accepted | of the disk's own |\n\
         |---|---|--:|--:|",
        own / 1e6,
        disk.p99_ms,
    )?;
    for row in ["traces-direct", "traces-durable"] {
        for name in Name::ALL {
            if let Some(ran) = results.ran(row, name) {
                let rate = ran.saturation.accepted_bytes_per_second;
                let (megabytes, share) = (rate / 1e6, rate / own * 100.0);
                let title = name.title();
                writeln!(out, "| {row} | {title} | {megabytes:.0} | {share:.0} % |")?;
            }
        }
    }
    Ok(())
}

fn idle(out: &mut String, results: &Results) -> anyhow::Result<()> {
    out.push_str(
        "\n## Idle connections\n\nGrowth of the resident set for each plaintext HTTP/2 \
         connection over which nothing is sent, in KiB.\n\n\
         | subject | connections | KiB each | resident before, MiB |\n|---|--:|--:|--:|\n",
    );
    for (name, idle) in &results.idle {
        writeln!(
            out,
            "| {} | {} | {:.1} | {:.1} |",
            name.title(),
            idle.connections,
            idle.kib_per_connection(),
            idle.before_kib as f64 / 1024.0,
        )?;
    }
    Ok(())
}

/// What was lost, refused or could not run.
fn remarks(out: &mut String, results: &Results) -> anyhow::Result<()> {
    out.push_str("\n## Remarks\n\n");
    for row in ROWS {
        let Some(cells) = results.rows.get(row.name) else {
            continue;
        };
        for (name, cell) in cells {
            let title = name.title();
            match cell {
                Cell::CannotRun(why) => {
                    writeln!(out, "- {}: {title} cannot run: {why}", row.name)?;
                }
                Cell::Ran(ran) => {
                    let m = &ran.saturation;
                    let missing = m.accepted_items as i64 - m.delivered_items as i64;
                    if missing != 0 || m.refused + m.failed > 0 {
                        writeln!(
                            out,
                            "- {}: {title} at saturation: {missing} items accepted and not \
                             delivered, {} requests refused, {} without an answer",
                            row.name, m.refused, m.failed
                        )?;
                    }
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_shows_figures_ratios_and_what_cannot_run() {
        let ran = |cpu_seconds_per_million| {
            let saturation = Measurement {
                cpu_seconds_per_million,
                ..Measurement::default()
            };
            Cell::Ran(Box::new(Ran {
                saturation,
                own_half: None,
                half: None,
                ninety: None,
            }))
        };
        let mut results = Results::default();
        let cells = results.rows.entry(ROWS[0].name.to_owned()).or_default();
        cells.insert(Name::Floor, ran(0.2));
        cells.insert(Name::Collector, ran(0.3));
        cells.insert(Name::Otelcol, ran(2.4));
        cells.insert(Name::Rotel, Cell::CannotRun("no disk".to_owned()));
        let text = render(&results).unwrap();
        let row = "| traces-grpc | 0.200 | 0.300 | 2.400 | cannot run | 1.50 | 8.00 | |";
        assert!(text.contains(row), "{text}");
        assert!(
            text.contains("- traces-grpc: Rotel cannot run: no disk"),
            "{text}"
        );
        assert!(text.contains("| logs-http | not measured |"), "{text}");
    }
}
