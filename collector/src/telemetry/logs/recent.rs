//! The last warnings and errors, for those who look.
//!
//! In: events. Out: the last [`KEPT`] different ones. Invariant: the same event again is counted,
//! not kept once more; at most [`KEPT`] entries of [`MAX_CHARACTERS`] each are held.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use tracing::Level;

use super::line::Fields;

/// How many different warnings and errors are kept.
const KEPT: usize = 50;

/// How long a kept text may be.
const MAX_CHARACTERS: usize = 1000;

/// A warning or an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recent {
    /// When it was said last.
    pub time: SystemTime,
    /// How bad it is.
    pub level: Level,
    /// What was said.
    pub message: String,
    /// The event's fields as `name=value`.
    pub details: String,
    /// How often it was said.
    pub count: u64,
}

static KEPT_EVENTS: Mutex<VecDeque<Recent>> = Mutex::new(VecDeque::new());

/// The last warnings and errors, the newest first.
pub fn recent() -> Vec<Recent> {
    let kept = KEPT_EVENTS.lock().unwrap_or_else(PoisonError::into_inner);
    kept.iter().rev().cloned().collect()
}

pub(super) fn keep(level: Level, time: SystemTime, fields: &Fields) {
    let pairs = fields.others.iter().map(|(name, value)| match value {
        serde_json::Value::String(text) => format!("{name}={text}"),
        other => format!("{name}={other}"),
    });
    let details = pairs.collect::<Vec<_>>().join(" ");
    let cut = |text: &str| text.chars().take(MAX_CHARACTERS).collect::<String>();
    let event = Recent {
        time,
        level,
        message: cut(&fields.message),
        details: cut(&details),
        count: 1,
    };
    let mut kept = KEPT_EVENTS.lock().unwrap_or_else(PoisonError::into_inner);
    add(&mut kept, event);
}

fn add(kept: &mut VecDeque<Recent>, mut event: Recent) {
    let is_same = |other: &Recent| {
        other.level == event.level
            && other.message == event.message
            && subject(&other.details) == subject(&event.details)
    };
    if let Some(at) = kept.iter().position(is_same) {
        let count = kept.remove(at).map_or(0, |other| other.count);
        event.count += count;
    }
    if kept.len() >= KEPT {
        kept.pop_front();
    }
    kept.push_back(event);
}

/// The first field, which names the component; those behind it differ from time to time.
fn subject(details: &str) -> &str {
    details.split(' ').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_event_is_counted_and_the_oldest_give_way() {
        let event = |message: &str, details: &str| Recent {
            time: SystemTime::UNIX_EPOCH,
            level: Level::WARN,
            message: message.to_owned(),
            details: details.to_owned(),
            count: 1,
        };
        let mut kept = VecDeque::new();
        add(&mut kept, event("failed", "exporter=a pause=1s"));
        add(&mut kept, event("failed", "exporter=b pause=1s"));
        add(&mut kept, event("failed", "exporter=a pause=2s"));
        assert_eq!(kept.len(), 2);
        assert_eq!(
            (kept[1].count, &*kept[1].details),
            (2, "exporter=a pause=2s")
        );
        for number in 0..KEPT {
            add(&mut kept, event(&number.to_string(), ""));
        }
        assert_eq!((kept.len(), &*kept[0].message), (KEPT, "0"));
    }
}
