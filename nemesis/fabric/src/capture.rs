//! Writing down what passes: a capture file with a comment wherever the fabric had a hand in it.
//!
//! The forwarding thread hands each frame, cut to [`SNAP_LENGTH`], to a bounded queue and never
//! waits; a thread of its own writes the file. Frames that find the queue full, or the file at its
//! limit, are counted and left out, and the last comment in the file says how many.

mod pcapng;

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::frame::OFFLOAD_HEADER;
pub use duress_backend::Captured;

use crate::links::add;

/// Bytes of a frame that are kept: any single packet, and the start of a large frame.
const SNAP_LENGTH: usize = 1600;
/// Frames that may wait to be written.
const QUEUE: usize = 4096;
/// Bytes of a comment that are kept.
const LONGEST_COMMENT: usize = 8 << 10;
/// Bytes after which a file gets no more frames.
const LONGEST_FILE: u64 = 1 << 30;

/// Which way a frame goes at an interface, seen from the host that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// The host has sent it.
    Sent,
    /// The host gets it.
    Received,
}

enum Entry {
    Frame { at: u64, port: usize, direction: Direction, length: usize, bytes: Box<[u8]>, comment: Cow<'static, str> },
    Note { at: u64, text: String },
    End,
}

#[derive(Debug, Default)]
struct Figures {
    frames: AtomicU64,
    /// For want of room in the queue; written by the forwarding thread.
    hurried: AtomicU64,
    /// For want of room in the file; written by the writing thread.
    beyond: AtomicU64,
}

/// Where frames are handed in.
pub(crate) struct Tap {
    queue: SyncSender<Entry>,
    figures: Arc<Figures>,
}

impl Tap {
    /// Notes a frame as the switch has it (offload header included), and what became of it. To be
    /// called by one thread only.
    pub(crate) fn frame(&self, port: usize, direction: Direction, frame: &[u8], comment: impl Into<Cow<'static, str>>) {
        let frame = frame.get(OFFLOAD_HEADER..).unwrap_or_default();
        let bytes = frame[..frame.len().min(SNAP_LENGTH)].into();
        let (at, length, comment) = (now(), frame.len(), comment.into());
        if self.queue.try_send(Entry::Frame { at, port, direction, length, bytes, comment }).is_err() {
            add(&self.figures.hurried, 1);
        }
    }

    /// Notes a change. Waits for room in the queue: these are few, and must not be missing.
    pub(crate) fn note(&self, text: &str) {
        // Nobody is there any more once the fabric has stopped.
        let _ = self.queue.send(Entry::Note { at: now(), text: text.to_owned() });
    }

    pub(crate) fn captured(&self) -> Captured {
        self.figures.captured()
    }
}

impl Figures {
    fn captured(&self) -> Captured {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Captured { frames: read(&self.frames), missed: read(&self.hurried) + read(&self.beyond) }
    }
}

/// The writing thread.
#[derive(Debug)]
pub(crate) struct Writer {
    queue: SyncSender<Entry>,
    thread: JoinHandle<()>,
}

impl Writer {
    /// Starts a capture of frames at these ports, in a new file at `path`.
    pub(crate) fn start(path: &Path, ports: &[String]) -> io::Result<(Writer, Tap)> {
        let mut file = BufWriter::with_capacity(1 << 18, File::create(path)?);
        file.write_all(&pcapng::start(ports, SNAP_LENGTH as u32))?;
        file.flush()?;
        let (queue, entries) = sync_channel(QUEUE);
        let figures = Arc::new(Figures::default());
        let tap = Tap { queue: queue.clone(), figures: Arc::clone(&figures) };
        let thread = std::thread::Builder::new().name("capture".to_owned()).spawn({
            let ports = ports.len();
            move || {
                if let Err(error) = write(file, &entries, &figures, ports) {
                    tracing::error!(%error, "the capture can't be written and ends");
                }
            }
        })?;
        Ok((Writer { queue, thread }, tap))
    }

    /// Writes what is in the queue, and ends.
    pub(crate) fn finish(self) {
        // If nobody takes it, the thread has ended already.
        let _ = self.queue.send(Entry::End);
        if self.thread.join().is_err() {
            tracing::error!("the capture's thread had panicked");
        }
    }
}

fn write(mut file: BufWriter<File>, entries: &Receiver<Entry>, figures: &Figures, ports: usize) -> io::Result<()> {
    let mut block = Vec::new();
    let mut written = 0;
    loop {
        let entry = match entries.try_recv() {
            Ok(entry) => Some(entry),
            // What is known is in the file while nothing happens.
            Err(TryRecvError::Empty) => {
                file.flush()?;
                entries.recv().ok()
            }
            Err(TryRecvError::Disconnected) => None,
        };
        block.clear();
        match entry {
            Some(Entry::Frame { .. }) if written > LONGEST_FILE => add(&figures.beyond, 1),
            Some(Entry::Frame { at, port, direction, length, bytes, comment }) => {
                pcapng::packet(&mut block, port as u32, at, direction, length, &bytes, shorten(&comment));
                add(&figures.frames, 1);
            }
            Some(Entry::Note { at, text }) => pcapng::note(&mut block, ports as u32, at, shorten(&text)),
            Some(Entry::End) | None => {
                let Captured { frames, missed } = figures.captured();
                let text = format!("end of the capture: {frames} frames, and {missed} more that are not in it");
                pcapng::note(&mut block, ports as u32, now(), &text);
                if missed > 0 {
                    tracing::warn!(frames, missed, "not every frame is in the capture");
                }
                file.write_all(&block)?;
                return file.flush();
            }
        }
        file.write_all(&block)?;
        written += block.len() as u64;
    }
}

/// The start of a text that is too long.
fn shorten(text: &str) -> &str {
    let mut end = text.len().min(LONGEST_COMMENT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Nanoseconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writer_that_is_slow_holds_nobody_up_and_what_is_lost_is_counted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("capture.pcapng");
        let (writer, tap) = Writer::start(&path, &["a".to_owned()]).unwrap();
        let sent = 50 * QUEUE as u64;
        for _ in 0..sent {
            tap.frame(0, Direction::Sent, &[0; OFFLOAD_HEADER + 3000], "");
        }
        tap.note("the last word");
        writer.finish();
        let Captured { frames, missed } = tap.captured();
        assert_eq!(frames + missed, sent);
        assert!(frames > 0);
        let file = std::fs::read(&path).unwrap();
        assert!(file.len() as u64 > frames * SNAP_LENGTH as u64 && (file.len() as u64) < frames * 1700 + 10_000);
        let end = String::from_utf8_lossy(&file[file.len() - 600..]).into_owned();
        assert!(end.contains("the last word") && end.contains(&format!("{frames} frames, and {missed} more")), "{end}");
        tap.note("nobody hears this");
    }

    #[test]
    fn comments_are_shortened_between_characters() {
        assert_eq!(shorten("short"), "short");
        let long = "é".repeat(LONGEST_COMMENT);
        assert_eq!(shorten(&long).len(), LONGEST_COMMENT);
        let odd = format!("x{long}");
        assert_eq!(shorten(&odd).len(), LONGEST_COMMENT - 1);
    }
}
