//! Edits, splits, merges and drops of random wire bytes, held against a full decode.

mod generate;
mod model;

use collector_otlp::pass::{self, Above, Level, Pass, Verdict};
use collector_otlp::together::Together;
use collector_otlp::{AnyValue, Record, Request, Signal, WireError};

use generate::Generator;
use model::{Item, Node};

/// How many requests of each signal are made.
const ROUNDS: u64 = 150;

fn each(mut check: impl FnMut(&Request, &Node)) {
    for signal in Signal::ALL {
        for seed in 0..ROUNDS {
            let mut generator = Generator::of(seed);
            let bytes = generator.request(signal);
            let request = Request::parse(signal, bytes.clone().into())
                .unwrap_or_else(|error| panic!("seed {seed} of {signal:?}: {error}"));
            assert_eq!(request.bytes(), &bytes);
            assert_eq!(
                request.items(),
                generator.items,
                "seed {seed} of {signal:?}"
            );
            check(&request, &Node::decode(&bytes, signal.request()));
        }
    }
}

fn decoded(request: &Request) -> Node {
    let again = Request::parse(request.signal(), request.bytes().clone()).expect("sound");
    assert_eq!(again.items(), request.items());
    Node::decode(request.bytes(), request.signal().request())
}

/// Fails with the first lines that differ, since the whole trees are too long to read.
fn assert_same<T: std::fmt::Debug + PartialEq>(found: &T, expected: &T) {
    if found != expected {
        let (found, expected) = (format!("{found:#?}"), format!("{expected:#?}"));
        let differs = found
            .lines()
            .zip(expected.lines())
            .position(|(a, b)| a != b);
        let at = differs.unwrap_or(0).saturating_sub(20);
        let part = |text: &str| {
            text.lines()
                .skip(at)
                .take(40)
                .collect::<Vec<_>>()
                .join("\n")
        };
        panic!("found\n{}\nexpected\n{}", part(&found), part(&expected));
    }
}

/// Edits every resource, scope, item and event.
struct Edit;

impl Edit {
    fn edit(record: &mut Record<'_>) -> Result<Verdict, WireError> {
        record.remove_key(b"a");
        if let Some(from) = record.find(b"b") {
            record.copy_value(record.find(b"c"), b"c", from);
        }
        record.upsert(b"d", |out| AnyValue::String(&[b'x'; 130]).write(out));
        if let Some(place) = record.find(b"key") {
            record.rename(place, b"renamed");
        }
        Ok(Verdict::Keep)
    }
}

impl<'a> Pass<'a> for Edit {
    type Error = WireError;

    fn level(&self) -> Level {
        Level::Event
    }

    fn resource(&mut self, resource: &mut Record<'a>) -> Result<Verdict, WireError> {
        Self::edit(resource)
    }

    fn scope(&mut self, _: &Record<'a>, scope: &mut Record<'a>) -> Result<Verdict, WireError> {
        Self::edit(scope)
    }

    fn item(&mut self, _: &Above<'_, 'a>, item: &mut Record<'a>) -> Result<Verdict, WireError> {
        Self::edit(item)
    }

    fn event(&mut self, _: &Above<'_, 'a>, event: &mut Record<'a>) -> Result<Verdict, WireError> {
        Self::edit(event)
    }
}

#[test]
fn an_edit_is_a_decode_an_edit_and_an_encode() {
    each(|request, before| {
        let edited = request
            .clone()
            .apply(|signal, source| pass::run(&mut Edit, signal, source))
            .unwrap();
        let mut expected = before.clone();
        expected.edit_request(&|node| {
            node.remove_attribute(b"a");
            if let Some(value) = node.attribute(b"b") {
                node.set_attribute(b"c", value);
            }
            node.set_attribute(b"d", Node::string(&[b'x'; 130]));
            node.rename_attribute(b"key", b"renamed");
        });
        assert_same(&decoded(&edited), &expected);
    });
}

