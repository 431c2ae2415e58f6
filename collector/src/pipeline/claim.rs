//! What a request waits for: its delivery in every piece that was made of it.
//!
//! In: a request that may be cut and joined with others. Out: one verdict when the last piece is
//! through. Invariant: a claim that is dropped in any other way than by delivery of all of its
//! pieces counts as not delivered, so that a task that is cancelled loses nothing in silence.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::component::{Failure, worse};

/// What becomes of the verdict.
pub(super) type Settle = Box<dyn FnOnce(Result<(), Failure>) + Send>;

/// The share that one piece has in its request's verdict.
pub(super) struct Claim(Arc<Whole>);

struct Whole {
    /// Pieces that have not been delivered.
    open: AtomicUsize,
    verdict: Mutex<Result<(), Failure>>,
    settle: Mutex<Option<Settle>>,
}

impl Claim {
    /// The claim of a request that is in one piece.
    pub(super) fn new(settle: Settle) -> Self {
        Self(Arc::new(Whole {
            open: AtomicUsize::new(1),
            verdict: Mutex::new(Ok(())),
            settle: Mutex::new(Some(settle)),
        }))
    }

    /// The claim of one more piece.
    pub(super) fn split(&self) -> Self {
        self.0.open.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(&self.0))
    }

    /// Says that this piece is where it should be.
    pub(super) fn delivered(self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }

    /// Says that this piece will not be delivered.
    pub(super) fn failed(self, failure: Failure) {
        let mut verdict = lock(&self.0.verdict);
        let before = std::mem::replace(&mut *verdict, Ok(()));
        *verdict = worse(before, Err(failure));
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        let Some(settle) = lock(&self.settle).take() else {
            return;
        };
        let verdict = std::mem::replace(&mut *lock(&self.verdict), Ok(()));
        let undelivered = *self.open.get_mut() > 0;
        settle(match verdict {
            Ok(()) if undelivered => Err(Failure::retryable("the collector is stopping")),
            verdict => verdict,
        });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    fn claim() -> (Claim, oneshot::Receiver<Result<(), Failure>>) {
        let (send, receive) = oneshot::channel();
        let settle = |verdict| drop(send.send(verdict));
        (Claim::new(Box::new(settle)), receive)
    }

    #[test]
    fn a_request_is_delivered_with_its_last_piece() {
        let (first, mut verdict) = claim();
        let second = first.split();
        first.delivered();
        assert!(verdict.try_recv().is_err());
        second.delivered();
        assert_eq!(verdict.try_recv().unwrap(), Ok(()));
    }

    #[test]
    fn one_piece_that_fails_fails_the_request() {
        let (first, mut verdict) = claim();
        let (second, third) = (first.split(), first.split());
        first.failed(Failure::permanent("never"));
        second.failed(Failure::retryable("later"));
        third.delivered();
        assert_eq!(
            verdict.try_recv().unwrap(),
            Err(Failure::retryable("later"))
        );
    }

    #[test]
    fn a_piece_that_is_forgotten_fails_the_request() {
        let (first, mut verdict) = claim();
        let second = first.split();
        first.delivered();
        drop(second);
        assert!(matches!(
            verdict.try_recv().unwrap(),
            Err(Failure::Retryable { .. })
        ));
    }
}
