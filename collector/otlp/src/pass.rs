//! One walk through a request that reads, edits and drops what it meets.
//!
//! In: a request in its [`normal_form`] and a [`Pass`]. Out: the changed bytes and how many items
//! were dropped. Invariant: what the pass leaves alone is copied byte for byte, and a request
//! that it leaves alone altogether is not copied at all.

use std::borrow::Cow;

use crate::error::{WireError, WireFault};
use crate::parts::{Part, Parts, Tag};
use crate::record::Record;
use crate::rewrite::Rewriter;
use crate::schema::{self, Message, Signal};
use crate::validate::{count, item_path};
use crate::wire;

/// How far down a pass wants to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The resources alone.
    Resource,
    /// Scopes too.
    Scope,
    /// Metrics too; for traces and logs the same as [`Level::Scope`].
    Metric,
    /// Spans, log records and data points too.
    Item,
    /// Span events too.
    Event,
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It stays, with what was edited.
    Keep,
    /// It goes, with everything in it.
    Drop,
}

/// What a message stands in.
#[derive(Clone, Copy, Debug)]
pub struct Above<'r, 'a> {
    /// The resource.
    pub resource: &'r Record<'a>,
    /// The instrumentation scope.
    pub scope: &'r Record<'a>,
    /// The metric, for data points.
    pub metric: Option<&'r Record<'a>>,
    /// The number of the metric's field that the data point stands in: 5 for a gauge, 7 for a
    /// sum, 9, 10 and 11 for histograms, exponential histograms and summaries.
    pub data: u32,
    /// The span, for span events.
    pub span: Option<&'r Record<'a>>,
}

/// What to do with each message of a request.
pub trait Pass<'a> {
    /// What stops the walk.
    type Error: From<WireError>;

    /// How far down the walk goes.
    fn level(&self) -> Level;

    /// Whether it drops anything: metrics, scopes and resources without any items go then too.
    fn prunes(&self) -> bool {
        false
    }

    /// The highest level at which anything is edited or dropped.
    fn touches(&self) -> Level {
        Level::Resource
    }

    /// Whether what becomes of a message can depend on what it stands in.
    fn looks_up(&self) -> bool {
        true
    }

    /// Called at the end of the walk, with the number of items that are gone.
    fn done(&mut self, _dropped: usize) {}

    /// Called for each resource, also an empty one.
    fn resource(&mut self, _: &mut Record<'a>) -> Result<Verdict, Self::Error> {
        Ok(Verdict::Keep)
    }

    /// Called for each scope, also an empty one.
    fn scope(
        &mut self,
        _resource: &Record<'a>,
        _scope: &mut Record<'a>,
    ) -> Result<Verdict, Self::Error> {
        Ok(Verdict::Keep)
    }

    /// Called for each metric.
    fn metric(
        &mut self,
        _above: &Above<'_, 'a>,
        _metric: &mut Record<'a>,
    ) -> Result<Verdict, Self::Error> {
        Ok(Verdict::Keep)
    }

    /// Called for each span, log record or data point.
    fn item(
        &mut self,
        _above: &Above<'_, 'a>,
        _item: &mut Record<'a>,
    ) -> Result<Verdict, Self::Error> {
        Ok(Verdict::Keep)
    }

    /// Called for each event of a span that stays.
    fn event(
        &mut self,
        _above: &Above<'_, 'a>,
        _event: &mut Record<'a>,
    ) -> Result<Verdict, Self::Error> {
        Ok(Verdict::Keep)
    }
}

/// What a walk came to.
#[derive(Debug)]
pub struct Outcome {
    /// The changed request; `None` when nothing was changed.
    pub(crate) bytes: Option<Vec<u8>>,
    /// How many items are gone.
    pub(crate) dropped: usize,
}

/// The request with each resource and scope once, in front of what belongs to it.
///
/// Writers do so anyway, and then nothing is copied.
pub fn normal_form(bytes: &[u8], signal: Signal) -> Result<Cow<'_, [u8]>, WireError> {
    if u32::try_from(bytes.len()).is_err() {
        return Err(WireError::new(0, WireFault::TooLong));
    }
    match is_normal(bytes)? {
        true => Ok(Cow::Borrowed(bytes)),
        false => {
            let mut out = Vec::with_capacity(bytes.len() + 16);
            normalise(bytes, signal.request(), 0, &mut out)?;
            Ok(Cow::Owned(out))
        }
    }
}