#[test]
fn a_walk_that_changes_nothing_copies_nothing() {
    struct Look;
    impl<'a> Pass<'a> for Look {
        type Error = WireError;

        fn level(&self) -> Level {
            Level::Event
        }
    }
    each(|request, _| {
        let after = request
            .clone()
            .apply(|signal, source| pass::run(&mut Look, signal, source))
            .unwrap();
        assert_eq!(after.bytes().as_ptr(), request.bytes().as_ptr());
    });
}

/// Drops items that have the attribute `a`.
struct Without;

impl<'a> Pass<'a> for Without {
    type Error = WireError;

    fn level(&self) -> Level {
        Level::Item
    }

    fn prunes(&self) -> bool {
        true
    }

    fn touches(&self) -> Level {
        Level::Item
    }

    fn item(&mut self, _: &Above<'_, 'a>, item: &mut Record<'a>) -> Result<Verdict, WireError> {
        Ok(match item.find(b"a") {
            Some(_) => Verdict::Drop,
            None => Verdict::Keep,
        })
    }
}

/// Removes every other attribute of items than this one.
struct Keep(&'static [u8]);

impl<'a> Pass<'a> for Keep {
    type Error = WireError;

    fn level(&self) -> Level {
        Level::Item
    }

    fn touches(&self) -> Level {
        Level::Item
    }

    fn item(&mut self, _: &Above<'_, 'a>, item: &mut Record<'a>) -> Result<Verdict, WireError> {
        for place in 0..item.places() {
            let Some((place, key)) = item.nth(place) else {
                continue;
            };
            if key != self.0 {
                item.remove(place);
            }
        }
        Ok(Verdict::Keep)
    }
}

#[test]
fn what_is_dropped_is_gone_and_the_rest_is_as_it_was() {
    each(|request, before| {
        let left = request
            .clone()
            .apply(|signal, source| pass::run(&mut Without, signal, source))
            .unwrap();
        let mut expected = before.items();
        expected.retain(|item| item.node.attribute(b"a").is_none());
        assert_same(&decoded(&left).items(), &expected);
        assert_eq!(left.items(), expected.len());
    });
}

#[test]
fn passes_together_do_what_they_do_in_turn() {
    each(|request, _| {
        let in_turn = request
            .clone()
            .apply(|signal, source| pass::run(&mut Edit, signal, source))
            .unwrap()
            .apply(|signal, source| pass::run(&mut Keep(b"d"), signal, source))
            .unwrap()
            .apply(|signal, source| pass::run(&mut Keep(b"c"), signal, source))
            .unwrap();
        let together = request
            .clone()
            .apply(|signal, source| {
                let mut together = Together::default();
                together.push(Box::new(Edit));
                together.push(Box::new(Keep(b"d")));
                together.push(Box::new(Keep(b"c")));
                pass::run(&mut together, signal, source)
            })
            .unwrap();
        assert_same(&decoded(&together), &decoded(&in_turn));
        assert_eq!(together.items(), in_turn.items());
    });
}

#[test]
fn a_pass_joins_only_those_that_cannot_tell() {
    let mut together = Together::default();
    assert!(together.admits(&Edit));
    together.push(Box::new(Keep(b"a")));
    // It would edit resources before the first has looked at the items in them.
    assert!(!together.admits(&Edit));
    assert!(together.admits(&Keep(b"b")));
    assert!(together.admits(&Without));
    together.push(Box::new(Without));
    // It would see what is gone.
    assert!(!together.admits(&Keep(b"b")));
}

#[test]
fn pieces_hold_the_same_items_under_the_same_heads() {
    each(|request, before| {
        for most in [1, 2, 5] {
            let pieces = request.clone().split(most).unwrap();
            assert!(
                pieces
                    .iter()
                    .all(|piece| piece.items() <= most || most == 0)
            );
            let items: Vec<Item> = pieces
                .iter()
                .flat_map(|piece| decoded(piece).items())
                .collect();
            assert_same(&items, &before.items());
        }
        let joined = Request::merge(&[request.clone(), request.clone()]).unwrap();
        let twice = [before.items(), before.items()].concat();
        assert_same(&decoded(&joined).items(), &twice);
    });
}
