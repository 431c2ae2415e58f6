//! Mistakes in a file, as they are printed.
//!
//! Goes in: texts with mistakes. Comes out: whole messages, as snapshots. Invariant: all mistakes
//! of a text are in one snapshot.

use std::sync::Arc;

use super::*;
use crate::inventory::Inventory;

fn mistakes(text: &str) -> String {
    let source = Arc::new(Source::new(
        "inventories/a.toml".to_owned(),
        text.to_owned(),
    ));
    let diagnostics = Diagnostics::default();
    let _ = Inventory::parse("a".parse().unwrap(), &source, &diagnostics);
    diagnostics
        .into_list()
        .iter()
        .map(|one| format!("{one}\n\n"))
        .collect()
}

#[test]
fn every_mistake_of_a_file_is_shown_at_once_with_its_place() {
    insta::assert_snapshot!(mistakes(
        r#"
provider = "on-prem"
regoin = "x"

[ssh]
prot = 22
port = 70000

[hosts.lost]
address = "10.0.0.9"

[groups.gateways]
rolle = "gateway"
hosts."Größe" = { address = "10.0.0.1" }
hosts.collector-1 = { adress = "10.0.0.1", host_key = "nonsense" }

[groups.storage]
hosts = ["storage-1", 5]

[groups.storage.volumes.data]
size = "500 gib"
filesystem = "ntfs"
mount = "mnt"
"#
    ));
}

#[test]
fn a_syntax_error_hides_what_would_follow_from_it() {
    insta::assert_snapshot!(mistakes("provider = on-prem\n[groups\nhosts = []\n"));
}

#[test]
fn tabs_and_wide_letters_keep_the_mark_in_its_place() {
    insta::assert_snapshot!(mistakes(
        "provider = \"on-prem\"\n[groups.a]\n\thosts.b = { \"ä\" = 1 }\n"
    ));
}

#[test]
fn a_place_at_the_end_of_a_file_is_within_it() {
    let source = Source::new("a".to_owned(), "x = \"ö\"".to_owned());
    for index in 0..20 {
        let place = source.locate(index..index + 3);
        assert_eq!(place.line, 1);
        assert!(place.column <= 8);
    }
}
