//! Frames on a control channel: a length (u32, little-endian) and that many bytes.

use std::io;
use std::os::unix::net::UnixStream as StdStream;

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader, ReadHalf, WriteHalf};
use tokio::net::UnixStream;
use tokio::sync::mpsc;

/// No frame may be longer.
const MAX_FRAME: usize = 16 << 20;

/// The sending side of a control channel; frames queue up while the other side is paused.
#[derive(Clone, Debug)]
pub(crate) struct Sender(mpsc::UnboundedSender<Vec<u8>>);

impl Sender {
    /// Queues a frame; if the other side is gone, it is dropped.
    pub(crate) fn send(&self, frame: Vec<u8>) {
        let _ = self.0.send(frame);
    }
}

/// The receiving side of a control channel.
#[derive(Debug)]
pub(crate) struct Receiver(BufReader<ReadHalf<UnixStream>>);

impl Receiver {
    /// The next frame; `None` when the other side is gone.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        let length = match self.0.read_u32_le().await {
            Ok(length) => length as usize,
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
            Err(e) => return Err(e),
        };
        if length > MAX_FRAME {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a control frame of {length} bytes")));
        }
        let mut frame = vec![0; length];
        match self.0.read_exact(&mut frame).await {
            Ok(_) => Ok(Some(frame)),
            // Killed in the middle of a frame.
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(e) => Err(e),
        }
    }
}

/// Opens a control channel on a connected socket.
pub(crate) fn open(socket: StdStream) -> io::Result<(Sender, Receiver)> {
    socket.set_nonblocking(true)?;
    let (read, write) = tokio::io::split(UnixStream::from_std(socket)?);
    let (sender, queue) = mpsc::unbounded_channel();
    tokio::spawn(write_frames(queue, write));
    Ok((Sender(sender), Receiver(BufReader::with_capacity(64 << 10, read))))
}

async fn write_frames(mut queue: mpsc::UnboundedReceiver<Vec<u8>>, mut to: WriteHalf<UnixStream>) {
    let mut buffer = Vec::new();
    while let Some(frame) = queue.recv().await {
        buffer.clear();
        push(&mut buffer, &frame);
        while buffer.len() < 64 << 10 {
            let Ok(frame) = queue.try_recv() else { break };
            push(&mut buffer, &frame);
        }
        if to.write_all(&buffer).await.is_err() {
            // The process is gone; its death is noticed elsewhere.
            return;
        }
    }
}

fn push(buffer: &mut Vec<u8>, frame: &[u8]) {
    // Our own frames are operations of bounded size.
    buffer.extend_from_slice(&(frame.len() as u32).to_le_bytes());
    buffer.extend_from_slice(frame);
}
