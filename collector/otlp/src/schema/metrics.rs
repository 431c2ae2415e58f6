//! The tables of `Metric` and everything below it.
//!
//! In: nothing. Out: the table of `Metric`. Invariant: a data point of any kind is an item.

use super::enums::TEMPORALITIES;
use super::{
    KEY_VALUE, Kind, Message, SPAN_ID, TRACE_ID, choice, container, item, many, message, one,
};

pub(super) static METRIC: Message = container(
    "Metric",
    &[
        one(1, "name", Kind::String),
        one(2, "description", Kind::String),
        one(3, "unit", Kind::String),
        choice(5, "gauge", Kind::Message(&GAUGE)),
        choice(7, "sum", Kind::Message(&SUM)),
        choice(9, "histogram", Kind::Message(&HISTOGRAM)),
        choice(
            10,
            "exponentialHistogram",
            Kind::Message(&EXPONENTIAL_HISTOGRAM),
        ),
        choice(11, "summary", Kind::Message(&SUMMARY)),
        many(12, "metadata", Kind::Message(&KEY_VALUE)),
    ],
);
static GAUGE: Message = container(
    "Gauge",
    &[many(1, "dataPoints", Kind::Message(&NUMBER_DATA_POINT))],
);
static SUM: Message = container(
    "Sum",
    &[
        many(1, "dataPoints", Kind::Message(&NUMBER_DATA_POINT)),
        one(2, "aggregationTemporality", Kind::Enum(TEMPORALITIES)),
        one(3, "isMonotonic", Kind::Bool),
    ],
);
static HISTOGRAM: Message = container(
    "Histogram",
    &[
        many(1, "dataPoints", Kind::Message(&HISTOGRAM_DATA_POINT)),
        one(2, "aggregationTemporality", Kind::Enum(TEMPORALITIES)),
    ],
);
static EXPONENTIAL_HISTOGRAM: Message = container(
    "ExponentialHistogram",
    &[
        many(
            1,
            "dataPoints",
            Kind::Message(&EXPONENTIAL_HISTOGRAM_DATA_POINT),
        ),
        one(2, "aggregationTemporality", Kind::Enum(TEMPORALITIES)),
    ],
);
static SUMMARY: Message = container(
    "Summary",
    &[many(1, "dataPoints", Kind::Message(&SUMMARY_DATA_POINT))],
);
static NUMBER_DATA_POINT: Message = item(
    "NumberDataPoint",
    &[
        one(2, "startTimeUnixNano", Kind::Fixed64),
        one(3, "timeUnixNano", Kind::Fixed64),
        choice(4, "asDouble", Kind::Double),
        many(5, "exemplars", Kind::Message(&EXEMPLAR)),
        choice(6, "asInt", Kind::Sfixed64),
        many(7, "attributes", Kind::Message(&KEY_VALUE)),
        one(8, "flags", Kind::Uint32),
    ],
);
static HISTOGRAM_DATA_POINT: Message = item(
    "HistogramDataPoint",
    &[
        one(2, "startTimeUnixNano", Kind::Fixed64),
        one(3, "timeUnixNano", Kind::Fixed64),
        one(4, "count", Kind::Fixed64),
        one(5, "sum", Kind::Double),
        many(6, "bucketCounts", Kind::Fixed64),
        many(7, "explicitBounds", Kind::Double),
        many(8, "exemplars", Kind::Message(&EXEMPLAR)),
        many(9, "attributes", Kind::Message(&KEY_VALUE)),
        one(10, "flags", Kind::Uint32),
        one(11, "min", Kind::Double),
        one(12, "max", Kind::Double),
    ],
);
static EXPONENTIAL_HISTOGRAM_DATA_POINT: Message = item(
    "ExponentialHistogramDataPoint",
    &[
        many(1, "attributes", Kind::Message(&KEY_VALUE)),
        one(2, "startTimeUnixNano", Kind::Fixed64),
        one(3, "timeUnixNano", Kind::Fixed64),
        one(4, "count", Kind::Fixed64),
        one(5, "sum", Kind::Double),
        one(6, "scale", Kind::Sint32),
        one(7, "zeroCount", Kind::Fixed64),
        one(8, "positive", Kind::Message(&BUCKETS)),
        one(9, "negative", Kind::Message(&BUCKETS)),
        one(10, "flags", Kind::Uint32),
        many(11, "exemplars", Kind::Message(&EXEMPLAR)),
        one(12, "min", Kind::Double),
        one(13, "max", Kind::Double),
        one(14, "zeroThreshold", Kind::Double),
    ],
);
static BUCKETS: Message = message(
    "Buckets",
    &[
        one(1, "offset", Kind::Sint32),
        many(2, "bucketCounts", Kind::Uint64),
    ],
);
static SUMMARY_DATA_POINT: Message = item(
    "SummaryDataPoint",
    &[
        one(2, "startTimeUnixNano", Kind::Fixed64),
        one(3, "timeUnixNano", Kind::Fixed64),
        one(4, "count", Kind::Fixed64),
        one(5, "sum", Kind::Double),
        many(6, "quantileValues", Kind::Message(&VALUE_AT_QUANTILE)),
        many(7, "attributes", Kind::Message(&KEY_VALUE)),
        one(8, "flags", Kind::Uint32),
    ],
);
static VALUE_AT_QUANTILE: Message = message(
    "ValueAtQuantile",
    &[
        one(1, "quantile", Kind::Double),
        one(2, "value", Kind::Double),
    ],
);
static EXEMPLAR: Message = message(
    "Exemplar",
    &[
        one(2, "timeUnixNano", Kind::Fixed64),
        choice(3, "asDouble", Kind::Double),
        one(4, "spanId", SPAN_ID),
        one(5, "traceId", TRACE_ID),
        choice(6, "asInt", Kind::Sfixed64),
        many(7, "filteredAttributes", Kind::Message(&KEY_VALUE)),
    ],
);
