//! The memory that telemetry in flight may take.
//!
//! In: how many bytes somebody is about to hold. Out: a [`Lease`], or a refusal.
//! Invariant: leases that asked never add up to more than the limit; a lease is given back when
//! its last holder drops it, whatever becomes of the telemetry.
//!
//! While there is room, a lease costs one atomic addition. When there is none, senders wait for
//! [`PATIENCE`], and whoever holds the least is served first, so that one sender that takes all
//! it can get does not starve the others.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

/// How long a sender waits for room before it is told to come back later.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// What one who waits may have in the buffers of its connection meanwhile, in bytes.
const WAITING_BYTES: usize = 64 << 10;

/// The part of the limit, as a divisor, that the buffers of those who wait may take.
const WAITING_DIVISOR: usize = 8;

/// The part of the limit, as a divisor, that connections may take by themselves.
const CONNECTIONS_DIVISOR: usize = 2;

/// The part of the memory available that is the limit unless somebody sets one, in per cent.
const DEFAULT_PERCENT: u64 = 40;

/// The least that the limit is unless somebody sets one, in bytes.
const DEFAULT_LEAST_BYTES: u64 = 64 << 20;

/// The memory of the process that telemetry in flight may take.
#[derive(Debug)]
pub struct Budget {
    limit: AtomicUsize,
    /// Whether somebody has set the limit.
    is_set: AtomicBool,
    used: AtomicUsize,
    /// The part of `used` that connections take by themselves.
    connected: AtomicUsize,
    /// How many observers say that the process uses too much memory.
    pressed: AtomicUsize,
    refused: AtomicUsize,
    /// The length of `queue`, readable without its lock.
    waiting: AtomicUsize,
    queue: Mutex<Vec<Waiter>>,
}

/// Somebody who waits for room.
#[derive(Debug)]
struct Waiter {
    account: Arc<Account>,
    bytes: usize,
    granted: oneshot::Sender<()>,
}

/// What one sender holds; a connection is a sender.
#[derive(Debug)]
pub struct Account {
    budget: Arc<Budget>,
    held: AtomicUsize,
}

/// What a connection takes by itself, for as long as it is open.
#[derive(Debug)]
pub struct Connection {
    own: Lease,
}

/// Why there is no lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// There may be room later.
    NoRoom,
    /// There will never be room for so much.
    TooLarge,
}

/// A number of bytes of the budget, which can grow.
#[derive(Debug)]
pub struct Lease {
    account: Arc<Account>,
    bytes: usize,
}

/// A lease that several may hold: it ends when the last of them drops it.
#[derive(Clone, Default)]
pub struct Reservation(Option<Arc<Lease>>);

impl Default for Budget {
    /// A part of the memory that this process may use.
    fn default() -> Self {
        let available = crate::telemetry::memory::available_bytes().unwrap_or(0);
        let limit = (available / 100 * DEFAULT_PERCENT).max(DEFAULT_LEAST_BYTES);
        Self::of(usize::try_from(limit).unwrap_or(usize::MAX))
    }
}

impl Budget {
    /// A budget of so many bytes.
    pub fn of(limit: usize) -> Self {
        Self {
            limit: AtomicUsize::new(limit),
            is_set: AtomicBool::new(false),
            used: AtomicUsize::new(0),
            connected: AtomicUsize::new(0),
            pressed: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            queue: Mutex::default(),
        }
    }

    /// Sets the limit; of several that are set, the lowest counts.
    pub fn limit_to(&self, bytes: usize) {
        match self.is_set.swap(true, SeqCst) {
            false => self.limit.store(bytes, SeqCst),
            true => drop(self.limit.fetch_min(bytes, SeqCst)),
        }
    }

    /// The limit in bytes.
    pub fn limit(&self) -> usize {
        self.limit.load(SeqCst)
    }

    /// The bytes that are leased.
    pub fn used(&self) -> usize {
        self.used.load(SeqCst)
    }

    /// How many requests for a lease were refused.
    pub fn refused(&self) -> usize {
        self.refused.load(SeqCst)
    }

    /// One more observer says that the process uses too much, or one takes that back.
    pub fn press(&self, pressed: bool) {
        match pressed {
            true => drop(self.pressed.fetch_add(1, SeqCst)),
            false => drop(self.pressed.fetch_sub(1, SeqCst)),
        }
    }

