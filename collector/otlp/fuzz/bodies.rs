//! What every fuzz target does with its bytes, and what must hold afterwards.
//!
//! In: any bytes; the first one chooses the signal. Out: nothing, or a panic.
//! Invariant: whatever passes validation also passes everything that trusts validation.

use collector_otlp::pass::{self, Above, Level, Pass, Verdict};
use collector_otlp::{AnyValue, Record, Request, Signal, WireError};

/// The signal that the first byte chooses, and the rest.
fn chosen(data: &[u8]) -> Option<(Signal, &[u8])> {
    let (first, rest) = data.split_first()?;
    let signal = Signal::ALL.get(usize::from(first % 3))?;
    Some((*signal, rest))
}

/// Validates, counts, merges, splits, edits, drops and writes as JSON; `true` when it is sound.
pub(crate) fn wire(data: &[u8]) -> bool {
    let Some((signal, bytes)) = chosen(data) else {
        return false;
    };
    let request = Request::parse(signal, bytes.to_vec().into());
    request.iter().for_each(exercise);
    request.is_ok()
}

/// Reads JSON, and everything else after that; `true` when it is sound.
pub(crate) fn json(data: &[u8]) -> bool {
    let Some((signal, text)) = chosen(data) else {
        return false;
    };
    let request = Request::parse_json(signal, text);
    request.iter().for_each(exercise);
    request.is_ok()
}

fn exercise(request: &Request) {
    let signal = request.signal();
    let again = |request: &Request| {
        let parsed =
            Request::parse(signal, request.bytes().clone()).expect("what was made is sound");
        assert_eq!(parsed.items(), request.items());
        assert_eq!(parsed.replaced_strings(), 0);
    };
    again(request);
    let written = request.to_json().expect("what is sound can be written");
    serde_json::from_slice::<serde_json::Value>(&written).expect("what is written is JSON");
    for most in [1, 3] {
        let pieces = request
            .clone()
            .split(most)
            .expect("what is sound can be split");
        assert_eq!(
            pieces.iter().map(Request::items).sum::<usize>(),
            request.items()
        );
        pieces.iter().for_each(again);
    }
    let twice = Request::merge(&[request.clone(), request.clone()]).expect("two requests");
    assert_eq!(twice.items(), request.items() * 2);
    again(&twice);
    let edited = request
        .clone()
        .apply(|signal, source| pass::run(&mut Scribble { drops: false }, signal, source))
        .expect("what is sound can be edited");
    assert_eq!(edited.items(), request.items());
    again(&edited);
    let fewer = request
        .clone()
        .apply(|signal, source| pass::run(&mut Scribble { drops: true }, signal, source))
        .expect("what is sound can be filtered");
    assert!(fewer.items() <= request.items());
    again(&fewer);
}

/// Edits everything, and drops every item with two attributes or more if it is told to.
struct Scribble {
    drops: bool,
}

impl Scribble {
    fn scribble(&self, record: &mut Record<'_>) -> Result<Verdict, WireError> {
        let places: Vec<_> = record.attributes().map(|(place, _)| place).collect();
        if let [first, second, ..] = places[..] {
            record.copy_value(None, b"copy", first);
            record.rename(second, b"renamed");
            record.remove(first);
        }
        record.upsert(b"added", |out| AnyValue::String(&[b'x'; 200]).write(out));
        Ok(match self.drops && places.len() > 1 {
            true => Verdict::Drop,
            false => Verdict::Keep,
        })
    }
}

impl<'a> Pass<'a> for Scribble {
    type Error = WireError;

    fn level(&self) -> Level {
        Level::Event
    }

    fn prunes(&self) -> bool {
        self.drops
    }

    fn resource(&mut self, resource: &mut Record<'a>) -> Result<Verdict, WireError> {
        self.scribble(resource)
    }

    fn scope(&mut self, _: &Record<'a>, scope: &mut Record<'a>) -> Result<Verdict, WireError> {
        self.scribble(scope)
    }

    fn item(&mut self, _: &Above<'_, 'a>, item: &mut Record<'a>) -> Result<Verdict, WireError> {
        self.scribble(item)
    }

    fn event(&mut self, _: &Above<'_, 'a>, event: &mut Record<'a>) -> Result<Verdict, WireError> {
        self.scribble(event)
    }
}
