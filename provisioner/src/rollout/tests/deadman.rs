//! Changes that lock an account out, and what is tried afterwards.

use provision_protocol::operation::{ManifestEntry, Operation, Remove, operation};

use super::*;
use crate::error::{Error, ErrorKind};
use crate::host::{BoxFuture, Conversation, FirstContact};

const RULE: &str = "/etc/sudoers.d/provision-deploy";

/// One account of a host.
#[derive(Debug)]
struct Account {
    host: FakeHost,
    /// Whether it is let in, and whether it is for a connection of its own.
    let_in: bool,
    let_in_anew: bool,
    /// How often it was not.
    denials: Arc<AtomicUsize>,
}

impl Account {
    fn enter<'a>(
        &'a self,
        let_in: bool,
        opening: &'a [u8],
    ) -> BoxFuture<'a, Result<Conversation, Error>> {
        Box::pin(async move {
            if let_in {
                return self.host.connect(opening).await;
            }
            self.denials.fetch_add(1, Ordering::SeqCst);
            Err(Error::new(
                ErrorKind::Denied,
                "a does not let this account in",
            ))
        })
    }
}

impl Host for Account {
    fn name(&self) -> &str {
        self.host.name()
    }

    fn connect<'a>(&'a self, opening: &'a [u8]) -> BoxFuture<'a, Result<Conversation, Error>> {
        self.enter(self.let_in, opening)
    }

    fn connect_anew(&self) -> BoxFuture<'_, Result<Conversation, Error>> {
        self.enter(self.let_in_anew, &[])
    }

    fn revert_after(&self) -> Duration {
        self.host.revert_after()
    }

    fn reconnect_within(&self) -> Duration {
        self.host.reconnect_within()
    }
}

/// The accounts of one host, which remembers what was done once it was changed.
struct Accounts {
    script: Script,
    requests: Requests,
    denials: Arc<AtomicUsize>,
}

impl Accounts {
    fn new() -> Self {
        let changed = AtomicUsize::new(0);
        let script: Script = Arc::new(move |_, request| match request {
            to_host::Body::Observe(observe) if changed.load(Ordering::SeqCst) > 0 => {
                let facts = observe
                    .queries
                    .iter()
                    .map(|query| remembers_change(query, RULE));
                let facts = facts.collect();
                Some(vec![from_host::Body::Facts(Facts { facts })])
            }
            to_host::Body::Perform(_) => {
                changed.fetch_add(1, Ordering::SeqCst);
                Some(well(request))
            }
            _ => Some(well(request)),
        });
        Self {
            script,
            requests: Arc::default(),
            denials: Arc::default(),
        }
    }

    fn account(&self, let_in: bool, let_in_anew: bool) -> Account {
        let host = FakeHost {
            endpoint: Endpoint {
                revert_after: Duration::from_secs(1),
                ..Endpoint::example("a")
            },
            script: Arc::clone(&self.script),
            requests: Arc::clone(&self.requests),
        };
        Account {
            host,
            let_in,
            let_in_anew,
            denials: Arc::clone(&self.denials),
        }
    }

    /// Changes what decides who gets in.
    fn run(&self, host: impl Host + 'static) -> HostOutcome {
        let file = format!("file = {{ path = \"{RULE}\", content = \"no\\n\" }}");
        let hosts: Vec<(Box<dyn Host>, HostDesired)> = vec![(Box::new(host), desired_of(&[&file]))];
        let plays = [(play(Vec::new(), 0), vec!["a".to_owned()])];
        let options = options(&Interrupt::default(), Confirm::Given);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let mut outcomes = runtime.block_on(async {
            let mut observation = observe(hosts, true, &options).await;
            apply(&mut observation, &plays, &options).await.unwrap()
        });
        outcomes.remove(0)
    }

