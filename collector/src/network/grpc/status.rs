//! gRPC's statuses, as they stand in trailers.
//!
//! In: header maps of HTTP/2. Out: [`Status`], and the other way.
//! Invariant: advice on retrying survives the way through `grpc-status-details-bin`.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use bytes::Bytes;
use collector_otlp::wire::{self, Fields, Value};
use hyper::header::{HeaderMap, HeaderValue};

use crate::network::Answer;
use crate::network::compression::{Encoding, decompress};

/// A gRPC status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the gRPC specification")]
pub enum Code {
    Ok = 0,
    Cancelled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

const CODES: [Code; 17] = [
    Code::Ok,
    Code::Cancelled,
    Code::Unknown,
    Code::InvalidArgument,
    Code::DeadlineExceeded,
    Code::NotFound,
    Code::AlreadyExists,
    Code::PermissionDenied,
    Code::ResourceExhausted,
    Code::FailedPrecondition,
    Code::Aborted,
    Code::OutOfRange,
    Code::Unimplemented,
    Code::Internal,
    Code::Unavailable,
    Code::DataLoss,
    Code::Unauthenticated,
];

/// How a call ended, other than well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The code.
    pub code: Code,
    /// Text for people.
    pub message: String,
    /// `RetryInfo`: the call may be repeated after this long.
    pub retry_after: Option<Duration>,
}

impl Status {
    /// A status without advice on retrying.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            retry_after: None,
        }
    }

    /// The status as `google.rpc.Status`, as it stands in HTTP bodies and in details.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        wire::write_varint_field(&mut out, 1, self.code as u64);
        wire::write_bytes(&mut out, 2, self.message.as_bytes());
        if let Some(after) = self.retry_after {
            let (mut delay, mut info, mut any) = (Vec::new(), Vec::new(), Vec::new());
            wire::write_varint_field(&mut delay, 1, after.as_secs());
            wire::write_varint_field(&mut delay, 2, u64::from(after.subsec_nanos()));
            wire::write_bytes(&mut info, 1, &delay);
            wire::write_bytes(&mut any, 1, b"type.googleapis.com/google.rpc.RetryInfo");
            wire::write_bytes(&mut any, 2, &info);
            wire::write_bytes(&mut out, 3, &any);
        }
        out
    }
}

/// The trailers of a call that ended like this.
pub fn trailers(result: &Result<(), Status>) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(3);
    let Err(status) = result else {
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        return trailers;
    };
    trailers.insert("grpc-status", HeaderValue::from(status.code as u16));
    if let Ok(message) = HeaderValue::from_str(&percent_encode(&status.message)) {
        trailers.insert("grpc-message", message);
    }
    if status.retry_after.is_some() {
        let details = STANDARD_NO_PAD.encode(status.encode());
        if let Ok(details) = HeaderValue::from_str(&details) {
            trailers.insert("grpc-status-details-bin", details);
        }
    }
    trailers
}

/// The message of a response, or the status that it came with.
pub fn read_answer(answer: Answer) -> Result<Bytes, Status> {
    let header = |name| {
        answer
            .trailers
            .get(name)
            .or_else(|| answer.headers.get(name))
    };
    let text = |name| header(name).and_then(|value| value.to_str().ok());
    let Some(number) = text("grpc-status").and_then(|text| text.parse::<usize>().ok()) else {
        let code = match answer.status.as_u16() {
            400 => Code::Internal,
            401 => Code::Unauthenticated,
            403 => Code::PermissionDenied,
            404 => Code::Unimplemented,
            429 | 502..=504 => Code::Unavailable,
            _ => Code::Unknown,
        };
        let message = format!("HTTP {} without a gRPC status", answer.status);
        return Err(Status::new(code, message));
    };
    let code = CODES.get(number).copied().unwrap_or(Code::Unknown);
    if code != Code::Ok {
        let retry_after = text("grpc-status-details-bin").and_then(retry_delay);
        let message = percent_decode(text("grpc-message").unwrap_or_default());
        return Err(Status {
            code,
            message,
            retry_after,
        });
    }
    let malformed = |text: String| Status::new(Code::Internal, text);
    let (compressed, message) = unframe(answer.body).map_err(malformed)?;
    if !compressed {
        return Ok(message);
    }
    let encoding = text("grpc-encoding").and_then(|name| Encoding::of_grpc(name.as_bytes()));
    let encoding =
        encoding.ok_or_else(|| malformed("a response of an unknown encoding".to_owned()))?;
    let limit = crate::network::MAX_RESPONSE_BYTES;
    decompress(&message, encoding, limit, &mut |_| true)
        .map_err(|error| malformed(error.to_string()))
}

