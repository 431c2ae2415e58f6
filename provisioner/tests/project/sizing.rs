//! The example inventories, and how large a tier makes those of a cloud.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Folder;

#[test]
fn every_example_inventory_passes() {
    let folder = Folder::with_project();
    let checked = folder.run(&["inventory", "check"], "");
    for provider in ["on-prem", "aws", "gcp", "azure", "lab"] {
        let (named, kind) = (
            format!("inventories/{provider}.toml: "),
            format!(", provider {provider}"),
        );
        let is_its_line = |line: &&str| line.starts_with(&named) && line.ends_with(&kind);
        assert_eq!(checked.lines().filter(is_its_line).count(), 1, "{checked}");
    }
}

/// Hosts of each group of a cloud inventory with their memory in GiB and their type.
fn groups_of(folder: &Folder, cloud: &str, tier: &str) -> BTreeMap<String, (usize, u64, String)> {
    let text = folder.read("environments/staging.toml");
    let text = text.replace("\"on-prem\"", &format!("\"{cloud}\""));
    let text = text.replace("tier = \"small\"", &format!("tier = \"{tier}\""));
    folder.write("environments/cloud.toml", &text);
    let shown = folder.run(
        &["inventory", "show", "--env", "cloud", "--output", "json"],
        "",
    );
    let hosts: Vec<Value> = serde_json::from_str(&shown).expect("a list");
    let mut groups = BTreeMap::new();
    for host in hosts {
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let memory = host["role"]["memory_bytes"].as_u64().expect("a number") >> 30;
        let instance_type = text(&host["instance_type"]);
        let group = groups
            .entry(text(&host["groups"][0]))
            .or_insert_with(|| (0, memory, instance_type.clone()));
        group.0 += 1;
        assert_eq!((group.1, &group.2), (memory, &instance_type), "{host}");
    }
    groups
}

/// The figures are those of the sizing tables that `environments/tiers.toml` follows; the smallest
/// platform has a second gateway, so that one can be changed while the other answers.
#[test]
fn a_tier_sizes_the_groups_of_each_cloud() {
    let folder = Folder::with_project();
    let tiers = [
        (
            "small",
            1,
            2,
            2,
            ["t3.medium", "e2-medium", "Standard_B2ms"],
        ),
        (
            "medium",
            2,
            3,
            4,
            ["m6i.xlarge", "e2-standard-4", "Standard_D4s_v5"],
        ),
        (
            "large",
            2,
            10,
            4,
            ["m6i.2xlarge", "e2-standard-8", "Standard_D8s_v5"],
        ),
        (
            "xlarge",
            4,
            30,
            8,
            ["m6i.2xlarge", "e2-standard-8", "Standard_D8s_v5"],
        ),
    ];
    for (tier, balancers, gateways, memory, types) in tiers {
        for (cloud, instance_type) in ["aws", "gcp", "azure"].into_iter().zip(types) {
            let groups = groups_of(&folder, cloud, tier);
            assert_eq!(groups["balancers"].0, balancers, "{cloud} {tier}");
            // The one for Google says itself how many, which goes before the tier.
            let count = if cloud == "gcp" { 5 } else { gateways };
            let wanted = (count, memory, instance_type.to_owned());
            assert_eq!(groups["gateways"], wanted, "{cloud} {tier}");
        }
    }
    // So does the type that a group names.
    let storage = &groups_of(&folder, "aws", "small")["storage"];
    assert_eq!(storage, &(1, 4, "r6i.2xlarge".to_owned()));
}
