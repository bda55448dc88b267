//! Messages on the wire: a 4-byte little-endian length, then JSON.

use serde::{Deserialize, Serialize};

/// Longest message in bytes, without its length.
pub const MESSAGE_MAX: usize = 64 << 10;
/// The message with its length in front.
///
/// # Errors
/// It is longer than [`MESSAGE_MAX`].
pub fn encode<T: Serialize>(message: &T) -> std::io::Result<Vec<u8>> {
    let body = serde_json::to_vec(message)?;
    let too_long =
        || std::io::Error::new(std::io::ErrorKind::InvalidInput, "the message is too long");
    let length = u32::try_from(body.len()).map_err(|_| too_long())?;
    if body.len() > MESSAGE_MAX {
        return Err(too_long());
    }
    let mut frame = length.to_le_bytes().to_vec();
    frame.extend(body);
    Ok(frame)
}

/// Takes the first whole message out of `buffer`, which holds what was received so far.
///
/// # Errors
/// The peer announced too long a message or sent something else than one: close the connection.
pub fn decode<T: for<'a> Deserialize<'a>>(buffer: &mut Vec<u8>) -> std::io::Result<Option<T>> {
    let Some((length, rest)) = buffer.split_first_chunk::<4>() else {
        return Ok(None);
    };
    let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
    if length > MESSAGE_MAX {
        let problem =
            format!("a message of {length} bytes was announced, at most {MESSAGE_MAX} are allowed");
        return Err(std::io::Error::new(
            std::io::ErrorKind::InvalidData,
            problem,
        ));
    }
    let Some(body) = rest.get(..length) else {
        return Ok(None);
    };
    let message = serde_json::from_slice(body)?;
    buffer.drain(..4 + length);
    Ok(Some(message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Action, Request};

    #[test]
    fn messages_survive_any_fragmentation() {
        let requests = [
            Request {
                id: 1,
                action: Action::Status,
            },
            Request {
                id: 2,
                action: Action::ConsoleInput {
                    bytes: vec![0, 255, 10],
                },
            },
            Request {
                id: 3,
                action: Action::Subscribe {
                    console_output: true,
                },
            },
        ];
        let stream: Vec<u8> = requests
            .iter()
            .flat_map(|request| encode(request).expect("short"))
            .collect();
        for piece in [1, 3, 7, stream.len()] {
            let (mut buffer, mut received) = (Vec::new(), Vec::new());
            for part in stream.chunks(piece) {
                buffer.extend_from_slice(part);
                while let Some(request) = decode::<Request>(&mut buffer).expect("well-formed") {
                    received.push(request);
                }
            }
            assert_eq!(received, requests);
        }
    }

    #[test]
    fn what_is_not_a_message_is_an_error() {
        let mut endless = u32::MAX.to_le_bytes().to_vec();
        assert!(decode::<Request>(&mut endless).is_err());
        let mut garbage = [&3_u32.to_le_bytes()[..], b"{x}"].concat();
        assert!(decode::<Request>(&mut garbage).is_err());
    }
}