/// How many messages stand above the scopes' contents: the entry, and the scope's entry.
pub(crate) const HEADED_LEVELS: usize = 2;

fn is_normal(bytes: &[u8]) -> Result<bool, WireError> {
    let mut entries = Parts::of(bytes, 0, bytes.len() as u32);
    while let Some(entry) = entries.next_part()? {
        if entry.tag != Tag::bytes(1) {
            continue;
        }
        let mut children = Parts::of(bytes, entry.value, entry.end);
        while let Some(child) = children.next_part()? {
            match child.tag {
                tag if tag == Tag::bytes(1) && child.start != entry.value => return Ok(false),
                tag if tag == Tag::bytes(2) => {
                    let mut below = Parts::of(bytes, child.value, child.end);
                    while let Some(part) = below.next_part()? {
                        if part.tag.number() == 1 && part.start != child.value {
                            return Ok(false);
                        }
                    }
                }
                _ => {}
            }
        }
    }
    Ok(true)
}

fn normalise(
    bytes: &[u8],
    message: &'static Message,
    level: usize,
    out: &mut Vec<u8>,
) -> Result<(), WireError> {
    let mut head = Vec::new();
    let mut has_head = false;
    let mut rest = Vec::with_capacity(bytes.len());
    for read in wire::Fields::of(bytes) {
        let read = read?;
        match (read.number, read.value) {
            (1, wire::Value::Bytes(body)) if level > 0 => {
                head.extend_from_slice(body);
                has_head = true;
            }
            (number, wire::Value::Bytes(body)) if level < HEADED_LEVELS => {
                match item_path(message, number) {
                    Some(inner) => {
                        let mut child = Vec::with_capacity(body.len());
                        normalise(body, inner, level + 1, &mut child)?;
                        wire::write_bytes(&mut rest, number, &child);
                    }
                    None => rest.extend_from_slice(read.raw),
                }
            }
            _ => rest.extend_from_slice(read.raw),
        }
    }
    if has_head {
        wire::write_bytes(out, 1, &head);
    }
    out.extend_from_slice(&rest);
    Ok(())
}

/// Walks through a request in its [`normal_form`].
pub fn run<'a, P: Pass<'a>>(
    pass: &mut P,
    signal: Signal,
    source: &'a [u8],
) -> Result<Outcome, P::Error> {
    let mut walk = Walk {
        source,
        rewriter: Rewriter::of(source),
        resource: Record::of(source),
        scope: Record::of(source),
        metric: Record::of(source),
        item: Record::of(source),
        event: Record::of(source),
        tables: Tables::of(signal),
        level: pass.level(),
        prunes: pass.prunes(),
        dropped: 0,
    };
    let mut entries = Parts::of(source, 0, source.len() as u32);
    while let Some(part) = entries.next_part()? {
        if part.tag == Tag::bytes(1) {
            walk.entry(pass, part)?;
        }
    }
    pass.done(walk.dropped);
    Ok(Outcome {
        bytes: walk.rewriter.finish(),
        dropped: walk.dropped,
    })
}

/// The messages of one signal.
struct Tables {
    entry: &'static Message,
    scope_entry: &'static Message,
    /// A span, log record or metric.
    child: &'static Message,
}

impl Tables {
    fn of(signal: Signal) -> Self {
        let below =
            |message: &'static Message, number| item_path(message, number).unwrap_or(message);
        let entry = below(signal.request(), 1);
        let scope_entry = below(entry, 2);
        Self {
            entry,
            scope_entry,
            child: below(scope_entry, 2),
        }
    }
}

struct Walk<'a> {
    source: &'a [u8],
    rewriter: Rewriter<'a>,
    resource: Record<'a>,
    scope: Record<'a>,
    metric: Record<'a>,
    item: Record<'a>,
    event: Record<'a>,
    tables: Tables,
    level: Level,
    prunes: bool,
    dropped: usize,
}

