//! The parts of a lab that need no machine: descriptions, names and addresses.
//!
//! In: descriptions as a user writes them. Out: resolved ones, or the error that the user sees.
//!
//! Invariant: nothing here touches the machine.

use std::net::Ipv4Addr;

use super::*;

fn host(name: &str, last: Option<u8>) -> LabHost {
    let address = last.map(|last| Subnet::default().address(last));
    LabHost {
        address,
        ..LabHost::named(name.parse().unwrap())
    }
}

fn lab(hosts: Vec<LabHost>) -> LabSpec {
    LabSpec {
        name: "demo".parse().unwrap(),
        subnet: Subnet::default(),
        packages: Vec::new(),
        hosts,
    }
}

fn addresses(spec: &LabSpec) -> Vec<Ipv4Addr> {
    spec.hosts.iter().filter_map(|host| host.address).collect()
}

fn error(spec: &LabSpec, existing: Option<&LabSpec>) -> String {
    spec.resolve(existing).unwrap_err().to_string()
}

#[test]
fn accepts_and_refuses_names() {
    for name in ["a", "lab-1", "abcdefghijkl"] {
        assert!(name.parse::<LabName>().is_ok(), "{name}");
    }
    for name in ["", "-a", "a-", "Lab", "a_b", "a/b", "..", "abcdefghijklm"] {
        assert!(name.parse::<LabName>().is_err(), "{name}");
    }
    assert!("localhost".parse::<HostName>().is_err());
    assert!("root".parse::<UserName>().is_err());
    assert!("deploy_1".parse::<UserName>().is_ok());
    for package in [
        "haproxy",
        "g++",
        "libc6=2.36-9+deb12u10",
        "nginx=1:1.0~rc1-1",
    ] {
        assert!(package.parse::<PackageName>().is_ok(), "{package}");
    }
    for package in ["", "-y", "a", "haproxy=", "haproxy nginx", "haproxy=1;rm"] {
        assert!(package.parse::<PackageName>().is_err(), "{package}");
    }
    for device in ["/dev/sdf", "/dev/nvme1n1", "/dev/xvdb"] {
        assert!(device.parse::<DevicePath>().is_ok(), "{device}");
    }
    for device in ["/dev/sd", "/dev/null", "/dev/../etc", "sdf", "/dev/loop0"] {
        assert!(device.parse::<DevicePath>().is_err(), "{device}");
    }
}

#[test]
fn accepts_only_private_24_subnets() {
    let subnet: Subnet = "192.168.5.0/24".parse().unwrap();
    assert_eq!(subnet.gateway(), Ipv4Addr::new(192, 168, 5, 1));
    assert_eq!(subnet.to_string(), "192.168.5.0/24");
    for text in ["10.77.0.0/16", "10.77.0.1/24", "8.8.8.0/24", "10.77.0.0"] {
        assert!(text.parse::<Subnet>().is_err(), "{text}");
    }
}

#[test]
fn gives_the_next_free_address() {
    let spec = lab(vec![host("a", None), host("b", Some(11)), host("c", None)]);
    let resolved = spec.resolve(None).unwrap();
    assert_eq!(
        addresses(&resolved),
        [12, 11, 13].map(|last| Subnet::default().address(last))
    );
}

#[test]
fn uses_every_address_before_it_gives_up() {
    let many = |count| {
        lab((0..count)
            .map(|number| host(&format!("h{number}"), None))
            .collect())
    };
    let resolved = many(253).resolve(None).unwrap();
    assert_eq!(
        addresses(&resolved).last(),
        Some(&Subnet::default().address(10))
    );
    assert_eq!(
        error(&many(254), None),
        "subnet 10.77.0.0/24 has no address left"
    );
}

#[test]
fn existing_hosts_keep_their_addresses_and_stay() {
    let existing = lab(vec![host("a", None), host("b", None)])
        .resolve(None)
        .unwrap();
    let resolved = lab(vec![host("c", None), host("b", None)])
        .resolve(Some(&existing))
        .unwrap();
    let names: Vec<_> = resolved
        .hosts
        .iter()
        .map(|host| host.name.as_str())
        .collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert_eq!(
        addresses(&resolved),
        [11, 12, 13].map(|last| Subnet::default().address(last))
    );
}

#[test]
fn refuses_what_appears_twice() {
    assert_eq!(
        error(&lab(vec![host("a", None), host("a", None)]), None),
        "host a appears twice"
    );
    let twice = lab(vec![host("a", Some(20)), host("b", Some(20))]);
    assert_eq!(error(&twice, None), "address 10.77.0.20 appears twice");
    let existing = lab(vec![host("a", Some(20))]).resolve(None).unwrap();
    let clash = lab(vec![host("b", Some(20))]);
    assert_eq!(
        error(&clash, Some(&existing)),
        "address 10.77.0.20 appears twice"
    );
}

#[test]
fn refuses_addresses_that_the_lab_needs() {
    for last in [0, 1, 255] {
        let message = error(&lab(vec![host("a", Some(last))]), None);
        assert!(
            message.ends_with("take one from .2 to .254 of 10.77.0.0/24"),
            "{message}"
        );
    }
}

#[test]
fn refuses_to_change_a_host_that_exists() {
    let existing = lab(vec![host("a", None)]).resolve(None).unwrap();
    let mut changed = lab(vec![host("a", None)]);
    changed.hosts[0].volumes = vec![LabVolume {
        name: "data".parse().unwrap(),
        size_bytes: 1 << 20,
        device: "/dev/sdf".parse().unwrap(),
    }];
    let message =
        "lab demo exists with another host a: remove it first with `provision lab down demo`";
    assert_eq!(error(&changed, Some(&existing)), message);
}

#[test]
fn refuses_odd_sizes_of_volumes() {
    for size_bytes in [0, 1000, MAX_VOLUME_BYTES + 512] {
        let mut spec = lab(vec![host("a", None)]);
        spec.hosts[0].volumes = vec![LabVolume {
            name: "data".parse().unwrap(),
            size_bytes,
            device: "/dev/sdf".parse().unwrap(),
        }];
        let message = error(&spec, None);
        assert!(
            message.starts_with("volume data of host a has"),
            "{message}"
        );
    }
}

#[test]
fn reads_a_description_and_refuses_unknown_keys() {
    let text = r#"{"name": "demo", "hosts": [{"name": "a", "users": [
        {"name": "deploy", "sudo": "no-password"},
        {"name": "admin", "sudo": {"password": "secret"}},
        {"name": "guest"}]}]}"#;
    let spec: LabSpec = serde_json::from_str(text).unwrap();
    let sudo: Vec<_> = spec.hosts[0]
        .users
        .iter()
        .map(|user| user.sudo.clone())
        .collect();
    assert_eq!(
        sudo,
        [
            Sudo::NoPassword,
            Sudo::Password("secret".to_owned()),
            Sudo::None
        ]
    );
    let unknown = r#"{"name": "demo", "hosts": [], "adress": "10.0.0.1"}"#;
    assert!(serde_json::from_str::<LabSpec>(unknown).is_err());
}
