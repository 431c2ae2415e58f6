//! Frames: a big-endian `u32` length, then that many bytes of one prost message.
//!
//! Goes in: messages or a byte stream. Comes out: the other. Invariant: nothing is allocated for
//! a frame before its length was found to be within [`MAX_FRAME_BYTES`].

use std::io::{self, Read, Write};

use prost::Message;

/// The largest frame either side accepts; contents travel in chunks far smaller than this.
pub const MAX_FRAME_BYTES: u32 = 64 * 1024 * 1024;

/// The size of one piece of a content, before it is framed.
pub const CHUNK_BYTES: usize = 256 * 1024;

/// Why a frame could not be read.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The stream ended or failed.
    #[error("the connection ended: {0}")]
    Io(#[from] io::Error),
    /// The length is over [`MAX_FRAME_BYTES`], which also happens when something else prints into
    /// the conversation.
    #[error("a frame of {0} bytes is over the limit of {MAX_FRAME_BYTES}")]
    TooLarge(u32),
    /// The bytes are no message of the expected type.
    #[error("a frame does not decode: {0}")]
    Decode(#[from] prost::DecodeError),
}

/// The frame of one message, ready to be written.
///
/// # Errors
/// [`FrameError::TooLarge`] when the message is over the limit.
pub fn encode<M: Message>(message: &M) -> Result<Vec<u8>, FrameError> {
    let length = check_length(u32::try_from(message.encoded_len()).unwrap_or(u32::MAX))?;
    let mut frame = Vec::with_capacity(length as usize + 4);
    frame.extend_from_slice(&length.to_be_bytes());
    // A Vec grows as needed, so encoding into it cannot fail.
    message.encode_raw(&mut frame);
    Ok(frame)
}

/// The length that a frame's header announces.
///
/// # Errors
/// [`FrameError::TooLarge`] when it is over the limit.
pub fn check_length(length: u32) -> Result<u32, FrameError> {
    if length > MAX_FRAME_BYTES {
        Err(FrameError::TooLarge(length))
    } else {
        Ok(length)
    }
}

/// Reads one message from a blocking stream; `None` when the stream ended between two frames.
///
/// # Errors
/// See [`FrameError`]; a stream that ends inside a frame is an `UnexpectedEof`.
pub fn read<M: Message + Default>(stream: &mut impl Read) -> Result<Option<M>, FrameError> {
    let mut header = [0u8; 4];
    let mut have = 0;
    while have < header.len() {
        match stream.read(&mut header[have..]) {
            Ok(0) if have == 0 => return Ok(None),
            Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            Ok(n) => have += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    let length = check_length(u32::from_be_bytes(header))?;
    let mut body = vec![0u8; length as usize];
    stream.read_exact(&mut body)?;
    Ok(Some(M::decode(body.as_slice())?))
}

/// Writes one message to a blocking stream and flushes it.
///
/// # Errors
/// See [`FrameError`].
pub fn write<M: Message>(stream: &mut impl Write, message: &M) -> Result<(), FrameError> {
    stream.write_all(&encode(message)?)?;
    stream.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{FromHost, Hello, from_host};

    #[test]
    fn a_message_survives_its_frame() {
        let hello = FromHost {
            body: Some(from_host::Body::Hello(Hello {
                host_name: "a".into(),
                ..Hello::default()
            })),
        };
        let mut stream = Vec::new();
        write(&mut stream, &hello).unwrap();
        let mut reader = stream.as_slice();
        assert_eq!(read::<FromHost>(&mut reader).unwrap(), Some(hello));
        assert_eq!(read::<FromHost>(&mut reader).unwrap(), None);
    }

    #[test]
    fn refuses_a_length_over_the_limit_before_allocating() {
        let mut stream: &[u8] = &[0xff, 0xff, 0xff, 0xff, 0];
        assert!(matches!(
            read::<FromHost>(&mut stream),
            Err(FrameError::TooLarge(u32::MAX))
        ));
    }

    #[test]
    fn a_stream_that_ends_inside_a_frame_is_an_error() {
        let mut stream: &[u8] = &[0, 0, 0, 9, 1, 2];
        assert!(matches!(
            read::<FromHost>(&mut stream),
            Err(FrameError::Io(_))
        ));
    }
}
