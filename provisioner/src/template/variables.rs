//! The variables of templates, as both engines take them.
//!
//! Goes in: what all hosts share, and what one has of its own. Comes out: contexts. Invariant:
//! what is shared is converted once for a fleet, so that a host costs the same in any fleet.

use std::cell::RefCell;

use serde_json::{Map, Value};

/// The variables that are equal for all hosts.
#[derive(Debug)]
pub struct SharedVariables {
    tera: tera::Context,
    /// Holds the variables of one host as well while a template is rendered for it.
    handlebars: RefCell<handlebars::Context>,
}

impl SharedVariables {
    /// From an object, as templates see it.
    #[must_use]
    pub fn new(variables: Map<String, Value>) -> Self {
        let mut handlebars = handlebars::Context::null();
        let tera = tera_context(&variables);
        *handlebars.data_mut() = Value::Object(variables);
        Self {
            tera,
            handlebars: RefCell::new(handlebars),
        }
    }

    /// With what one host has of its own, under other names.
    #[must_use]
    pub fn for_host(&self, own: Map<String, Value>) -> Variables<'_> {
        let mut tera = self.tera.clone();
        tera.extend(tera_context(&own));
        Variables {
            shared: self,
            own,
            tera,
        }
    }
}

/// The variables that templates see for one host.
#[derive(Clone, Debug)]
pub struct Variables<'a> {
    shared: &'a SharedVariables,
    own: Map<String, Value>,
    tera: tera::Context,
}

impl Variables<'_> {
    /// The same with one more.
    #[must_use]
    pub fn with(&self, name: &'static str, value: Value) -> Self {
        let mut more = self.clone();
        more.tera.insert(name, &value);
        more.own.insert(name.to_owned(), value);
        more
    }

    pub(super) const fn tera(&self) -> &tera::Context {
        &self.tera
    }

    pub(super) fn handlebars<T>(&self, render: impl FnOnce(&handlebars::Context) -> T) -> T {
        let mut context = self.shared.handlebars.borrow_mut();
        if let Value::Object(all) = context.data_mut() {
            all.extend(self.own.clone());
        }
        let result = render(&context);
        if let Value::Object(all) = context.data_mut() {
            all.retain(|name, _| !self.own.contains_key(name));
        }
        result
    }
}

fn tera_context(variables: &Map<String, Value>) -> tera::Context {
    let mut context = tera::Context::new();
    for (name, value) in variables {
        context.insert(name.clone(), value);
    }
    context
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn one_hosts_variables_are_not_another_ones() {
        let shared = SharedVariables::new(object(json!({ "tier": "small" })));
        let first = shared.for_host(object(json!({ "host": "a", "role": "gateway" })));
        let second = shared.for_host(object(json!({ "host": "b" })));
        let seen = |variables: &Variables<'_>| variables.handlebars(|all| all.data().clone());
        let all = json!({ "tier": "small", "host": "a", "role": "gateway" });
        assert_eq!(seen(&first), all);
        assert_eq!(seen(&second), json!({ "tier": "small", "host": "b" }));
        assert!(first.tera().contains_key("role"));
        assert!(!second.tera().contains_key("role"));
        let since = second.with("since", json!(true));
        assert_eq!(seen(&since)["since"], true);
        assert_eq!(seen(&second)["since"], Value::Null);
    }
}