    /// Removes a file, as `destroy` does.
    fn remove(&self, host: impl Host + 'static, path: &str) -> (usize, Option<String>) {
        let entry = ManifestEntry {
            kind: ManifestKind::File as i32,
            name: path.to_owned(),
            ..ManifestEntry::default()
        };
        let removal = Operation {
            kind: Some(operation::Kind::Remove(Remove { entry: Some(entry) })),
            ..Operation::default()
        };
        let hosts: Vec<(Box<dyn Host>, HostDesired)> = vec![(Box::new(host), desired_of(&[]))];
        let options = options(&Interrupt::default(), Confirm::Given);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut observation = observe(hosts, true, &options).await;
            observation.sessions[0]
                .remove(vec![removal], &options)
                .await
        })
    }

    /// What was asked for beside looks, in order.
    fn asked(&self) -> Vec<&str> {
        let requests = self.requests.lock().unwrap();
        let asked = requests.iter().filter_map(|(_, body)| match body {
            to_host::Body::Arm(_) => Some("arm"),
            to_host::Body::Perform(_) => Some("perform"),
            to_host::Body::Disarm(_) => Some("disarm"),
            _ => None,
        });
        asked.collect()
    }

    fn endings(&self) -> Vec<Ending> {
        let requests = self.requests.lock().unwrap();
        let endings = requests.iter().filter_map(|(_, body)| match body {
            to_host::Body::Commit(commit) => Some(commit.ending()),
            _ => None,
        });
        endings.collect()
    }
}

#[test]
fn an_account_that_was_made_and_is_denied_is_taken_back_by_the_given_one() {
    let host = Accounts::new();
    let (own, given) = (host.account(false, false), host.account(true, true));
    let outcome = host.run(FirstContact::new(own, given));
    let failure = outcome.failure.unwrap_or_default();
    assert_eq!(outcome.outcome, Outcome::RolledBack, "{failure}");
    assert!(
        failure.starts_with("nobody could get in any more after this change"),
        "{failure}"
    );
    assert!(
        !failure.contains("put the change back by itself"),
        "{failure}"
    );
    assert_eq!(host.endings(), [Ending::RolledBack]);
    // When it is looked at, twice after the change, and once when that is taken back.
    assert_eq!(host.denials.load(Ordering::SeqCst), 4);
}

#[test]
fn a_host_that_stays_denied_is_looked_at_once_more_after_it_has_put_the_change_back() {
    let host = Accounts::new();
    let outcome = host.run(host.account(true, false));
    let failure = outcome.failure.unwrap_or_default();
    assert_eq!(outcome.outcome, Outcome::Failed, "{failure}");
    assert!(
        failure.ends_with("put the change back by itself within 1s, and was not seen to"),
        "{failure}"
    );
    assert_eq!(host.endings(), []);
    // Twice after the change, twice when that is taken back, and twice to see it put back.
    assert_eq!(host.denials.load(Ordering::SeqCst), 6);
}

#[test]
fn what_could_lock_everybody_out_is_removed_only_where_somebody_gets_in_anew() {
    let host = Accounts::new();
    assert_eq!(host.remove(host.account(true, true), RULE), (1, None));
    assert_eq!(host.asked(), ["arm", "perform", "disarm"]);

    let harmless = Accounts::new();
    let removed = harmless.remove(harmless.account(true, false), "/etc/motd");
    assert_eq!(removed, (1, None));
    assert_eq!(harmless.asked(), ["perform"]);
}

#[test]
fn a_removal_that_locks_everybody_out_is_a_failure() {
    let host = Accounts::new();
    let (done, failure) = host.remove(host.account(true, false), RULE);
    let failure = failure.unwrap_or_default();
    assert_eq!(done, 1, "{failure}");
    assert!(
        failure.starts_with("nobody could get in any more after this change"),
        "{failure}"
    );
    assert!(
        failure.contains("it shall put the change back by itself within 1s"),
        "{failure}"
    );
    assert_eq!(host.asked(), ["arm", "perform"]);
}