/// Takes the prefix off the one message of a response.
fn unframe(mut framed: Bytes) -> Result<(bool, Bytes), String> {
    let Some((prefix, _)) = framed.split_first_chunk::<5>() else {
        return Err("the response ends inside its message prefix".to_owned());
    };
    let [flag, length @ ..] = *prefix;
    let length = u32::from_be_bytes(length) as usize;
    let message = framed.split_off(5);
    match (flag, message.len() == length) {
        (0 | 1, true) => Ok((flag == 1, message)),
        _ => Err("a unary response must hold exactly one whole message".to_owned()),
    }
}

/// Finds `RetryInfo.retry_delay` in `grpc-status-details-bin`.
fn retry_delay(details: &str) -> Option<Duration> {
    let trimmed = details.trim_end_matches('=');
    let status = STANDARD_NO_PAD
        .decode(trimmed)
        .or_else(|_| STANDARD.decode(details))
        .ok()?;
    let inner = |message: &[u8], number: u32| -> Vec<Vec<u8>> {
        let fields = Fields::of(message).filter_map(Result::ok);
        let matching = fields.filter(|field| field.number == number);
        matching
            .filter_map(|f| {
                if let Value::Bytes(b) = f.value {
                    Some(b.to_vec())
                } else {
                    None
                }
            })
            .collect()
    };
    for any in inner(&status, 3) {
        let is_retry_info = inner(&any, 1)
            .iter()
            .any(|url| url.ends_with(b"google.rpc.RetryInfo"));
        let info = inner(&any, 2).into_iter().next().filter(|_| is_retry_info);
        let Some(delay) = info.and_then(|info| inner(&info, 1).into_iter().next()) else {
            continue;
        };
        let number = |wanted| {
            let found = Fields::of(&delay)
                .filter_map(Result::ok)
                .find(|f| f.number == wanted);
            found.and_then(|f| {
                if let Value::Varint(n) = f.value {
                    Some(n)
                } else {
                    None
                }
            })
        };
        // Both are signed; a delay that is negative asks for none.
        let seconds = u32::try_from(number(1).unwrap_or(0)).ok();
        let nanoseconds = u32::try_from(number(2).unwrap_or(0)).ok();
        let (seconds, nanoseconds) = seconds.zip(nanoseconds)?;
        return Some(Duration::new(
            u64::from(seconds),
            nanoseconds.min(999_999_999),
        ));
    }
    None
}

fn percent_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

fn percent_decode(text: &str) -> String {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = match rest {
            [b'%', high, low, ..] => digit(*high).zip(digit(*low)),
            _ => None,
        };
        match escaped {
            Some((high, low)) => {
                out.push((high << 4 | low) as u8);
                rest = &tail[2..];
            }
            None => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retry_delay_survives_the_header() {
        let after = Duration::from_millis(1500);
        let status = Status {
            retry_after: Some(after),
            ..Status::new(Code::Unavailable, "full")
        };
        let trailers = trailers(&Err(status));
        let details = trailers["grpc-status-details-bin"].to_str().unwrap();
        assert_eq!(retry_delay(details), Some(after));
        let second = |seconds: i64, nanoseconds: i64| {
            let (mut delay, mut info, mut any, mut status) = (vec![], vec![], vec![], vec![]);
            wire::write_varint_field(&mut delay, 1, seconds as u64);
            wire::write_varint_field(&mut delay, 2, nanoseconds as u64);
            wire::write_bytes(&mut info, 1, &delay);
            wire::write_bytes(&mut any, 1, b"type.googleapis.com/google.rpc.RetryInfo");
            wire::write_bytes(&mut any, 2, &info);
            wire::write_bytes(&mut status, 3, &any);
            retry_delay(&STANDARD_NO_PAD.encode(status))
        };
        assert_eq!(second(7, 5), Some(Duration::new(7, 5)));
        for (seconds, nanoseconds) in [(-1, 0), (0, -1), (i64::MAX, 0)] {
            assert_eq!(second(seconds, nanoseconds), None);
        }
        assert_eq!(retry_delay("!"), None);
        assert_eq!(retry_delay(""), None);
    }

    #[test]
    fn messages_are_percent_encoded() {
        let text = "50 % of “it”\n";
        assert_eq!(percent_encode("a%\n"), "a%25%0A");
        assert_eq!(percent_decode(&percent_encode(text)), text);
        assert_eq!(percent_decode("%zz%"), "%zz%");
        assert_eq!(percent_decode("%+5%4a%4A"), "%+5JJ");
    }

    #[test]
    fn a_response_is_one_whole_message() {
        let framed = Bytes::from_static(b"\0\0\0\0\x03abc");
        let whole = unframe(framed.clone());
        assert_eq!(whole, Ok((false, Bytes::from_static(b"abc"))));
        assert!(unframe(framed.slice(..7)).is_err());
        assert!(unframe(framed.slice(..3)).is_err());
        assert!(unframe(Bytes::from_static(&[9, 0, 0, 0, 0])).is_err());
    }
}
