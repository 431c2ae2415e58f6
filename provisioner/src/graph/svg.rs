//! A graph as an image.
//!
//! Goes in: a [`Graph`]. Comes out: one SVG, with a column per layer. Invariant: it needs neither
//! another file nor a script, and every text in it is escaped.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{Graph, GroupNode, HostNode, list};

/// The most hosts that are drawn of a group; the others are counted.
const HOSTS_LIMIT: usize = 12;

/// The most ports in one line of a host.
const PORTS_PER_LINE: usize = 4;

const BOX_WIDTH: i64 = 230;
const GAP: i64 = 120;
const MARGIN: i64 = 32;
const TOP: i64 = 72;
const HEADER: i64 = 34;
const LINE: i64 = 18;
const HOST_PADDING: i64 = 12;
const GROUP_GAP: i64 = 28;
const PROGRAMS_WIDTH: i64 = 150;
const PROGRAMS_HEIGHT: i64 = 56;

const STYLE: &str = "\
.page{fill:#fff}.group{fill:#f4f6fa;stroke:#c9d1de}.host{fill:#fff;stroke:#d8deea}
.changes{stroke:#c98a12;stroke-width:2.5}.programs{fill:#e8f1ff;stroke:#8db4ee}text{font-family:system-ui,-apple-system,'Segoe UI',sans-serif;fill:#1c2330}
.title{font-size:20px;font-weight:600}.name{font-size:14px;font-weight:600}.host-name{font-size:13px;font-weight:600}
.detail{font-size:12px;fill:#5a6577}.path{fill:none;stroke:#4a74c9;stroke-width:2}.head{fill:#4a74c9}
.ports{font-size:12px;font-weight:600;fill:#2f57a8;stroke:#fff;stroke-width:5px;paint-order:stroke;stroke-linejoin:round}
@media (prefers-color-scheme:dark){.page{fill:#14181f}.group{fill:#1c222c;stroke:#39424f}.host{fill:#232b37;stroke:#39424f}.changes{stroke:#e0ab45}
.programs{fill:#1d2c45;stroke:#40639b}text{fill:#e6eaf1}.detail{fill:#9aa6b8}.path{stroke:#7ea4ef}.head{fill:#7ea4ef}
.ports{fill:#a9c3f7;stroke:#14181f}}";

/// Where something stands.
#[derive(Clone, Copy, Debug)]
struct Place {
    x: i64,
    y: i64,
    width: i64,
    height: i64,
}

impl Place {
    const fn middle(self) -> i64 {
        self.y + self.height / 2
    }
}

pub(super) fn render(graph: &Graph) -> String {
    let has_programs = !graph.entries.is_empty();
    let left = if has_programs {
        MARGIN + PROGRAMS_WIDTH + GAP
    } else {
        MARGIN
    };
    let columns = graph
        .groups
        .iter()
        .map(|group| group.layer + 1)
        .max()
        .unwrap_or(0);
    let heights: Vec<i64> = (0..columns)
        .map(|layer| column_height(graph, layer))
        .collect();
    let tallest = heights
        .iter()
        .copied()
        .max()
        .unwrap_or(0)
        .max(PROGRAMS_HEIGHT);
    let places = places(graph, left, tallest, &heights);
    let right = places
        .values()
        .map(|place| place.x + place.width)
        .max()
        .unwrap_or(left);
    let around = graph
        .paths
        .iter()
        .filter(|path| goes_around(&places, &path.from, &path.to));
    let depth = 36 * i64::try_from(around.count()).unwrap_or(0);
    let (width, height) = (right + MARGIN, TOP + tallest + depth + MARGIN);
    let mut svg = head(&graph.title, width, height);
    for group in &graph.groups {
        if let Some(place) = places.get(group.name.as_str()) {
            draw_group(&mut svg, group, *place);
        }
    }
    if has_programs {
        let programs = Place {
            x: MARGIN,
            y: TOP + (tallest - PROGRAMS_HEIGHT) / 2,
            width: PROGRAMS_WIDTH,
            height: PROGRAMS_HEIGHT,
        };
        draw_programs(&mut svg, graph, programs, &places);
    }
    draw_paths(&mut svg, graph, &places, TOP + tallest);
    svg.push_str("</svg>\n");
    svg
}

/// A column per layer, each in the middle of the height.
fn places<'a>(
    graph: &'a Graph,
    left: i64,
    tallest: i64,
    heights: &[i64],
) -> BTreeMap<&'a str, Place> {
    let mut places = BTreeMap::new();
    for (layer, height) in heights.iter().enumerate() {
        let x = left + i64::try_from(layer).unwrap_or(0) * (BOX_WIDTH + GAP);
        let mut y = TOP + (tallest - height) / 2;
        for group in graph.groups.iter().filter(|group| group.layer == layer) {
            let height = group_height(group);
            let place = Place {
                x,
                y,
                width: BOX_WIDTH,
                height,
            };
            places.insert(group.name.as_str(), place);
            y += height + GROUP_GAP;
        }
    }
    places
}

fn head(title: &str, width: i64, height: i64) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" role=\"img\">\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n\
         <defs><marker id=\"head\" viewBox=\"0 0 10 10\" refX=\"9\" refY=\"5\" markerWidth=\"7\" markerHeight=\"7\" orient=\"auto\"><path class=\"head\" d=\"M0 0L10 5L0 10z\"/></marker></defs>\n\
         <rect class=\"page\" width=\"{width}\" height=\"{height}\"/>\n\
         <text class=\"title\" x=\"{MARGIN}\" y=\"40\">{title}</text>\n",
        title = escape(title),
    )
}

fn column_height(graph: &Graph, layer: usize) -> i64 {
    let groups = graph.groups.iter().filter(|group| group.layer == layer);
    let heights: Vec<i64> = groups.map(group_height).collect();
    let gaps = i64::try_from(heights.len()).unwrap_or(1) - 1;
    heights.iter().sum::<i64>() + gaps * GROUP_GAP
}

fn group_height(group: &GroupNode) -> i64 {
    let hosts: i64 = group
        .hosts
        .iter()
        .take(HOSTS_LIMIT)
        .map(|host| host_height(host) + 8)
        .sum();
    let more = if group.hosts.len() > HOSTS_LIMIT {
        LINE + 6
    } else {
        0
    };
    HEADER + hosts + more + 6
}

fn host_height(host: &HostNode) -> i64 {
    HOST_PADDING + LINE * i64::try_from(1 + details(host).len()).unwrap_or(1)
}

fn details(host: &HostNode) -> Vec<String> {
    let mut lines = Vec::new();
    if !host.address.is_empty() {
        lines.push(host.address.clone());
    }
    let ports: Vec<String> = host.ports.iter().map(ToString::to_string).collect();
    for (number, some) in ports.chunks(PORTS_PER_LINE).enumerate() {
        let begin = if number == 0 { "ports " } else { "" };
        lines.push(format!("{begin}{}", some.join(", ")));
    }
    lines.extend(host.volumes.iter().map(|mount| format!("volume {mount}")));
    lines
}

// Writing to a String does not fail, here and below.
fn draw_group(svg: &mut String, group: &GroupNode, place: Place) {
    let Place {
        x,
        y,
        width,
        height,
    } = place;
    let _ = writeln!(
        svg,
        "<rect class=\"group\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"10\"/>"
    );
    text(svg, "name", x + 14, y + 22, &group.name);
    let mut top = y + HEADER;
    for host in group.hosts.iter().take(HOSTS_LIMIT) {
        let height = host_height(host);
        let _ = writeln!(
            svg,
            "<rect class=\"host{}\" x=\"{}\" y=\"{top}\" width=\"{}\" height=\"{height}\" rx=\"6\"/>",
            if host.changes { " changes" } else { "" },
            x + 8,
            width - 16
        );
        text(
            svg,
            "host-name",
            x + 18,
            top + LINE,
            &shorten(&host.name, 28),
        );
        for (number, line) in (2..).zip(details(host)) {
            text(
                svg,
                "detail",
                x + 18,
                top + LINE * number,
                &shorten(&line, 33),
            );
        }
        top += height + 8;
    }
    if let Some(more) = group
        .hosts
        .len()
        .checked_sub(HOSTS_LIMIT)
        .filter(|more| *more > 0)
    {
        text(
            svg,
            "detail",
            x + 18,
            top + LINE - 4,
            &format!("and {more} more"),
        );
    }
}

fn draw_programs(svg: &mut String, graph: &Graph, place: Place, places: &BTreeMap<&str, Place>) {
    let Place {
        x,
        y,
        width,
        height,
    } = place;
    let _ = writeln!(
        svg,
        "<rect class=\"programs\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"{}\"/>",
        height / 2
    );
    let (x, y) = (x + width / 2, y + height / 2 + 5);
    let _ = writeln!(
        svg,
        "<text class=\"host-name\" text-anchor=\"middle\" x=\"{x}\" y=\"{y}\">your programs</text>"
    );
    for (name, ports) in &graph.entries {
        if let Some(to) = places.get(name.as_str()) {
            arrow(svg, place, *to, &list(ports));
        }
    }
}

fn draw_paths(svg: &mut String, graph: &Graph, places: &BTreeMap<&str, Place>, bottom: i64) {
    let mut lane = bottom;
    for path in &graph.paths {
        let (Some(from), Some(to)) = (places.get(path.from.as_str()), places.get(path.to.as_str()))
        else {
            continue;
        };
        if goes_around(places, &path.from, &path.to) {
            lane += 36;
            detour(svg, *from, *to, lane, &list(&path.ports));
        } else {
            arrow(svg, *from, *to, &list(&path.ports));
        }
    }
}

/// A straight way would lead over other boxes.
fn goes_around(places: &BTreeMap<&str, Place>, from: &str, to: &str) -> bool {
    match (places.get(from), places.get(to)) {
        (Some(from), Some(to)) => to.x != from.x + BOX_WIDTH + GAP,
        _ => false,
    }
}

fn arrow(svg: &mut String, from: Place, to: Place, label: &str) {
    let (x1, y1, x2, y2) = (from.x + from.width, from.middle(), to.x, to.middle());
    let bend = (x2 - x1) / 2;
    let _ = writeln!(
        svg,
        "<path class=\"path\" marker-end=\"url(#head)\" d=\"M{x1} {y1}C{} {y1} {} {y2} {} {y2}\"/>",
        x1 + bend,
        x2 - bend,
        x2 - 2
    );
    centred(svg, i64::midpoint(x1, x2), i64::midpoint(y1, y2) - 8, label);
}

/// Below all boxes.
fn detour(svg: &mut String, from: Place, to: Place, lane: i64, label: &str) {
    let (x1, y1) = (from.x + from.width / 2, from.y + from.height);
    let (x2, y2) = (to.x + to.width / 2 + 24, to.y + to.height);
    let _ = writeln!(
        svg,
        "<path class=\"path\" marker-end=\"url(#head)\" d=\"M{x1} {y1}C{x1} {lane} {x1} {lane} {} {lane}L{} {lane}C{x2} {lane} {x2} {lane} {x2} {}\"/>",
        x1 + 40 * (x2 - x1).signum(),
        x2 - 40 * (x2 - x1).signum(),
        y2 + 2
    );
    centred(svg, i64::midpoint(x1, x2), lane - 6, label);
}

fn text(svg: &mut String, class: &str, x: i64, y: i64, words: &str) {
    let words = escape(words);
    let _ = writeln!(
        svg,
        "<text class=\"{class}\" x=\"{x}\" y=\"{y}\">{words}</text>"
    );
}

fn centred(svg: &mut String, x: i64, y: i64, words: &str) {
    let words = escape(words);
    let _ = writeln!(
        svg,
        "<text class=\"ports\" text-anchor=\"middle\" x=\"{x}\" y=\"{y}\">{words}</text>"
    );
}

fn shorten(words: &str, limit: usize) -> String {
    if words.chars().count() <= limit {
        return words.to_owned();
    }
    let start: String = words.chars().take(limit - 1).collect();
    format!("{start}…")
}

fn escape(words: &str) -> String {
    words
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
