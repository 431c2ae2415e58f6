//! `merge_maps`: a map's pairs among a record's attributes.
//!
//! In: pairs, and which of them are wanted. Out: the record with them.
//! Invariant: time grows with the pairs and the attributes, not with their product.

use std::collections::HashMap;

use collector_otlp::{AnyValue, Place, Record};

use super::fault::EvalFault;
use super::value::Value;

/// Up to so many comparisons of keys, looking for each takes less than an index of all.
const COMPARISONS: usize = 2_048;

/// Which attributes `merge_maps` sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Strategy {
    /// Those that are absent.
    Insert,
    /// Those that are there.
    Update,
    /// All.
    Upsert,
}

impl Strategy {
    fn wants(self, is_there: bool) -> bool {
        match self {
            Self::Insert => !is_there,
            Self::Update => is_there,
            Self::Upsert => true,
        }
    }
}

/// Keys and values of a map, the values as the bytes of an `AnyValue`.
pub(super) type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// What a map or all attributes hold.
pub(super) fn pairs(value: &Value<'_>) -> Result<Pairs, EvalFault> {
    match value {
        Value::Map(map) => {
            let pairs = AnyValue::Map(map).pairs().map(|(key, value)| {
                let mut bytes = Vec::new();
                value.write(&mut bytes);
                (key.to_vec(), bytes)
            });
            Ok(pairs.collect())
        }
        Value::Attributes(record) => {
            let pairs = record.attributes();
            let pairs = pairs.map(|(place, key)| (key.to_vec(), record.value(place).to_vec()));
            Ok(pairs.collect())
        }
        other => {
            let message = format!("expected a map but got {}", other.kind());
            Err(EvalFault::new(message))
        }
    }
}

/// Sets the attributes that the strategy wants.
pub(super) fn merge(record: &mut Record<'_>, pairs: Pairs, strategy: Strategy) {
    if pairs.len().saturating_mul(record.places() as usize) > COMPARISONS {
        return merge_many(record, pairs, strategy);
    }
    for (key, value) in pairs {
        if strategy.wants(record.find(&key).is_some()) {
            record.upsert(&key, |out| out.extend_from_slice(&value));
        }
    }
}

/// The same among the pairs of a map.
pub(super) fn merge_pairs(map: &mut Pairs, pairs: Pairs, strategy: Strategy) {
    let mut places: HashMap<Vec<u8>, usize> = HashMap::new();
    for (place, (key, _)) in map.iter().enumerate() {
        places.entry(key.clone()).or_insert(place);
    }
    for (key, value) in pairs {
        let place = places.get(&key).copied();
        if !strategy.wants(place.is_some()) {
            continue;
        }
        match place {
            Some(place) => map[place].1 = value,
            None => {
                places.insert(key.clone(), map.len());
                map.push((key, value));
            }
        }
    }
}

/// The same with an index of the keys, of which the first counts where one stands twice.
fn merge_many(record: &mut Record<'_>, pairs: Pairs, strategy: Strategy) {
    let mut places: HashMap<Vec<u8>, Place> = HashMap::new();
    for (place, key) in record.attributes() {
        places.entry(key.to_vec()).or_insert(place);
    }
    for (key, value) in pairs {
        let place = places.get(&key).copied();
        if !strategy.wants(place.is_some()) {
            continue;
        }
        let write = |out: &mut Vec<u8>| out.extend_from_slice(&value);
        match place {
            Some(place) => record.revalue(place, write),
            None => {
                let place = record.append(&key, write);
                places.insert(key, place);
            }
        }
    }
}
