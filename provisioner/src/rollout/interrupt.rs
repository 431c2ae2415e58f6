//! Ctrl-C and the like.
//!
//! Goes in: signals. Comes out: an [`Interrupt`] that conversations look at. Invariant: the first
//! signal ends a run after the step in hand; the second ends the program at once.

use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::WeakUnboundedSender;
use tokio::sync::watch;

use crate::report::{Event, Events};

/// The exit code of a program that was interrupted.
const EXIT_INTERRUPTED: i32 = 130;

/// Tells whether somebody wants the run to end.
#[derive(Clone, Debug)]
pub struct Interrupt {
    sender: Arc<watch::Sender<bool>>,
}

impl Default for Interrupt {
    /// One that comes only once it is armed, or raised.
    fn default() -> Self {
        Self {
            sender: Arc::new(watch::channel(false).0),
        }
    }
}

impl Interrupt {
    /// From now on it comes when this program is told to end.
    pub fn arm(&self, events: &Events) {
        tokio::spawn(listen(Arc::clone(&self.sender), events.downgrade()));
    }

    /// It comes now.
    pub fn raise(&self) {
        self.sender.send_replace(true);
    }

    /// Whether it has come.
    #[must_use]
    pub fn has_come(&self) -> bool {
        *self.sender.borrow()
    }

    /// Waits until it comes.
    pub async fn comes(&self) {
        // The sender lives as long as this, so that waiting does not fail.
        let _ = self.sender.subscribe().wait_for(|come| *come).await;
    }
}

async fn listen(sender: Arc<watch::Sender<bool>>, events: WeakUnboundedSender<Event>) {
    let kinds = [SignalKind::interrupt(), SignalKind::terminate()];
    let [Ok(mut interrupt), Ok(mut terminate)] = kinds.map(signal) else {
        return;
    };
    let mut next = async || {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    next().await;
    if let Some(events) = events.upgrade() {
        let text = "interrupted: every host ends the step in hand; once more ends at once";
        let _ = events.send(Event::Note(text.to_owned()));
    }
    sender.send_replace(true);
    next().await;
    std::process::exit(EXIT_INTERRUPTED);
}
