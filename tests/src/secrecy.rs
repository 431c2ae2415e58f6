//! Where a secret could be seen: its forms, and the arguments of every process.
//!
//! Goes in: secrets. Comes out: what must not be found, and processes that show it all the same.
//! Invariant: what is searched for is made here, not by the program that hides it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL_SAFE: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// How long is waited between two looks at all processes.
const PAUSE: Duration = Duration::from_millis(1);

/// How often one process is looked at.
const LOOKS_PER_PROCESS: usize = 50;

/// Every form in which a secret could be seen: plain, percent, hex, and base64 wherever it begins.
#[must_use]
pub fn forms(secret: &str) -> Vec<String> {
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    let mut forms = vec![
        secret.to_owned(),
        hex.to_uppercase(),
        hex,
        percent(secret, ""),
        percent(secret, "").to_lowercase(),
        // As browsers and `quote` write URLs, and as forms are sent.
        percent(secret, ";/?:@&=+$,#!*'()"),
        percent(secret, "/"),
        percent(secret, "").replace("%20", "+"),
    ];
    for alphabet in [STANDARD, URL_SAFE] {
        forms.extend((0..3).map(|before| base64_inside(secret, before, alphabet)));
    }
    forms.sort();
    forms.dedup();
    forms
}

/// The digits that depend on the secret alone, when this many bytes stand before it.
fn base64_inside(secret: &str, before: usize, alphabet: &[u8; 64]) -> String {
    let mut bytes = vec![0; before];
    bytes.extend_from_slice(secret.as_bytes());
    let bit = |at: usize| (bytes[at / 8] >> (7 - at % 8)) & 1;
    let first = (before * 8).div_ceil(6);
    let digits = (first..bytes.len() * 8 / 6).map(|digit| {
        let index = (0..6).fold(0, |value, at| value * 2 + bit(digit * 6 + at));
        char::from(alphabet[usize::from(index)])
    });
    digits.collect()
}

/// Percent-encoded, apart from what every encoder keeps and what this one keeps.
fn percent(secret: &str, kept: &str) -> String {
    let encode = |byte: u8| match byte {
        byte if kept.as_bytes().contains(&byte) => char::from(byte).to_string(),
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    secret.bytes().map(encode).collect()
}

/// Looks at the arguments of every process of this machine, again and again. The hosts of a lab
/// share its kernel, so their processes are among them.
#[derive(Debug)]
pub struct ArgumentWatch {
    ending: Arc<AtomicBool>,
    thread: JoinHandle<Watched>,
}

/// What an [`ArgumentWatch`] saw.
#[derive(Debug, Default)]
pub struct Watched {
    /// How often all processes were looked at.
    pub looks: usize,
    /// The different arguments that were seen.
    pub seen: BTreeSet<String>,
    /// Those of them in which a secret stood.
    pub leaks: Vec<String>,
}

impl ArgumentWatch {
    /// Begins to look for secrets.
    #[must_use]
    pub fn start(secrets: &[&str]) -> Self {
        let forms: Vec<String> = secrets.iter().flat_map(|secret| forms(secret)).collect();
        let ending = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&ending);
        let thread = thread::spawn(move || {
            let mut watched = Watched::default();
            let mut ages = BTreeMap::new();
            while !until.load(Ordering::Relaxed) {
                watched.look(&forms, &mut ages);
                thread::sleep(PAUSE);
            }
            watched
        });
        Self { ending, thread }
    }

    /// Ends it.
    ///
    /// # Panics
    /// The looking itself panicked.
    #[must_use]
    pub fn end(self) -> Watched {
        self.ending.store(true, Ordering::Relaxed);
        self.thread.join().expect("a watch that ends")
    }
}

impl Watched {
    fn look(&mut self, forms: &[String], ages: &mut BTreeMap<OsString, usize>) {
        self.looks += 1;
        let mut there = BTreeMap::new();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let process = entry.file_name();
            if !process.as_encoded_bytes()[0].is_ascii_digit() {
                continue;
            }
            // A process gets its arguments early in its life, and other ones hardly ever.
            let age = ages.remove(&process).unwrap_or_default();
            there.insert(process, age + 1);
            if age < LOOKS_PER_PROCESS {
                self.look_at(&entry.path().join("cmdline"), forms);
            }
        }
        *ages = there;
    }

    fn look_at(&mut self, path: &Path, forms: &[String]) {
        let Ok(bytes) = fs::read(path) else {
            return;
        };
        let text = String::from_utf8_lossy(&bytes).replace('\0', " ");
        if text.is_empty() || self.seen.contains(&text) {
            return;
        }
        if forms.iter().any(|form| text.contains(form.as_str())) {
            self.leaks.push(text.clone());
        }
        self.seen.insert(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_what_others_make_of_a_secret() {
        let forms = forms("a/b c?");
        for form in [
            "a/b c?",
            "a%2Fb%20c%3F",
            "a%2fb%20c%3f",
            "612f6220633f",
            "YS9iIGM/",
            "YS9iIGM_",
        ] {
            assert!(forms.iter().any(|known| known == form), "{form}");
        }
        // "xa/b c?" and "xxa/b c?" in base64, without the digits that x has a part in.
        assert!("eGEvYiBjPw==".contains(&base64_inside("a/b c?", 1, STANDARD)));
        assert!("eHhhL2IgYz8=".contains(&base64_inside("a/b c?", 2, STANDARD)));
    }

    #[test]
    fn sees_a_process_that_shows_a_secret() {
        let watch = ArgumentWatch::start(&["a secret of the watch"]);
        let mut child = std::process::Command::new("sh")
            .args(["-c", "sleep 0.3; : a secret of the watch"])
            .spawn()
            .expect("a shell");
        child.wait().expect("its end");
        assert_eq!(watch.end().leaks.len(), 1);
    }
}
