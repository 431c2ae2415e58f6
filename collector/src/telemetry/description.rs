//! What a collector is made of, for those who look at it.
//!
//! In: its configuration. Out: names. Invariant: nothing secret is in it.

use crate::config::Service;

/// What a collector is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// What describes it to others, by attribute.
    pub resource: Vec<(String, String)>,
    /// Its pipelines.
    pub pipelines: Vec<PipelineDescription>,
    /// Its extensions.
    pub extensions: Vec<String>,
}

/// The names of what a pipeline is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PipelineDescription {
    /// Its own, such as `traces/slow`.
    pub name: String,
    /// Where batches come from.
    pub receivers: Vec<String>,
    /// What they pass through, in order.
    pub processors: Vec<String>,
    /// Where they go.
    pub exporters: Vec<String>,
}

impl Description {
    /// Describes what a configuration's service runs.
    pub fn of(service: &Service) -> Self {
        let names = |ids: &[crate::component::ComponentId]| {
            ids.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        Self {
            resource: resource(&service.telemetry.resource),
            pipelines: service
                .pipelines
                .iter()
                .map(|pipeline| PipelineDescription {
                    name: pipeline.name.clone(),
                    receivers: names(&pipeline.receivers),
                    processors: names(&pipeline.processors),
                    exporters: names(&pipeline.exporters),
                })
                .collect(),
            extensions: names(&service.extensions),
        }
    }
}

/// The attributes that are there by themselves, with what is configured above them.
fn resource(configured: &[(String, Option<String>)]) -> Vec<(String, String)> {
    let bits = fastrand::u128(..);
    // Version 4, variant 1 of RFC 9562.
    let id = (bits & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{id:032x}");
    let id = [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ]
    .join("-");
    let mut attributes = std::collections::BTreeMap::from([
        ("service.instance.id".to_owned(), id),
        ("service.name".to_owned(), "collector".to_owned()),
        (
            "service.version".to_owned(),
            env!("CARGO_PKG_VERSION").to_owned(),
        ),
    ]);
    for (name, value) in configured {
        match value {
            Some(value) => attributes.insert(name.clone(), value.clone()),
            None => attributes.remove(name),
        };
    }
    attributes.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configured_attributes_stand_above_those_that_are_there_by_themselves() {
        let configured = [
            ("service.version".to_owned(), None),
            ("service.name".to_owned(), Some("edge".to_owned())),
            ("zone".to_owned(), Some("a".to_owned())),
        ];
        let attributes = resource(&configured);
        let names: Vec<&str> = attributes.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["service.instance.id", "service.name", "zone"]);
        let id = &attributes[0].1;
        assert_eq!((id.len(), &id[14..15]), (36, "4"));
        assert!("89ab".contains(&id[19..20]));
        assert_eq!(attributes[1].1, "edge");
    }
}
