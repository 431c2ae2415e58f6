//! What extensions do for authentication, and how receivers and exporters find it.
//!
//! In: `auth: {authenticator: NAME}` in a receiver or an exporter. Out: the extension's checks, or
//! the headers that it adds.
//! Invariant: a request is checked before its body is read; a refusal does not say what a right
//! answer would have been.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use hyper::header::HeaderMap;

use crate::batch::Metadata;
use crate::component::{ComponentId, Offer, StartError, Task};
use crate::config::Section;

/// Checks requests that come in.
pub trait CheckRequest: Send + Sync {
    /// Whether a request with these headers may come in; the error is for its sender.
    fn check<'c>(&'c self, headers: &'c HeaderMap) -> Task<'c, Result<(), &'static str>>;

    /// What HTTP's `www-authenticate` asks for.
    fn challenge(&self) -> &'static str;
}

/// Adds credentials to requests that go out.
pub trait AddHeaders: Send + Sync {
    /// Changes the headers of a request for telemetry that came with this metadata.
    fn add(&self, headers: &mut HeaderMap, metadata: &Metadata) -> Result<(), String>;
}

/// What one extension can do.
#[derive(Clone, Default)]
pub struct Authenticator {
    /// For receivers.
    pub incoming: Option<Arc<dyn CheckRequest>>,
    /// For exporters.
    pub outgoing: Option<Arc<dyn AddHeaders>>,
}

/// The extensions that authenticate, by their ids.
#[derive(Clone, Default)]
pub struct Authenticators(Arc<Mutex<BTreeMap<ComponentId, Authenticator>>>);

impl Authenticators {
    /// Makes an extension known.
    pub fn add(&self, id: ComponentId, authenticator: Authenticator) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(id, authenticator);
    }

    /// What checks requests for `component`, if its `auth` names something.
    pub fn incoming(
        &self,
        component: &str,
        auth: Option<&ComponentId>,
    ) -> Result<Option<Arc<dyn CheckRequest>>, StartError> {
        let Some(id) = auth else { return Ok(None) };
        let found = self.find(component, id)?.incoming;
        found.map(Some).ok_or_else(|| {
            let message =
                format!("the extension {id} does not check requests; it is for exporters");
            failed(component, message)
        })
    }

    /// What adds credentials for `component`, if its `auth` names something.
    pub fn outgoing(
        &self,
        component: &str,
        auth: Option<&ComponentId>,
    ) -> Result<Option<Arc<dyn AddHeaders>>, StartError> {
        let Some(id) = auth else { return Ok(None) };
        let found = self.find(component, id)?.outgoing;
        found.map(Some).ok_or_else(|| {
            let message = format!("the extension {id} adds no credentials; it is for receivers");
            failed(component, message)
        })
    }

    fn find(&self, component: &str, id: &ComponentId) -> Result<Authenticator, StartError> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(id).cloned().ok_or_else(|| {
            let message = format!(
                "auth.authenticator {id} is not an extension that authenticates; define it under extensions and list it in service::extensions"
            );
            failed(component, message)
        })
    }
}

fn failed(component: &str, message: String) -> StartError {
    StartError {
        component: component.to_owned(),
        message,
    }
}

/// Reads `auth` of a receiver's protocol or of an exporter, which wants `offer` of the extension.
pub fn read_auth(parent: &Section<'_>, offer: Offer) -> Option<ComponentId> {
    if !parent.has("auth") {
        return None;
    }
    let section = parent.section("auth");
    let id = section.extension("authenticator", offer);
    if !section.has("authenticator") {
        let message = "auth needs authenticator, the name of an extension";
        section.error("authenticator", message);
    }
    id
}
