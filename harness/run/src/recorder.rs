//! The one clock and the one order of a run's events.

use std::io::{self, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use duress_history::{Event, EventKind, Time, jsonl};

/// Records events in the order in which they happen and streams them to a file.
///
/// An event's time is taken under the lock that also orders it, so that the file's order is the
/// order of times. A thread of its own writes: a slow disk delays neither clients nor faults.
#[derive(Clone, Debug)]
pub struct Recorder {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    started: Instant,
    line: Mutex<Option<Sender<Event>>>,
    writer: Mutex<Option<JoinHandle<io::Result<()>>>>,
}

impl Recorder {
    /// Starts a history in a new file.
    ///
    /// # Errors
    /// When the file exists or can't be made.
    pub fn create(path: &Path) -> io::Result<Recorder> {
        let file = std::fs::File::create_new(path)?;
        let (sender, receiver) = channel();
        let writer = std::thread::Builder::new().name("recorder".into()).spawn(move || write_all(receiver, file))?;
        Ok(Recorder {
            shared: Arc::new(Shared {
                started: Instant::now(),
                line: Mutex::new(Some(sender)),
                writer: Mutex::new(Some(writer)),
            }),
        })
    }

    /// The time since the run began.
    pub fn now(&self) -> Time {
        Time::from(self.shared.started.elapsed())
    }

    /// The moment that the history's times count from.
    pub fn started(&self) -> Instant {
        self.shared.started
    }

    /// Records an event as happening now. After [`finish`](Recorder::finish) it is dropped.
    pub fn record(&self, kind: EventKind) -> Time {
        let line = self.shared.line.lock().unwrap_or_else(PoisonError::into_inner);
        let time = self.now();
        if let Some(sender) = &*line {
            // A writer that is gone has met an error, which `finish` reports.
            let _ = sender.send(Event { time, kind });
        }
        time
    }

    /// Waits until everything is in the file.
    ///
    /// # Errors
    /// When some of it could not be written.
    pub fn finish(&self) -> io::Result<()> {
        self.shared.line.lock().unwrap_or_else(PoisonError::into_inner).take();
        let writer = self.shared.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        match writer.map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(io::Error::other("the history's writer panicked")),
            None => Ok(()),
        }
    }
}

/// Writes events as they come; whatever has come while the last write went on goes out in one.
fn write_all(events: Receiver<Event>, mut file: std::fs::File) -> io::Result<()> {
    let mut buffer = Vec::new();
    while let Ok(first) = events.recv() {
        buffer.clear();
        jsonl::write(&first, &mut buffer)?;
        for event in events.try_iter().take(1000) {
            jsonl::write(&event, &mut buffer)?;
        }
        file.write_all(&buffer)?;
    }
    Ok(())
}
