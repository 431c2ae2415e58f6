//! What can be wrong with bytes or JSON that claim to be OTLP.
//!
//! In: the place where reading stopped. Out: one typed error for each format.
//! Invariant: an offset counts from the start of the whole request.

/// Protobuf bytes that are not a well-formed OTLP request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed OTLP protobuf at byte {offset}: {fault}")]
pub struct WireError {
    /// Where the fault stands, in bytes from the start of the request.
    pub offset: usize,
    /// What is wrong there.
    pub fault: WireFault,
}

impl WireError {
    pub(crate) fn new(offset: usize, fault: WireFault) -> Self {
        Self { offset, fault }
    }

    /// Turns an offset inside a nested message into one from the start of the request.
    pub(crate) fn shifted(self, by: usize) -> Self {
        Self {
            offset: self.offset + by,
            ..self
        }
    }
}

/// The kinds of fault in protobuf bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireFault {
    /// The bytes end inside a field.
    #[error("the input ends inside a field")]
    Truncated,
    /// A varint of more than ten bytes or more than 64 bits.
    #[error("a varint is longer than 64 bits")]
    Varint,
    /// Field number zero or beyond 2^29 - 1.
    #[error("a field number is out of range")]
    FieldNumber,
    /// Wire type 6 or 7.
    #[error("unknown wire type")]
    WireType,
    /// The end of a group that was not begun.
    #[error("a group's end does not match its start")]
    UnbalancedGroup,
    /// Messages or groups nested deeper than [`crate::MAX_DEPTH`].
    #[error("messages are nested too deeply")]
    TooDeep,
    /// A request too long to be edited.
    #[error("a request of 4 GiB or more cannot be edited")]
    TooLong,
    /// A known field with a wire type other than its own.
    #[error("field {field} of {message} has the wrong wire type")]
    FieldType {
        /// The message's name.
        message: &'static str,
        /// The field's OTLP/JSON name.
        field: &'static str,
    },
    /// A trace or span id that is neither empty nor of its proper length.
    #[error("field {field} of {message} has {length} bytes, and must have {expected} or none")]
    IdLength {
        /// The message's name.
        message: &'static str,
        /// The field's OTLP/JSON name.
        field: &'static str,
        /// The length found.
        length: usize,
        /// The length required, unless empty.
        expected: usize,
    },
}

/// A body that is not OTLP/JSON.
#[derive(Debug, thiserror::Error)]
#[error("malformed OTLP/JSON: {0}")]
pub struct JsonError(#[from] pub(crate) serde_json::Error);
