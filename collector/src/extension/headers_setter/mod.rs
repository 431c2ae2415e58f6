//! The `headers_setter` extension: headers of requests that go out, also from those that came in.
//!
//! In: a request's headers, and the metadata of its telemetry. Out: the headers, changed.
//! Invariant: a value that is ambiguous fails the request rather than going to the wrong tenant.

mod config;

use std::sync::Arc;

use hyper::header::{HeaderMap, HeaderValue};
use tokio::sync::watch;

use crate::authentication::{AddHeaders, Authenticator};
use crate::batch::Metadata;
use crate::component::{
    BuildExtension, Context, Kind, Offer, Readiness, RunningExtension, StartError, Task,
};
pub use config::{Action, Config, Setting, Value};

/// The row of this component.
pub const KIND: Kind<dyn BuildExtension> = Kind {
    name: "headers_setter",
    aliases: &["headerssetter"],
    configure: |section| Box::new(Config::read(section)),
};

impl BuildExtension for Config {
    fn offers(&self) -> &'static [Offer] {
        &[Offer::Credentials]
    }

    fn start(
        self: Box<Self>,
        context: Context,
        _: watch::Receiver<Readiness>,
    ) -> Task<'static, Result<Box<dyn RunningExtension>, StartError>> {
        Box::pin(async move {
            let authenticator = Authenticator {
                outgoing: Some(Arc::new(*self)),
                ..Authenticator::default()
            };
            context.authenticators.add(context.id, authenticator);
            Ok(Box::new(Running) as Box<dyn RunningExtension>)
        })
    }
}

struct Running;

impl RunningExtension for Running {
    fn stop(self: Box<Self>) -> Task<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}

impl AddHeaders for Config {
    fn add(&self, headers: &mut HeaderMap, metadata: &Metadata) -> Result<(), String> {
        for setting in &self.headers {
            let present = headers.contains_key(&setting.key);
            match (setting.action, present) {
                (Action::Delete, _) => {
                    headers.remove(&setting.key);
                }
                (Action::Insert, true) | (Action::Update, false) => {}
                _ => {
                    let value = setting.value.resolve(metadata)?;
                    headers.insert(&setting.key, value);
                }
            }
        }
        Ok(())
    }
}

impl Value {
    fn resolve(&self, metadata: &Metadata) -> Result<HeaderValue, String> {
        let (name, otherwise) = match self {
            Self::Fixed(value) => return Ok(value.clone()),
            Self::Context { name, otherwise } => (name, otherwise),
        };
        let mut values = metadata.values(name);
        let value = match (values.next(), values.next()) {
            (Some(_), Some(_)) => {
                return Err(format!("the telemetry came with several values of {name}"));
            }
            (Some(value), None) => HeaderValue::from_str(value)
                .map_err(|_| format!("the value of {name} fits no header"))?,
            (None, _) => otherwise
                .clone()
                .unwrap_or_else(|| HeaderValue::from_static("")),
        };
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_do_as_they_are_called() {
        let fixed = |key: &'static str, action| Setting {
            key: key.parse().unwrap(),
            action,
            value: Value::Fixed(HeaderValue::from_static("new")),
        };
        let tenant = Setting {
            key: "x-scope-orgid".parse().unwrap(),
            action: Action::Upsert,
            value: Value::Context {
                name: "tenant".to_owned(),
                otherwise: Some(HeaderValue::from_static("nobody")),
            },
        };
        let config = Config {
            headers: vec![
                fixed("a", Action::Insert),
                fixed("b", Action::Insert),
                fixed("c", Action::Update),
                fixed("d", Action::Delete),
                tenant,
            ],
        };
        let mut headers = HeaderMap::new();
        headers.insert("a", HeaderValue::from_static("old"));
        headers.insert("d", HeaderValue::from_static("old"));
        config.add(&mut headers, &Metadata::default()).unwrap();
        let get = |headers: &HeaderMap, name| headers.get(name).cloned();
        assert_eq!(headers["a"], "old");
        assert_eq!(headers["b"], "new");
        assert_eq!(get(&headers, "c"), None);
        assert_eq!(get(&headers, "d"), None);
        assert_eq!(headers["x-scope-orgid"], "nobody");
        let pair = |value: &str| ("tenant".to_owned(), value.to_owned());
        let one = Metadata::new(vec![pair("shop")]);
        config.add(&mut headers, &one).unwrap();
        assert_eq!(headers["x-scope-orgid"], "shop");
        let two = Metadata::new(vec![pair("shop"), pair("bank")]);
        assert!(config.add(&mut headers, &two).is_err());
    }
}
