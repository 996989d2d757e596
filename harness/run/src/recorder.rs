//! The one clock and the one order of a run's events.

use std::io::{self, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use duress_history::{Event, EventKind, Time, jsonl};
use tokio::sync::watch;

/// Looks at every event of a run as it is recorded, and says whether it has seen enough for the main
/// phase to end. It is called on a thread of its own.
pub type Onlooker = Box<dyn FnMut(&Event) -> bool + Send>;

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
    /// Whether the onlooker has seen enough.
    enough: watch::Receiver<bool>,
    writer: Mutex<Option<JoinHandle<io::Result<()>>>>,
}

impl Recorder {
    /// Starts a history in a new file, which somebody may look on.
    ///
    /// # Errors
    /// When the file exists or can't be made.
    pub fn create(path: &Path, onlooker: Option<Onlooker>) -> io::Result<Recorder> {
        let file = std::fs::File::create_new(path)?;
        let (sender, receiver) = channel();
        let (seen, enough) = watch::channel(false);
        let writer = std::thread::Builder::new()
            .name("recorder".into())
            .spawn(move || write_all(receiver, file, onlooker, &seen))?;
        Ok(Recorder {
            shared: Arc::new(Shared {
                started: Instant::now(),
                line: Mutex::new(Some(sender)),
                enough,
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

    /// Waits until the onlooker has seen enough; for ever if there is none.
    pub async fn seen_enough(&self) {
        let mut enough = self.shared.enough.clone();
        if enough.wait_for(|enough| *enough).await.is_err() {
            std::future::pending::<()>().await;
        }
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
fn write_all(
    events: Receiver<Event>,
    mut file: std::fs::File,
    mut onlooker: Option<Onlooker>,
    seen: &watch::Sender<bool>,
) -> io::Result<()> {
    let mut buffer = Vec::new();
    let mut show = |event: &Event| {
        if let Some(looks_on) = &mut onlooker
            && looks_on(event)
        {
            seen.send_replace(true);
            onlooker = None;
        }
    };
    while let Ok(first) = events.recv() {
        buffer.clear();
        jsonl::write(&first, &mut buffer)?;
        show(&first);
        for event in events.try_iter().take(1000) {
            jsonl::write(&event, &mut buffer)?;
            show(&event);
        }
        file.write_all(&buffer)?;
    }
    Ok(())
}
