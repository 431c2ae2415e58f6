//! A request on its way through the graph, with what came along with it.
//!
//! In: what a receiver has read. Out: the same, handed from component to component.
//! Invariant: a clone shares everything; nothing is copied.

use std::sync::Arc;

use collector_otlp::Request;

use crate::budget::Reservation;
use crate::pipeline::Batching;

/// A request, and what came along with it.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The telemetry.
    pub request: Request,
    /// What its sender said beside it.
    pub metadata: Metadata,
    /// The memory that the telemetry was given, until the last clone is dropped.
    pub reservation: Reservation,
    /// The rule by which it is joined with others in front of an exporter; none is no joining.
    pub batching: Option<Arc<Batching>>,
}

impl From<Request> for Batch {
    fn from(request: Request) -> Self {
        Self {
            request,
            metadata: Metadata::default(),
            reservation: Reservation::default(),
            batching: None,
        }
    }
}

/// Headers that a sender's request carried; empty unless a receiver was told to keep them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Metadata(Option<Arc<[(String, String)]>>);

impl Metadata {
    /// Keeps headers: names in lower case, one entry for each value.
    pub fn new(mut headers: Vec<(String, String)>) -> Self {
        headers.sort();
        Self((!headers.is_empty()).then(|| headers.into()))
    }

    /// Every entry, ordered by name.
    pub fn entries(&self) -> &[(String, String)] {
        self.0.as_deref().unwrap_or_default()
    }

    /// The values of a header; `name` is in lower case.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        let named = self.entries().iter().filter(move |(key, _)| key == name);
        named.map(|(_, value)| value.as_str())
    }

    /// What of it has one of these names, which are in lower case.
    pub fn only(&self, names: &[String]) -> Self {
        let entries = self.entries().iter();
        Self::new(
            entries
                .filter(|(name, _)| names.contains(name))
                .cloned()
                .collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_keeps_every_value_of_a_name() {
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        let metadata = Metadata::new(vec![pair("b", "2"), pair("a", "1"), pair("a", "3")]);
        assert_eq!(metadata.values("a").collect::<Vec<_>>(), ["1", "3"]);
        assert_eq!(metadata.values("c").count(), 0);
        let only = metadata.only(&["b".to_owned()]);
        assert_eq!(only.entries(), [pair("b", "2")]);
        assert_eq!(metadata.only(&[]), Metadata::default());
    }
}
