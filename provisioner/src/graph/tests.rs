//! Pictures of fleets that are written out by hand.
//!
//! Goes in: groups and paths. Comes out: whole texts, as snapshots. Invariant: an image is sound
//! XML whatever the names are.

use super::*;

fn graph() -> Graph {
    let group = |name: &str, layer: usize, hosts: usize, ports: &[u16]| GroupNode {
        name: name.to_owned(),
        layer,
        hosts: (1..=hosts)
            .map(|number| HostNode {
                name: format!("{name}-{number}"),
                address: format!("10.0.{layer}.{number}"),
                ports: ports.iter().copied().collect(),
                volumes: (layer == 2)
                    .then(|| "/mnt/data".to_owned())
                    .into_iter()
                    .collect(),
                changes: false,
            })
            .collect(),
    };
    let path = |from: &str, to: &str, ports: &[u16]| DataPath {
        from: from.to_owned(),
        to: to.to_owned(),
        ports: ports.iter().copied().collect(),
    };
    Graph {
        title: "a <b> & \"c\"".to_owned(),
        groups: vec![
            group("balancers", 0, 1, &[4317, 4318, 8404]),
            group("gateways", 1, 14, &[4317, 4318, 8404, 8888, 13133]),
            group("storage", 2, 2, &[4317]),
        ],
        paths: vec![
            path("balancers", "gateways", &[4317, 4318]),
            path("balancers", "storage", &[9000]),
            path("gateways", "storage", &[4317]),
        ],
        entries: BTreeMap::from([("balancers".to_owned(), TELEMETRY_PORTS.into())]),
    }
}

#[test]
fn an_image_is_one_sound_file() {
    let svg = graph().to_svg();
    assert!(svg.contains("a &lt;b&gt; &amp; &quot;c&quot;"), "{svg}");
    assert!(svg.contains("and 2 more"));
    assert_eq!(svg.matches("class=\"path\"").count(), 4);
    for outside in ["href", "url(http", "<script", "@import"] {
        assert!(!svg.contains(outside), "{outside}");
    }
    assert_eq!(svg.matches("<text").count(), svg.matches("</text>").count());
    insta::assert_snapshot!(svg);
}

#[test]
fn mermaid_has_every_host_and_path() {
    insta::assert_snapshot!(graph().to_mermaid());
}

#[test]
fn sockets_are_found_where_programs_have_them() {
    let text = "endpoint: 0.0.0.0:4317\n# not 1.2.3.4:5\nbind :::4318 v4v6\nserver a 10.0.0.1:4317\n\
                at [2001:db8::1]:99, \"http://b:80/x\" 12:34:56 127.0.0.1:7\nno 1.2.3.4:99999\n";
    let found = sockets(text);
    assert_eq!(
        found,
        [
            ("0.0.0.0", 4317),
            ("::", 4318),
            ("10.0.0.1", 4317),
            ("2001:db8::1", 99),
            ("b", 80),
            ("12:34", 56),
            ("127.0.0.1", 7),
        ]
    );
}

#[test]
fn a_circle_of_groups_is_cut() {
    let path = |from: &str, to: &str| DataPath {
        from: from.to_owned(),
        to: to.to_owned(),
        ports: BTreeSet::new(),
    };
    let layers = layers(
        &["a", "b", "c"],
        &[path("a", "b"), path("b", "a"), path("b", "c")],
    );
    assert!(layers.values().all(|layer| *layer < 3), "{layers:?}");
}
