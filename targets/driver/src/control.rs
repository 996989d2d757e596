//! The out-of-band control channel between a controller and the processes it started.
//!
//! An inherited Unix stream socket that carries frames (a little-endian `u32` length, then
//! postcard), so that no fault on the network ever hides an observation. A node speaks
//! [`Report`] and hears [`Order`]; a client host speaks and hears the types of
//! [`client_host`](crate::client_host).

use std::io::Read;
use std::net::SocketAddr;
use std::time::Duration;

use duress_machine::{NodeId, Observation, Status};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

pub use crate::frame::{FrameError, Reader};

/// The longest frame on a control channel, in bytes. A set's final read of a long run is the
/// largest thing that passes.
pub const MAX_FRAME: usize = 16 << 20;

/// What a node tells its controller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// It has recovered, listens to its peers and answers HTTP.
    Ready,
    /// It says something of itself.
    Observation(Observation),
    /// Its state at a moment: after each change, every 200 ms, and when asked.
    Status {
        /// The state.
        status: Status,
        /// Its wall clock at that moment: time since the Unix epoch.
        wall: Duration,
        /// Its monotonic clock at that moment: time since the machine was booted.
        monotonic: Duration,
    },
    /// It asks for another node to be shut off. Answer with [`Order::Fenced`] once that is so.
    Fence {
        /// The node to shut off.
        node: NodeId,
    },
}

/// What a controller tells a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// The node has been shut off and was seen dead.
    Fenced {
        /// The node that is off.
        node: NodeId,
    },
    /// A node has come back under other addresses.
    Moved {
        /// Which node.
        node: NodeId,
        /// Where the nodes reach it.
        peer: SocketAddr,
        /// Where it answers HTTP.
        http: SocketAddr,
    },
    /// Send a [`Report::Status`].
    GetStatus,
    /// End in an orderly way.
    Shutdown,
}

/// One frame, header included, ready to be written to a stream.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, FrameError> {
    let mut frame = Vec::new();
    encode_into(value, &mut frame)?;
    Ok(frame)
}

/// Appends one frame to `buffer`, which is left as it was on an error.
pub fn encode_into<T: Serialize>(value: &T, buffer: &mut Vec<u8>) -> Result<(), FrameError> {
    crate::frame::push(value, MAX_FRAME, buffer)
}

/// A frame's payload (without its length), read.
pub fn decode<T: DeserializeOwned>(payload: &[u8]) -> Result<T, FrameError> {
    Ok(postcard::from_bytes(payload)?)
}

/// Reads the frames of an asynchronous stream.
pub fn reader<S: AsyncRead + Unpin>(stream: S) -> Reader<S> {
    Reader::new(stream, MAX_FRAME)
}

/// Writes one frame to an asynchronous stream. Not cancel-safe.
pub async fn write<S: AsyncWrite + Unpin, T: Serialize>(stream: &mut S, value: &T) -> Result<(), FrameError> {
    stream.write_all(&encode(value)?).await?;
    Ok(())
}

/// Reads one frame from a blocking stream; nothing at its orderly end.
pub fn read_blocking<T: DeserializeOwned>(stream: &mut impl Read) -> Result<Option<T>, FrameError> {
    let mut header = [0; 4];
    let mut filled = 0;
    while filled < header.len() {
        match stream.read(&mut header[filled..]) {
            Ok(0) if filled == 0 => return Ok(None),
            Ok(0) => return Err(FrameError::Cut),
            Ok(n) => filled += n,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    let length = u32::from_le_bytes(header) as usize;
    if length > MAX_FRAME {
        return Err(FrameError::TooLong { length, limit: MAX_FRAME });
    }
    let mut payload = Vec::new();
    if stream.take(length as u64).read_to_end(&mut payload)? < length {
        return Err(FrameError::Cut);
    }
    decode(&payload).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use duress_machine::Role;

    #[test]
    fn blocking_and_buffered_readers_agree() {
        let reports = [
            Report::Ready,
            Report::Fence { node: NodeId(3) },
            Report::Observation(Observation::Committed { index: 64, digest: u64::MAX }),
            Report::Status {
                status: Status { role: Role::Leader, term: 7, leader: Some(NodeId(0)), commit_index: 9, digest: 1 },
                wall: Duration::new(1_700_000_000, 1),
                monotonic: Duration::from_millis(5),
            },
        ];
        let bytes: Vec<u8> = reports.iter().flat_map(|report| encode(report).unwrap()).collect();
        let mut blocking = &bytes[..];
        let mut buffered = reader(&bytes[..]);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for report in &reports {
            assert_eq!(read_blocking::<Report>(&mut blocking).unwrap().as_ref(), Some(report));
            assert_eq!(runtime.block_on(buffered.next::<Report>()).unwrap().as_ref(), Some(report));
        }
        assert!(read_blocking::<Report>(&mut blocking).unwrap().is_none());
        assert!(matches!(read_blocking::<Report>(&mut &bytes[..3]), Err(FrameError::Cut)));
        assert!(matches!(read_blocking::<Order>(&mut &bytes[..1]), Err(FrameError::Cut)));
    }
}
