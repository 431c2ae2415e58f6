//! What a plan says about one resource.
//!
//! Goes in: desired state and facts. Comes out: a [`Change`] with what a person sees of it and
//! the operations that carry it out. Invariant: nothing is carried out that is not in the change.

use std::sync::Arc;

use provision_protocol::operation::{Guard, Validation, operation};
use serde::Serialize;
use similar::TextDiff;

use super::content::Content;

/// How many unchanged lines are shown around a changed one.
const DIFF_CONTEXT_LINES: usize = 3;

/// One change of one resource.
#[derive(Clone, Debug, Serialize)]
pub struct Change {
    /// What is done, in one word.
    pub action: Action,
    /// What is different, for a person.
    pub details: Vec<Detail>,
    /// Its result is not known before it is done: what follows is observed again first.
    pub opaque: bool,
    /// It cannot be taken back.
    pub irreversible: bool,
    /// What a helper does, in order.
    #[serde(skip)]
    pub steps: Vec<Step>,
    /// Contents that must be on the host before.
    #[serde(skip)]
    pub contents: Vec<Arc<Content>>,
    /// What must accept the new files.
    #[serde(skip)]
    pub validations: Vec<Validation>,
    /// The paths whose contents change.
    #[serde(skip)]
    pub changed_paths: Vec<String>,
    /// Where to correct what a validator rejects: the template, and the place that names it.
    #[serde(skip)]
    pub origin: Option<String>,
}

/// One operation with what it relies on.
#[derive(Clone, Debug)]
pub struct Step {
    /// What is done.
    pub operation: operation::Kind,
    /// What must still be so.
    pub guards: Vec<Guard>,
}

/// What is done to a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// It is made.
    Create,
    /// It is given other contents or properties.
    Update,
    /// A package is installed.
    Install,
    /// A unit is started.
    Start,
    /// A unit is stopped and started.
    Restart,
    /// A unit reads its configuration again.
    Reload,
    /// A unit is stopped.
    Stop,
    /// A blank device gets a file system.
    Format,
    /// A file system is mounted.
    Mount,
    /// A program is run.
    Run,
    /// It is taken away.
    Remove,
}

impl Action {
    /// The sign that stands before it in a plan.
    #[must_use]
    pub const fn sign(self) -> &'static str {
        match self {
            Self::Create | Self::Install | Self::Format => "+",
            Self::Remove => "-",
            Self::Update
            | Self::Start
            | Self::Restart
            | Self::Reload
            | Self::Stop
            | Self::Mount
            | Self::Run => "~",
        }
    }

    /// The word that stands in a plan.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Install => "install",
            Self::Start => "start",
            Self::Restart => "restart",
            Self::Reload => "reload",
            Self::Stop => "stop",
            Self::Format => "format",
            Self::Mount => "mount",
            Self::Run => "run",
            Self::Remove => "remove",
        }
    }
}

/// What is different.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Detail {
    /// A property.
    Field {
        /// Its name.
        name: String,
        /// Its value now; absent where there is none.
        from: Option<String>,
        /// Its value afterwards.
        to: String,
    },
    /// Lines of a text, as a unified diff.
    Text(String),
    /// Words.
    Note(String),
}

impl Detail {
    /// A property that is set for the first time.
    pub fn set(name: &str, to: impl Into<String>) -> Self {
        Self::Field {
            name: name.to_owned(),
            from: None,
            to: to.into(),
        }
    }

    /// A property that changes.
    pub fn changed(name: &str, from: impl Into<String>, to: impl Into<String>) -> Self {
        Self::Field {
            name: name.to_owned(),
            from: Some(from.into()),
            to: to.into(),
        }
    }
}

/// Why something must not be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// What is wrong, without a period.
    pub message: String,
    /// The way out.
    pub hint: Option<String>,
    /// No change of the same plan can lift it, so that it counts before any is made.
    #[serde(skip)]
    pub lasting: bool,
}

impl Refusal {
    /// A refusal without a way out of its own.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
            lasting: false,
        }
    }

    /// The same, when no change of the same plan can lift it.
    #[must_use]
    pub const fn lasting(mut self) -> Self {
        self.lasting = true;
        self
    }

    /// The same with a way out.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl Change {
    /// A change that does nothing yet.
    #[must_use]
    pub const fn new(action: Action) -> Self {
        Self {
            action,
            details: Vec::new(),
            opaque: false,
            irreversible: false,
            steps: Vec::new(),
            contents: Vec::new(),
            validations: Vec::new(),
            changed_paths: Vec::new(),
            origin: None,
        }
    }

    /// Adds an operation that relies on nothing.
    pub fn step(&mut self, operation: operation::Kind) {
        self.steps.push(Step {
            operation,
            guards: Vec::new(),
        });
    }
}

/// The lines that differ between two texts, with a few around them.
#[must_use]
pub fn text_diff(old: &str, new: &str) -> String {
    TextDiff::from_lines(old, new)
        .unified_diff()
        .context_radius(DIFF_CONTEXT_LINES)
        .missing_newline_hint(false)
        .to_string()
}
