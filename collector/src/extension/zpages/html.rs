//! The parts of a page.
//!
//! In: texts and numbers. Out: HTML without scripts and without anything to load.
//! Invariant: what comes from outside is escaped here, and only here.

use std::fmt::Write as _;

/// How often a page looks again.
const REFRESH_SECONDS: u32 = 5;

/// The pages, with their paths.
pub(super) const PAGES: &[(&str, &str)] = &[
    ("/", "Overview"),
    ("/debug/servicez", "Service"),
    ("/debug/pipelinez", "Pipelines"),
    ("/debug/extensionz", "Extensions"),
    ("/debug/tracez", "Events"),
];

/// What stands above every page.
pub(super) struct Head<'h> {
    pub(super) path: &'h str,
    pub(super) name: &'h str,
    pub(super) version: &'h str,
    pub(super) uptime: String,
    pub(super) is_ready: bool,
}

pub(super) fn page(head: &Head<'_>, body: &str) -> String {
    let name = escape(head.name);
    let title = PAGES.iter().find(|(path, _)| *path == head.path);
    let title = title.map_or("", |(_, title)| title);
    let (kind, state) = match head.is_ready {
        true => ("good", "ready"),
        false => ("bad", "not ready"),
    };
    let mut nav = String::new();
    for (path, title) in PAGES {
        let here = if *path == head.path {
            " class=\"here\""
        } else {
            ""
        };
        // Writing to a string cannot fail.
        let _ = write!(nav, "<a href=\"{path}\"{here}>{title}</a>");
    }
    let (version, uptime) = (escape(head.version), &head.uptime);
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta http-equiv=\"refresh\" content=\"{REFRESH_SECONDS}\">\
         <title>{name}: {title}</title><style>{}</style></head><body>\
         <header><div class=\"top\"><h1>{name}</h1><span class=\"soft\">{version}</span>\
         <span class=\"badge {kind}\">{state}</span>\
         <span class=\"soft push\">up {uptime}</span></div><div><nav>{nav}</nav></div></header>\
         <main>{body}<footer>Looks again every {REFRESH_SECONDS} seconds. Rates are those of the \
         last ten seconds.</footer></main></body></html>\n",
        include_str!("page.css")
    )
}

/// A number on a card, perhaps with its course.
pub(super) fn card(name: &str, value: &str, unit: &str, alarm: bool, below: &str) -> String {
    let alarm = if alarm { " alarm" } else { "" };
    format!(
        "<div class=\"card{alarm}\"><div class=\"name\">{name}</div>\
         <div class=\"value\">{value}<small>{unit}</small></div>{below}</div>"
    )
}

/// A table; a title that begins with `#` heads numbers. Cells are HTML already.
pub(super) fn table(titles: &[&str], rows: &[Vec<String>], empty: &str) -> String {
    if rows.is_empty() {
        return format!("<div class=\"table\"><div class=\"empty\">{empty}</div></div>");
    }
    let class = |title: &str| match title {
        "Time" => " class=\"time\"",
        title if title.starts_with('#') => " class=\"number\"",
        _ => "",
    };
    let mut out = String::from("<div class=\"table\"><table><tr>");
    for title in titles {
        let _ = write!(
            out,
            "<th{}>{}</th>",
            class(title),
            title.trim_start_matches('#')
        );
    }
    out.push_str("</tr>");
    for row in rows {
        out.push_str("<tr>");
        for (title, cell) in titles.iter().zip(row) {
            let _ = write!(out, "<td{}>{cell}</td>", class(title));
        }
        out.push_str("</tr>");
    }
    out.push_str("</table></div>");
    out
}

/// The way through a pipeline.
pub(super) fn flow(receivers: &[String], processors: &[String], exporters: &[String]) -> String {
    let chips = |names: &[String], class: &str| {
        let chips = names.iter().map(|name| {
            let name = escape(name);
            format!("<span class=\"chip{class}\">{name}</span>")
        });
        chips.collect::<Vec<_>>()
    };
    let arrow = "<span class=\"arrow\">→</span>";
    let mut stages = vec![chips(receivers, " end").join("")];
    stages.extend(chips(processors, ""));
    stages.push(chips(exporters, " end").join(""));
    format!("<div class=\"flow\">{}</div>", stages.join(arrow))
}

