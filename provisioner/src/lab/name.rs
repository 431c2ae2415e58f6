//! The names in a description of a lab.
//!
//! In: text. Out: a type for each kind of name, also when read from a file.
//!
//! Invariant: a name that was accepted is safe as a file name, as a host name and as an argument
//! of a program; nothing else needs to quote it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::spec::SpecError;

macro_rules! checked_name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $rule:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = SpecError;

            fn try_from(value: String) -> Result<Self, SpecError> {
                let check: fn(&str) -> bool = $check;
                if check(&value) {
                    Ok(Self(value))
                } else {
                    Err(SpecError::Name { what: $what, value, rule: $rule })
                }
            }
        }

        impl FromStr for $name {
            type Err = SpecError;

            fn from_str(value: &str) -> Result<Self, SpecError> {
                Self::try_from(value.to_owned())
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

checked_name!(
    /// The name of a lab: part of a directory, a network namespace and machine names.
    LabName, "name of a lab",
    "use 1 to 12 of a-z, 0-9 and -, beginning and ending with a letter or digit",
    |name| is_label(name, 12)
);

checked_name!(
    /// The name of a host, which is also its host name.
    HostName, "name of a host",
    "use 1 to 40 of a-z, 0-9 and -, beginning and ending with a letter or digit",
    |name| is_label(name, 40) && name != "localhost"
);

checked_name!(
    /// The name of a volume, unique in its host.
    VolumeName, "name of a volume",
    "use 1 to 40 of a-z, 0-9 and -, beginning and ending with a letter or digit",
    |name| is_label(name, 40)
);

checked_name!(
    /// The name of a user account that is made on a host beside root.
    UserName, "name of a user",
    "use 1 to 32 of a-z, 0-9, - and _, beginning with a letter or _; root is there already",
    |name| {
        name.len() <= 32
            && name != "root"
            && name.starts_with(|first: char| first.is_ascii_lowercase() || first == '_')
            && name.bytes().all(|byte| is_label_byte(byte) || byte == b'_')
    }
);

checked_name!(
    /// A Debian package, by name or as `name=version`.
    PackageName, "package",
    "write a Debian package name, or name=version",
    |package| {
        let (name, version) = package.split_once('=').unwrap_or((package, "0"));
        name.len() >= 2
            && name.starts_with(|first: char| first.is_ascii_lowercase() || first.is_ascii_digit())
            && name.bytes().all(|byte| is_label_byte(byte) || b"+.".contains(&byte))
            && !version.is_empty()
            && version.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+.:~-".contains(&byte))
    }
);

checked_name!(
    /// The path under which a host sees a volume, such as `/dev/sdf`.
    DevicePath, "device of a volume",
    "write /dev/ and a disk's name: sd, vd, xvd or nvme, then letters and digits",
    |path| {
        path.strip_prefix("/dev/").is_some_and(|disk| {
            ["sd", "vd", "xvd", "nvme"].iter().any(|kind| disk.len() > kind.len() && disk.starts_with(kind))
                && disk.len() <= 32
                && disk.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        })
    }
);

fn is_label_byte(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'
}

fn is_label(name: &str, max_length: usize) -> bool {
    (1..=max_length).contains(&name.len())
        && name.bytes().all(is_label_byte)
        && !name.starts_with('-')
        && !name.ends_with('-')
}
