//! The results as a picture: processor time of every subject in every row.
//!
//! In: [`Results`]. Out: SVG text.
//! Invariant: bars are as long as their figures, on one linear scale that begins at zero; a bar
//! that would be longer than the picture is cut, and its figure says so.

use std::fmt::Write as _;

use crate::result::Results;
use crate::row::ROWS;
use crate::subject::Name;

const WIDTH: f64 = 960.0;
const LEFT: f64 = 160.0;
const RIGHT: f64 = 110.0;
const TOP: f64 = 72.0;
const BAR: f64 = 11.0;
const GAP: f64 = 14.0;

/// The longest bar, in CPU-seconds per million items.
const LONGEST: f64 = 8.0;

fn colour(name: Name) -> &'static str {
    match name {
        Name::Floor => "#8a8f98",
        Name::Collector => "#1f6feb",
        Name::Otelcol => "#e3742b",
        Name::Rotel => "#8957c9",
    }
}

/// Draws the rows that were measured.
pub fn render(results: &Results) -> anyhow::Result<String> {
    let mut bars = String::new();
    let mut y = TOP;
    for row in ROWS {
        let measured: Vec<(Name, f64)> = Name::ALL
            .into_iter()
            .filter_map(|name| {
                let ran = results.ran(row.name, name)?;
                Some((name, ran.saturation.cpu_seconds_per_million))
            })
            .collect();
        if measured.is_empty() {
            continue;
        }
        let middle = y + BAR * measured.len() as f64 / 2.0 + 4.0;
        let x = LEFT - 10.0;
        writeln!(
            bars,
            r#"<text x="{x}" y="{middle:.1}" text-anchor="end">{}</text>"#,
            row.name
        )?;
        for (name, value) in measured {
            bar(&mut bars, y, name, value)?;
            y += BAR;
        }
        y += GAP;
    }
    let mut out = String::new();
    writeln!(
        out,
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y}" viewBox="0 0 {WIDTH} {y}" font-family="system-ui, sans-serif" font-size="12">
<rect width="100%" height="100%" fill="#ffffff"/>
<text x="16" y="26" font-size="16" font-weight="600">CPU-seconds per million items, at saturation (less is better)</text>"##
    )?;
    for (index, name) in Name::ALL.into_iter().enumerate() {
        let x = LEFT + index as f64 * 130.0;
        let (fill, text) = (colour(name), x + 18.0);
        writeln!(
            out,
            r#"<rect x="{x}" y="42" width="12" height="12" fill="{fill}"/><text x="{text}" y="52">{}</text>"#,
            name.title()
        )?;
    }
    out.push_str(&bars);
    out.push_str("</svg>\n");
    Ok(out)
}

fn bar(out: &mut String, y: f64, name: Name, value: f64) -> anyhow::Result<()> {
    let length = value.min(LONGEST) / LONGEST * (WIDTH - LEFT - RIGHT);
    let end = LEFT + length + 6.0;
    let text_y = y + BAR - 2.0;
    let mark = if value > LONGEST { " (cut)" } else { "" };
    let height = BAR - 1.0;
    let fill = colour(name);
    writeln!(
        out,
        r#"<rect x="{LEFT}" y="{y}" width="{length:.1}" height="{height}" fill="{fill}"/><text x="{end:.1}" y="{text_y:.1}" font-size="10">{value:.2}{mark}</text>"#
    )?;
    Ok(())
}
