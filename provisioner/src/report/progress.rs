//! Progress while hosts are worked on.
//!
//! Goes in: [`Event`]s. Comes out: a bar per host on a terminal, plain lines elsewhere, nothing
//! where JSON was asked for. Invariant: it ends before a result is printed.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinHandle;

use super::event::{Event, Events};
use super::{DIM, GREEN, OutputFormat, RED, styled};
use crate::cli::OutputArgs;
use crate::secret::Redactor;

/// How often a bar turns.
const TICK: Duration = Duration::from_millis(120);

/// The most bars on a screen; further hosts only get lines.
const BARS_LIMIT: usize = 40;

/// Shows events until all senders are gone.
#[derive(Debug)]
pub struct Progress {
    task: JoinHandle<()>,
}

impl Progress {
    /// Begins to show events, and the channel that takes them.
    #[must_use]
    pub(crate) fn start(output: &OutputArgs, redactor: &Redactor) -> (Self, Events) {
        let (sender, receiver) = unbounded_channel();
        let screen = if output.output == OutputFormat::Json {
            Screen::Silent
        } else if std::io::stderr().is_terminal() {
            Screen::Bars {
                multi: MultiProgress::new(),
                bars: BTreeMap::new(),
            }
        } else {
            Screen::Lines {
                verbose: output.verbose,
            }
        };
        let task = tokio::spawn(show(screen, receiver, redactor.clone()));
        (Self { task }, sender)
    }

    /// Takes bars off the screen, so that something else can be printed.
    pub async fn clear(events: &Events) {
        let (sender, mut receiver) = unbounded_channel();
        if events.send(Event::Clear(sender)).is_ok() {
            let _ = receiver.recv().await;
        }
    }

    /// Waits until every event was shown; all senders must be gone.
    pub async fn finish(self) {
        let _ = self.task.await;
    }
}

enum Screen {
    Silent,
    Lines {
        verbose: bool,
    },
    Bars {
        multi: MultiProgress,
        bars: BTreeMap<String, ProgressBar>,
    },
}

async fn show(mut screen: Screen, mut receiver: UnboundedReceiver<Event>, redactor: Redactor) {
    while let Some(event) = receiver.recv().await {
        screen.show(event, &redactor);
    }
    if let Screen::Bars { multi, .. } = screen {
        let _ = multi.clear();
    }
}

impl Screen {
    fn show(&mut self, event: Event, redactor: &Redactor) {
        if let Event::Clear(done) = &event {
            if let Self::Bars { bars, .. } = self {
                std::mem::take(bars)
                    .values()
                    .for_each(ProgressBar::finish_and_clear);
            }
            let _ = done.send(());
            return;
        }
        match self {
            Self::Silent => {}
            Self::Lines { verbose } => {
                if let Some(line) = plain_line(&event, *verbose) {
                    let mut stderr = anstream::stderr().lock();
                    let _ = writeln!(stderr, "{}", redactor.redact(&line));
                }
            }
            Self::Bars { multi, bars } => {
                if let Event::Working { host, doing } = &event {
                    if let Some(bar) = bar(multi, bars, host) {
                        bar.set_message(redactor.redact(doing));
                    }
                    return;
                }
                if let Event::Finished { host, .. } = &event
                    && let Some(bar) = bars.remove(host)
                {
                    bar.finish_and_clear();
                }
                if let Some(line) = plain_line(&event, false) {
                    let line = redactor.redact(&line);
                    multi.suspend(|| {
                        let mut stderr = anstream::stderr().lock();
                        let _ = writeln!(stderr, "{line}");
                    });
                }
            }
        }
    }
}

fn bar<'a>(
    multi: &MultiProgress,
    bars: &'a mut BTreeMap<String, ProgressBar>,
    host: &str,
) -> Option<&'a ProgressBar> {
    if !bars.contains_key(host) {
        if bars.len() >= BARS_LIMIT {
            return None;
        }
        let style = ProgressStyle::with_template("{spinner} {prefix} {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_spinner());
        let bar = multi.add(ProgressBar::new_spinner().with_style(style));
        bar.set_prefix(host.to_owned());
        bar.enable_steady_tick(TICK);
        bars.insert(host.to_owned(), bar);
    }
    bars.get(host)
}

fn plain_line(event: &Event, verbose: bool) -> Option<String> {
    match event {
        Event::Clear(_) => None,
        Event::Note(text) => Some(text.clone()),
        Event::Working { host, doing } => verbose.then(|| styled(DIM, &format!("{host}: {doing}"))),
        Event::Changed {
            host,
            resource,
            action,
        } => Some(format!("{host}: {action} {resource}")),
        Event::Said { host, text } => Some(format!("{host}: {text}")),
        Event::Finished {
            host,
            succeeded,
            text,
        } => {
            let style = if *succeeded { GREEN } else { RED };
            Some(styled(style, &format!("{host}: {text}")))
        }
    }
}