    /// Whether somebody says that the process uses too much.
    pub fn is_pressed(&self) -> bool {
        self.pressed.load(SeqCst) > 0
    }

    /// An account for one more sender.
    pub fn account(self: &Arc<Self>) -> Arc<Account> {
        Arc::new(Account {
            budget: Arc::clone(self),
            held: AtomicUsize::new(0),
        })
    }

    /// Lets in a connection that takes `bytes` by itself, while all of them together leave half of
    /// the limit to what they send.
    pub fn connection(self: &Arc<Self>, bytes: usize) -> Option<Connection> {
        let most = self.limit() / CONNECTIONS_DIVISOR;
        let fits = |connected: usize| connected.checked_add(bytes).filter(|sum| *sum <= most);
        self.connected.fetch_update(SeqCst, SeqCst, fits).ok()?;
        let mut own = self.account().lease();
        own.charge(bytes);
        Some(Connection { own })
    }

    /// Takes bytes if the sum stays within `limit`.
    fn take_within(&self, bytes: usize, limit: usize) -> bool {
        let fits = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= limit);
        self.used.fetch_update(SeqCst, SeqCst, fits).is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, SeqCst);
        if self.waiting.load(SeqCst) > 0 {
            self.serve(&mut self.queue());
        }
    }

    fn queue(&self) -> MutexGuard<'_, Vec<Waiter>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives what there is to those who wait, beginning with who holds the least.
    fn serve(&self, queue: &mut Vec<Waiter>) {
        queue.retain(|waiter| !waiter.granted.is_closed());
        while let Some(least) =
            (0..queue.len()).min_by_key(|index| queue[*index].account.held.load(SeqCst))
        {
            let bytes = queue[least].bytes;
            if !self.take_within(bytes, self.limit()) {
                break;
            }
            let waiter = queue.remove(least);
            waiter.account.held.fetch_add(bytes, SeqCst);
            if waiter.granted.send(()).is_err() {
                waiter.account.held.fetch_sub(bytes, SeqCst);
                self.used.fetch_sub(bytes, SeqCst);
            }
        }
        self.waiting.store(queue.len(), SeqCst);
    }

    fn refuse(&self, why: Refused) -> Refused {
        self.refused.fetch_add(1, SeqCst);
        why
    }
}

impl Account {
    /// A lease of nothing yet.
    pub fn lease(self: &Arc<Self>) -> Lease {
        Lease {
            account: Arc::clone(self),
            bytes: 0,
        }
    }

    /// The bytes that this sender holds.
    pub fn held(&self) -> usize {
        self.held.load(SeqCst)
    }

    fn add(&self, bytes: usize) {
        self.held.fetch_add(bytes, SeqCst);
    }
}

impl Lease {
    /// The bytes of this lease.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Counts bytes that are held already, whether there is room or not.
    pub fn charge(&mut self, bytes: usize) {
        self.account.budget.used.fetch_add(bytes, SeqCst);
        self.account.add(bytes);
        self.bytes += bytes;
    }

    /// Grows if that leaves the budget at most `1 / divisor` full.
    pub fn try_grow(&mut self, bytes: usize, divisor: usize) -> bool {
        let budget = &self.account.budget;
        let grown = !budget.is_pressed() && budget.take_within(bytes, budget.limit() / divisor);
        if grown {
            self.account.add(bytes);
            self.bytes += bytes;
        }
        grown
    }

    /// Grows when there is room, in turn with others who wait.
    pub async fn grow(&mut self, bytes: usize) -> Result<(), Refused> {
        let budget = &self.account.budget;
        if budget.is_pressed() {
            return Err(budget.refuse(Refused::NoRoom));
        }
        let limit = budget.limit();
        if budget.waiting.load(SeqCst) == 0 && budget.take_within(bytes, limit) {
            self.account.add(bytes);
            self.bytes += bytes;
            return Ok(());
        }
        if bytes > limit {
            return Err(budget.refuse(Refused::TooLarge));
        }
        let waiting = {
            let mut queue = budget.queue();
            if (queue.len() + 1) * WAITING_BYTES > limit / WAITING_DIVISOR {
                return Err(budget.refuse(Refused::NoRoom));
            }
            let (granted, wait) = oneshot::channel();
            queue.push(Waiter {
                account: Arc::clone(&self.account),
                bytes,
                granted,
            });
            budget.waiting.store(queue.len(), SeqCst);
            budget.serve(&mut queue);
            Waiting {
                account: Arc::clone(&self.account),
                bytes,
                wait: Some(wait),
            }
        };
        if waiting.granted().await {
            self.bytes += bytes;
            Ok(())
        } else {
            Err(self.account.budget.refuse(Refused::NoRoom))
        }
    }

