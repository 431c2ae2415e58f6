//! Processors that walk through a batch, and those of neighbours as one walk.
//!
//! In: the stages of a pipeline, in order. Out: its [`Processor`]s.
//! Invariant: processors that share a walk do what they would do one after another.

use collector_otlp::pass::{self, Pass};
use collector_otlp::together::Together;
use collector_otlp::{Request, Signal};

use crate::component::{Failure, Processor, Stage};
use crate::pipeline::Batching;

/// A pass whose failures refuse the batch.
pub type BatchPass<'a> = Box<dyn Pass<'a, Error = Failure> + 'a>;

/// What does nothing but walk through batches.
pub trait Walker: Send + Sync {
    /// What it does in one walk through a batch of this signal.
    fn pass<'a>(&'a self, signal: Signal) -> BatchPass<'a>;
}

/// A pipeline's processors in the making.
pub struct Chain {
    signal: Signal,
    processors: Vec<Box<dyn Processor>>,
    /// The walkers at the end, which share a walk.
    walkers: Vec<Box<dyn Walker>>,
    batching: Option<Box<Batching>>,
}

impl Chain {
    /// The beginning of a pipeline.
    pub fn of(signal: Signal) -> Self {
        Self {
            signal,
            processors: Vec::new(),
            walkers: Vec::new(),
            batching: None,
        }
    }

    /// Adds a stage; of several rules for joining requests the last one counts.
    pub fn push(&mut self, stage: Stage) {
        match stage {
            Stage::Function(processor) => {
                self.close();
                self.processors.push(processor);
            }
            Stage::Walks(walkers) => walkers.into_iter().for_each(|w| self.walk(w)),
            Stage::Batching(rule) => self.batching = Some(rule),
        }
    }

    /// The processors, and the rule for joining requests.
    pub fn finish(mut self) -> (Vec<Box<dyn Processor>>, Option<Box<Batching>>) {
        self.close();
        (self.processors, self.batching)
    }

    /// Adds a walker, to the walk of those before it if that makes no difference.
    fn walk(&mut self, walker: Box<dyn Walker>) {
        if !joins(&self.walkers, walker.as_ref(), self.signal) {
            self.close();
        }
        self.walkers.push(walker);
    }

    fn close(&mut self) {
        let walkers = std::mem::take(&mut self.walkers);
        if !walkers.is_empty() {
            self.processors.push(Box::new(Walk { walkers }));
        }
    }
}

struct Walk {
    walkers: Vec<Box<dyn Walker>>,
}

impl Processor for Walk {
    fn process(&self, batch: Request) -> Result<Request, Failure> {
        batch
            .apply(|signal, source| pass::run(&mut together(&self.walkers, signal), signal, source))
    }
}

/// Whether a walker may share the walk of those before it.
fn joins(walkers: &[Box<dyn Walker>], next: &dyn Walker, signal: Signal) -> bool {
    let before = together(walkers, signal);
    let next = next.pass(signal);
    before.admits(next.as_ref())
}

fn together(walkers: &[Box<dyn Walker>], signal: Signal) -> Together<'_, Failure> {
    let mut together = Together::default();
    for walker in walkers {
        together.push(walker.pass(signal));
    }
    together
}

/// Takes a request through one stage.
#[cfg(test)]
pub(crate) fn process(stage: Stage, request: Request) -> Result<Request, Failure> {
    let mut chain = Chain::of(request.signal());
    chain.push(stage);
    let (processors, _) = chain.finish();
    let mut through = processors.iter();
    through.try_fold(request, |request, processor| processor.process(request))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::authentication::Authenticators;
    use crate::budget::Budget;
    use crate::component::{ComponentId, Context, PROCESSORS};
    use crate::config::Section;
    use crate::config::diagnostic::{Diagnostics, Position};
    use crate::config::yaml;
    use crate::telemetry::Registry;

    const RESOURCE: (&str, &str) = (
        "resource",
        "attributes: [{key: zone, value: b, action: upsert}]",
    );
    const ATTRIBUTES: (&str, &str) = (
        "attributes",
        "actions: [{key: user, action: delete}, {key: zone, value: c, action: upsert}]",
    );
    const CHOSEN: (&str, &str) = (
        "attributes",
        "{include: {match_type: strict, resources: [{key: zone, value: a}]}, \
         actions: [{key: chosen, value: true, action: insert}]}",
    );
    const FILTER: (&str, &str) = (
        "filter",
        r#"traces: {span: ['attributes["zone"] == "d"', 'name == "ping"']}"#,
    );
    const TRANSFORM: (&str, &str) = (
        "transform",
        r#"trace_statements: [{context: resource, statements: ['set(attributes["zone"], "d")']}, {context: span, statements: ['set(name, "ping") where attributes["user"] == "u"']}]"#,
    );

    const SPANS: &str = r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"zone","value":{"stringValue":"a"}}]},"scopeSpans":[{"spans":[
        {"name":"x","attributes":[{"key":"user","value":{"stringValue":"u"}}]},
        {"name":"ping"}]}]},
        {"scopeSpans":[{"spans":[{"name":"y"}]}]}]}"#;

    fn stage((kind, text): (&str, &str)) -> Stage {
        let diagnostics = Diagnostics::default();
        let node = yaml::parse(text, &diagnostics).unwrap();
        let section = Section::of(&node, Position::default(), &diagnostics);
        let row = PROCESSORS.iter().find(|row| row.name == kind).unwrap();
        let config = (row.configure)(&section);
        drop(section);
        assert!(diagnostics.is_empty(), "{diagnostics:?}");
        let context = Context {
            id: ComponentId::parse(kind).unwrap(),
            registry: Arc::new(Registry::default()),
            budget: Arc::new(Budget::of(1 << 20)),
            authenticators: Authenticators::default(),
        };
        match config.build(&context, Signal::Traces) {
            Ok(stage) => stage,
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn neighbours_share_a_walk_where_it_makes_no_difference() {
        let cases: [(&[(&str, &str)], usize); 7] = [
            (&[RESOURCE, ATTRIBUTES, FILTER], 1),
            (&[ATTRIBUTES, RESOURCE, FILTER], 1),
            (&[CHOSEN, RESOURCE], 2),
            (&[RESOURCE, CHOSEN], 1),
            (&[FILTER, ATTRIBUTES], 2),
            (&[TRANSFORM, FILTER], 1),
            (&[FILTER, TRANSFORM, CHOSEN], 2),
        ];
        for (stages, walks) in cases {
            let request = Request::parse_json(Signal::Traces, SPANS.as_bytes()).unwrap();
            let mut chain = Chain::of(Signal::Traces);
            stages.iter().for_each(|named| chain.push(stage(*named)));
            let (processors, _) = chain.finish();
            assert_eq!(processors.len(), walks, "{stages:?}");
            let mut through = processors.iter();
            let together = through.try_fold(request.clone(), |r, p| p.process(r));
            let mut one_by_one = stages.iter();
            let in_turn = one_by_one.try_fold(request, |r, named| process(stage(*named), r));
            assert_eq!(together.unwrap(), in_turn.unwrap(), "{stages:?}");
        }
    }
}