/// How full something is.
pub(super) fn bar(size: f64, capacity: f64) -> String {
    let share = if capacity > 0.0 {
        (size / capacity).clamp(0.0, 1.0)
    } else {
        0.0
    };
    let high = if share >= 0.8 { " high" } else { "" };
    let percent = share * 100.0;
    format!(
        "<span class=\"bar{high}\"><i style=\"width:{percent:.1}%\"></i></span>{} of {}",
        number(size),
        number(capacity)
    )
}

/// A course as a line over a filled area.
pub(super) fn sparkline(values: &[f64]) -> String {
    const WIDTH: f64 = 240.0;
    const HEIGHT: f64 = 34.0;
    if values.len() < 2 {
        return String::new();
    }
    let most = values.iter().copied().fold(1.0, f64::max);
    let step = WIDTH / (values.len() - 1) as f64;
    let points: Vec<String> = values
        .iter()
        .enumerate()
        .map(|(at, value)| {
            let y = HEIGHT - 2.0 - value.max(0.0) / most * (HEIGHT - 4.0);
            format!("{:.1},{y:.1}", at as f64 * step)
        })
        .collect();
    let line = points.join(" ");
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" preserveAspectRatio=\"none\" aria-hidden=\"true\">\
         <polygon points=\"0,{HEIGHT} {line} {WIDTH},{HEIGHT}\" fill=\"var(--accent)\" opacity=\".12\"/>\
         <polyline points=\"{line}\" fill=\"none\" stroke=\"var(--accent)\" stroke-width=\"1.5\" \
         vector-effect=\"non-scaling-stroke\"/></svg>"
    )
}

/// A number as people write it: `1,234`, `56.7 K`, `8.9 M`.
pub(super) fn number(value: f64) -> String {
    let size = value.abs();
    match size {
        _ if size < 10.0 && value.fract() != 0.0 => format!("{value:.1}"),
        _ if size < 1e4 => {
            let text = format!("{size:.0}");
            let sign = if value < 0.0 { "-" } else { "" };
            match text.len() {
                4 => format!("{sign}{},{}", &text[..1], &text[1..]),
                _ => format!("{sign}{text}"),
            }
        }
        _ if size < 1e6 => format!("{:.1} K", value / 1e3),
        _ if size < 1e9 => format!("{:.1} M", value / 1e6),
        _ => format!("{:.1} G", value / 1e9),
    }
}

/// Bytes as people write them.
pub(super) fn bytes(value: f64) -> String {
    match value {
        _ if value < 1024.0 => format!("{value:.0} B"),
        _ if value < 1024.0 * 1024.0 => format!("{:.1} KiB", value / 1024.0),
        _ if value < 1024.0 * 1024.0 * 1024.0 => format!("{:.1} MiB", value / 1024.0 / 1024.0),
        _ => format!("{:.1} GiB", value / 1024.0 / 1024.0 / 1024.0),
    }
}

/// A time as people write it: `3 d 4 h`, `5 min 6 s`, `0.2 s`.
pub(super) fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0) as u64;
    let (days, hours, minutes) = (whole / 86_400, whole / 3600 % 24, whole / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) if seconds < 10.0 => format!("{seconds:.1} s"),
        (0, 0, 0) => format!("{whole} s"),
        (0, 0, _) => format!("{minutes} min {} s", whole % 60),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

/// Text as HTML.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        let numbers = [0.0, 0.25, 7.0, 999.4, 1234.0, 45_678.0, 2.5e6, 3e9].map(number);
        let expected = ["0", "0.2", "7", "999", "1,234", "45.7 K", "2.5 M", "3.0 G"];
        assert_eq!(numbers, expected);
        assert_eq!(
            [12.0, 2048.0, 5e9].map(bytes),
            ["12 B", "2.0 KiB", "4.7 GiB"]
        );
        let times = [0.25, 42.0, 125.0, 7_300.0, 200_000.0].map(duration);
        assert_eq!(
            times,
            ["0.2 s", "42 s", "2 min 5 s", "2 h 1 min", "2 d 7 h"]
        );
    }
}
