//! A graph as Mermaid text.
//!
//! Goes in: a [`Graph`]. Comes out: a flow chart that GitHub, GitLab and most wikis draw.
//! Invariant: names stand in quotes, so none of them is taken for syntax.

use std::fmt::Write as _;

use super::{Graph, list};

pub(super) fn render(graph: &Graph) -> String {
    // Writing to a String does not fail.
    let mut text = String::from("flowchart LR\n");
    if !graph.entries.is_empty() {
        let _ = writeln!(text, "  programs([\"your programs\"])");
    }
    for (number, group) in graph.groups.iter().enumerate() {
        let _ = writeln!(text, "  subgraph g{number} [\"{}\"]", group.name);
        for (place, host) in group.hosts.iter().enumerate() {
            let mut label = format!("{}<br/>{}", host.name, host.address);
            if !host.ports.is_empty() {
                let _ = write!(label, "<br/>{}", list(&host.ports));
            }
            for mount in &host.volumes {
                let _ = write!(label, "<br/>{mount}");
            }
            let _ = writeln!(text, "    g{number}h{place}[\"{label}\"]");
        }
        text.push_str("  end\n");
    }
    let id = |name: &str| graph.groups.iter().position(|group| group.name == name);
    for (name, ports) in &graph.entries {
        if let Some(to) = id(name) {
            let _ = writeln!(text, "  programs -->|\"{}\"| g{to}", list(ports));
        }
    }
    for path in &graph.paths {
        if let (Some(from), Some(to)) = (id(&path.from), id(&path.to)) {
            let _ = writeln!(text, "  g{from} -->|\"{}\"| g{to}", list(&path.ports));
        }
    }
    text
}
