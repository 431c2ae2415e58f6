//! Handlebars' `if` and `unless`, which refuse what is not defined as `each` and `with` do.
//!
//! Goes in: a block with a condition. Comes out: the part of it that holds. Invariant: apart from
//! a variable that does not exist, they do what Handlebars' own do.

use handlebars::{
    Context, Handlebars, Helper, HelperDef, HelperResult, JsonTruthy as _, Output, RenderContext,
    RenderErrorReason, Renderable as _,
};

struct Conditional {
    name: &'static str,
    wanted: bool,
}

/// Puts both in place of Handlebars' own.
pub(super) fn register(handlebars: &mut Handlebars<'_>) {
    for (name, wanted) in [("if", true), ("unless", false)] {
        handlebars.register_helper(name, Box::new(Conditional { name, wanted }));
    }
}

impl HelperDef for Conditional {
    fn call<'reg: 'rc, 'rc>(
        &self,
        helper: &Helper<'rc>,
        registry: &'reg Handlebars<'reg>,
        context: &'rc Context,
        state: &mut RenderContext<'reg, 'rc>,
        out: &mut dyn Output,
    ) -> HelperResult {
        let condition = helper.param(0);
        let condition = condition.ok_or(RenderErrorReason::ParamNotFoundForIndex(self.name, 0))?;
        if condition.is_value_missing() {
            let path = condition.relative_path().cloned();
            return Err(RenderErrorReason::MissingVariable(path).into());
        }
        let includes_zero = helper.hash_get("includeZero");
        let includes_zero = includes_zero.and_then(|flag| flag.value().as_bool());
        let holds = condition.value().is_truthy(includes_zero.unwrap_or(false));
        let part = match holds == self.wanted {
            true => helper.template(),
            false => helper.inverse(),
        };
        part.map_or(Ok(()), |part| part.render(registry, context, state, out))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rendered(template: &str) -> Result<String, String> {
        let mut handlebars = Handlebars::new();
        handlebars.set_strict_mode(true);
        register(&mut handlebars);
        let variables = json!({ "tls": { "mode": "off", "hosts": [] }, "count": 0 });
        let rendered = handlebars.render_template(template, &variables);
        rendered.map_err(|error| match error.reason() {
            RenderErrorReason::MissingVariable(Some(path)) => path.clone(),
            other => other.to_string(),
        })
    }

    #[test]
    fn a_condition_that_is_not_defined_is_refused() {
        for (template, path) in [
            ("{{#if tls.mdoe}}a{{/if}}", "tls.mdoe"),
            ("{{#unless typo}}a{{/unless}}", "typo"),
            ("{{#if tls.hosts}}a{{else if typo}}b{{/if}}", "typo"),
        ] {
            assert_eq!(rendered(template), Err(path.to_owned()), "{template}");
        }
    }

    #[test]
    fn a_condition_holds_as_handlebars_has_it() {
        for (template, text) in [
            ("{{#if tls.mode}}a{{else}}b{{/if}}", "a"),
            ("{{#if tls.hosts}}a{{else}}b{{/if}}", "b"),
            ("{{#unless count}}a{{else}}b{{/unless}}", "a"),
            ("{{#if count includeZero=true}}a{{else}}b{{/if}}", "a"),
            ("{{#if count}}a{{else if tls}}b{{else}}c{{/if}}", "b"),
        ] {
            assert_eq!(rendered(template), Ok(text.to_owned()), "{template}");
        }
    }
}