impl<'a> Walk<'a> {
    fn entry<P: Pass<'a>>(&mut self, pass: &mut P, entry: Part) -> Result<(), P::Error> {
        let head = load_head(self.source, &mut self.resource, &schema::RESOURCE, entry)?;
        self.rewriter.enter(entry);
        if pass.resource(&mut self.resource)? == Verdict::Drop {
            self.dropped += self.items_in(entry, self.tables.entry)?;
            self.rewriter.abandon();
            return Ok(());
        }
        write_head(&mut self.rewriter, &self.resource, head, entry);
        let mut left = 0;
        if self.level > Level::Resource || self.prunes {
            let mut children = Parts::of(self.source, entry.value, entry.end);
            while let Some(child) = children.next_part()? {
                if child.tag == Tag::bytes(2) {
                    left += usize::from(
                        self.level == Level::Resource || self.scope_entry(pass, child)?,
                    );
                }
            }
        }
        match self.prunes && left == 0 {
            true => self.rewriter.abandon(),
            false => self.rewriter.leave(),
        }
        Ok(())
    }

    /// Walks through the messages of one scope; `false` when it is gone.
    fn scope_entry<P: Pass<'a>>(&mut self, pass: &mut P, entry: Part) -> Result<bool, P::Error> {
        let head = load_head(self.source, &mut self.scope, &schema::SCOPE, entry)?;
        self.rewriter.enter(entry);
        if pass.scope(&self.resource, &mut self.scope)? == Verdict::Drop {
            self.dropped += self.items_in(entry, self.tables.scope_entry)?;
            self.rewriter.abandon();
            return Ok(false);
        }
        write_head(&mut self.rewriter, &self.scope, head, entry);
        let mut left = 0;
        if self.level > Level::Scope || self.prunes {
            let mut children = Parts::of(self.source, entry.value, entry.end);
            while let Some(child) = children.next_part()? {
                if child.tag == Tag::bytes(2) {
                    left += usize::from(match (self.level, self.tables.child.item) {
                        (Level::Resource | Level::Scope, _) => true,
                        (Level::Metric, true) => true,
                        (_, true) => self.item(pass, child)?,
                        (_, false) => self.metric(pass, child)?,
                    });
                }
            }
        }
        let keep = !self.prunes || left > 0;
        match keep {
            true => self.rewriter.leave(),
            false => self.rewriter.abandon(),
        }
        Ok(keep)
    }

    /// Shows one span or log record to the pass; `false` when it is gone.
    fn item<P: Pass<'a>>(&mut self, pass: &mut P, part: Part) -> Result<bool, P::Error> {
        self.item.load(self.tables.child, part.value, part.end)?;
        let above = Above {
            resource: &self.resource,
            scope: &self.scope,
            metric: None,
            data: 0,
            span: None,
        };
        if pass.item(&above, &mut self.item)? == Verdict::Drop {
            self.dropped += 1;
            self.rewriter.remove(part.start, part.end);
            return Ok(false);
        }
        if self.level == Level::Event {
            self.rewriter.enter(part);
            for index in 0..self.item.places() as usize {
                match self.item.kept(index) {
                    Some((event, true)) if event.tag == EVENTS => {
                        self.event(pass, event)?;
                    }
                    _ => self.item.flush_slot(index, &mut self.rewriter),
                }
            }
            self.rewriter.leave();
        } else if self.item.is_changed() {
            self.rewriter.enter(part);
            self.item.flush(&mut self.rewriter);
            self.rewriter.leave();
        }
        Ok(true)
    }

    fn event<P: Pass<'a>>(&mut self, pass: &mut P, part: Part) -> Result<(), P::Error> {
        self.event.load(&schema::EVENT, part.value, part.end)?;
        let above = Above {
            resource: &self.resource,
            scope: &self.scope,
            metric: None,
            data: 0,
            span: Some(&self.item),
        };
        if pass.event(&above, &mut self.event)? == Verdict::Drop {
            self.rewriter.remove(part.start, part.end);
        } else if self.event.is_changed() {
            self.rewriter.enter(part);
            self.event.flush(&mut self.rewriter);
            self.rewriter.leave();
        }
        Ok(())
    }

    /// Walks through one metric; `false` when it is gone.
    fn metric<P: Pass<'a>>(&mut self, pass: &mut P, part: Part) -> Result<bool, P::Error> {
        self.metric.load(self.tables.child, part.value, part.end)?;
        let above = Above {
            resource: &self.resource,
            scope: &self.scope,
            metric: None,
            data: 0,
            span: None,
        };
        if pass.metric(&above, &mut self.metric)? == Verdict::Drop {
            self.dropped += self.items_in(part, self.tables.child)?;
            self.rewriter.remove(part.start, part.end);
            return Ok(false);
        }
        self.rewriter.enter(part);
        let (mut has_data, mut left) = (false, 0);
        for index in 0..self.metric.places() as usize {
            let data = match self.metric.kept(index) {
                Some((data, true)) if data.tag.wire_type() == 2 && self.level >= Level::Item => {
                    item_path(self.tables.child, data.tag.number()).map(|table| (data, table))
                }
                _ => None,
            };
            match data {
                Some((data, table)) => {
                    has_data = true;
                    left += self.points(pass, data, table)?;
                }
                None => self.metric.flush_slot(index, &mut self.rewriter),
            }
        }
        let keep = !self.prunes || !has_data || left > 0;
        match keep {
            true => self.rewriter.leave(),
            false => self.rewriter.abandon(),
        }
        Ok(keep)
    }

    /// Shows the data points of one metric to the pass, and says how many stay.
    fn points<P: Pass<'a>>(
        &mut self,
        pass: &mut P,
        data: Part,
        table: &'static Message,
    ) -> Result<usize, P::Error> {
        let mut left = 0;
        self.rewriter.enter(data);
        let mut points = Parts::of(self.source, data.value, data.end);
        while let Some(part) = points.next_part()? {
            let Some(point) =
                item_path(table, part.tag.number()).filter(|_| part.tag.wire_type() == 2)
            else {
                continue;
            };
            self.item.load(point, part.value, part.end)?;
            let above = Above {
                resource: &self.resource,
                scope: &self.scope,
                metric: Some(&self.metric),
                data: data.tag.number(),
                span: None,
            };
            if pass.item(&above, &mut self.item)? == Verdict::Drop {
                self.dropped += 1;
                self.rewriter.remove(part.start, part.end);
                continue;
            }
            left += 1;
            if self.item.is_changed() {
                self.rewriter.enter(part);
                self.item.flush(&mut self.rewriter);
                self.rewriter.leave();
            }
        }
        self.rewriter.leave();
        Ok(left)
    }

    fn items_in(&self, part: Part, message: &'static Message) -> Result<usize, WireError> {
        count(
            &self.source[part.value as usize..part.end as usize],
            message,
        )
    }
}

/// The field of a span that holds an event.
const EVENTS: Tag = Tag::bytes(11);

/// Indexes the resource or scope at the front of an entry; `None` when there is none.
fn load_head<'a>(
    source: &'a [u8],
    record: &mut Record<'a>,
    message: &'static Message,
    entry: Part,
) -> Result<Option<Part>, WireError> {
    let first = Parts::of(source, entry.value, entry.end).next_part()?;
    let head = first.filter(|part| part.tag == Tag::bytes(1));
    let (start, end) = head.map_or((entry.value, entry.value), |part| (part.value, part.end));
    record.load(message, start, end)?;
    Ok(head)
}

fn write_head<'a>(
    rewriter: &mut Rewriter<'a>,
    record: &Record<'a>,
    head: Option<Part>,
    entry: Part,
) {
    match head {
        _ if !record.is_changed() => {}
        Some(head) => {
            rewriter.enter(head);
            record.flush(rewriter);
            rewriter.leave();
        }
        None => {
            let mut body = Vec::new();
            record.write(&mut body);
            wire::write_bytes(rewriter.replace(entry.value, entry.value), 1, &body);
        }
    }
}