    /// Gives back what is above `bytes`.
    pub fn shrink_to(&mut self, bytes: usize) {
        let surplus = self.bytes.saturating_sub(bytes);
        if surplus > 0 {
            self.bytes -= surplus;
            self.account.held.fetch_sub(surplus, SeqCst);
            self.account.budget.give_back(surplus);
        }
    }

    /// Lets several hold it.
    pub fn share(self) -> Reservation {
        Reservation(Some(Arc::new(self)))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

impl Connection {
    /// The account of what it sends.
    pub fn account(&self) -> &Arc<Account> {
        &self.own.account
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let budget = &self.own.account.budget;
        budget.connected.fetch_sub(self.own.bytes, SeqCst);
    }
}

/// A place in the queue; what is granted after it has been given up goes back.
struct Waiting {
    account: Arc<Account>,
    bytes: usize,
    wait: Option<oneshot::Receiver<()>>,
}

impl Waiting {
    async fn granted(mut self) -> bool {
        let Some(wait) = &mut self.wait else {
            return false;
        };
        let granted = tokio::time::timeout(PATIENCE, wait).await.is_ok();
        if granted {
            self.wait = None;
        }
        granted
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(mut wait) = self.wait.take() {
            wait.close();
            if wait.try_recv().is_ok() {
                self.account.held.fetch_sub(self.bytes, SeqCst);
                self.account.budget.give_back(self.bytes);
            }
        }
    }
}

impl Reservation {
    /// The bytes that are held.
    pub fn bytes(&self) -> usize {
        self.0.as_deref().map_or(0, Lease::bytes)
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} bytes", self.bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn budget() -> Arc<Budget> {
        Arc::new(Budget::of(MIB))
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_fit_is_refused_and_what_is_dropped_comes_back() {
        let budget = budget();
        let account = budget.account();
        let mut first = account.lease();
        first.grow(MIB).await.unwrap();
        let mut second = account.lease();
        assert_eq!(second.grow(1).await, Err(Refused::NoRoom));
        assert_eq!(second.grow(MIB + 1).await, Err(Refused::TooLarge));
        let shared = first.share();
        let clone = shared.clone();
        drop(shared);
        assert_eq!(budget.used(), MIB);
        drop(clone);
        assert_eq!((budget.used(), budget.refused()), (0, 2));
        second.grow(MIB).await.unwrap();
        second.shrink_to(10);
        assert_eq!(budget.used(), 10);
        budget.press(true);
        assert_eq!(second.grow(1).await, Err(Refused::NoRoom));
        budget.press(false);
        assert!(second.try_grow(MIB / 4, 2));
        assert!(!second.try_grow(MIB / 2, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn who_holds_the_least_is_served_first() {
        let budget = budget();
        let (greedy, modest) = (budget.account(), budget.account());
        let mut held = Vec::new();
        for _ in 0..4 {
            let mut lease = greedy.lease();
            lease.grow(MIB / 4).await.unwrap();
            held.push(lease);
        }
        let order = Arc::new(Mutex::new(Vec::new()));
        let wait = |account: &Arc<Account>, name: &'static str| {
            let (mut lease, order) = (account.lease(), Arc::clone(&order));
            tokio::spawn(async move {
                lease.grow(MIB / 4).await.unwrap();
                order.lock().unwrap().push(name);
            })
        };
        let first = wait(&greedy, "greedy");
        tokio::task::yield_now().await;
        let second = wait(&modest, "modest");
        tokio::task::yield_now().await;
        drop(held.pop());
        second.await.unwrap();
        first.await.unwrap();
        assert_eq!(*order.lock().unwrap(), ["modest", "greedy"]);
        drop(held);
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_that_is_given_up_takes_nothing() {
        let budget = budget();
        let account = budget.account();
        let mut first = account.lease();
        first.grow(MIB).await.unwrap();
        let mut second = account.lease();
        let given_up = tokio::time::timeout(Duration::from_millis(1), second.grow(5)).await;
        assert!(given_up.is_err());
        drop(first);
        assert_eq!(budget.used(), 0);
    }
}
