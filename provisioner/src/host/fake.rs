//! A host that is a function: for tests of everything that talks to hosts.
//!
//! Goes in: what it answers to each request. Comes out: a conversation, and the requests that it
//! got. Invariant: the same frames travel as over SSH.

use std::sync::{Arc, Mutex};

use prost::Message as _;
use provision_protocol::message::{FromHost, Hello, ToHost, from_host, to_host};
use provision_protocol::operation::operation;
use provision_protocol::{HELLO_MARKER, PROTOCOL_VERSION, frame};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::conversation::Transport;
use super::{BoxFuture, Conversation, Endpoint, Helpers, Host};
use crate::error::Result;

/// What a fake host does with one request: some answers, or an end of the connection.
pub(crate) type Script =
    Arc<dyn Fn(&str, &to_host::Body) -> Option<Vec<from_host::Body>> + Send + Sync>;

/// The requests that all fake hosts of a test got, in order, with the host's name.
pub(crate) type Requests = Arc<Mutex<Vec<(String, to_host::Body)>>>;

/// A host that is a function.
pub(crate) struct FakeHost {
    pub(crate) endpoint: Endpoint,
    pub(crate) script: Script,
    pub(crate) requests: Requests,
}

impl std::fmt::Debug for FakeHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FakeHost")
    }
}

impl Host for FakeHost {
    fn name(&self) -> &str {
        &self.endpoint.name
    }

    fn connect<'a>(&'a self, opening: &'a [u8]) -> BoxFuture<'a, Result<Conversation>> {
        Box::pin(async move {
            let (near, far) = tokio::io::duplex(1 << 20);
            let name = self.endpoint.name.clone();
            let answering = tokio::spawn(answer(
                name,
                far,
                Arc::clone(&self.script),
                Arc::clone(&self.requests),
            ));
            let (reader, writer) = tokio::io::split(near);
            let transport = Transport {
                reader: Box::new(reader),
                writer: Box::new(writer),
                stderr: Box::new(tokio::io::empty()),
                closer: Box::new(|| {
                    Box::pin(async {
                        let _ = answering.await;
                    })
                }),
            };
            Conversation::begin(transport, &Helpers::none(), &self.endpoint, opening).await
        })
    }

    fn revert_after(&self) -> std::time::Duration {
        self.endpoint.revert_after
    }

    fn reconnect_within(&self) -> std::time::Duration {
        self.endpoint.reconnect_within
    }
}

async fn answer(name: String, mut stream: DuplexStream, script: Script, requests: Requests) {
    let hello = Hello {
        protocol_version: PROTOCOL_VERSION,
        boot_id: boot_of(&name, &requests),
        architecture: "x86_64".to_owned(),
        os_id: "debian".to_owned(),
        ..Hello::default()
    };
    let _ = stream.write_all(HELLO_MARKER).await;
    let _ = stream
        .write_all(&framed(from_host::Body::Hello(hello)))
        .await;
    while let Ok(length) = stream.read_u32().await {
        let mut body = vec![0u8; length as usize];
        if stream.read_exact(&mut body).await.is_err() {
            return;
        }
        let Some(body) = ToHost::decode(body.as_slice())
            .ok()
            .and_then(|request| request.body)
        else {
            return;
        };
        let answers = script(&name, &body);
        // A host that hangs is asked to reboot, and does not get as far.
        if answers.is_some() || !asks_for_reboot(&body) {
            let mut requests = requests.lock().expect("requests");
            requests.push((name.clone(), body));
        }
        let Some(answers) = answers else { return };
        for one in answers {
            let _ = stream.write_all(&framed(one)).await;
        }
    }
}

/// A host is in another boot for each request to reboot that it answered.
fn boot_of(name: &str, requests: &Requests) -> String {
    let requests = requests.lock().expect("requests");
    let rebooted = requests
        .iter()
        .filter(|(host, body)| host == name && asks_for_reboot(body));
    format!("boot {}", rebooted.count())
}

/// Whether a request has the host reboot.
pub(crate) fn asks_for_reboot(body: &to_host::Body) -> bool {
    match body {
        to_host::Body::Perform(perform) => {
            let mut kinds = perform.operations.iter().map(|one| &one.kind);
            kinds.any(|kind| matches!(kind, Some(operation::Kind::Reboot(_))))
        }
        _ => false,
    }
}

fn framed(body: from_host::Body) -> Vec<u8> {
    frame::encode(&FromHost { body: Some(body) }).expect("a small frame")
}
