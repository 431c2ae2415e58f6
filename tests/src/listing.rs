//! Two listings, and where they differ.
//!
//! Goes in: texts of lines. Comes out: the lines that only one of them has. Invariant: the order
//! of lines does not matter.

use std::collections::BTreeSet;

/// The lines that are missing (`-`) or that were added (`+`).
#[must_use]
pub fn differences(before: &str, after: &str) -> Vec<String> {
    let before: BTreeSet<&str> = before.lines().collect();
    let after: BTreeSet<&str> = after.lines().collect();
    let missing = before.difference(&after).map(|line| format!("- {line}"));
    let added = after.difference(&before).map(|line| format!("+ {line}"));
    missing.chain(added).collect()
}

#[cfg(test)]
mod tests {
    use super::differences;

    #[test]
    fn only_what_differs_is_named() {
        assert_eq!(differences("a\nb\nc", "c\nd\na"), ["- b", "+ d"]);
        assert_eq!(differences("a\nb", "b\na"), [""; 0]);
    }
}
