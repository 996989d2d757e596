//! A slowed process: it is stopped and goes on again in every slice of time, so that it runs for a
//! share of the time only, and for no longer at a stretch. (A CPU quota by control groups does the
//! same, but only few machines let a user have one.)

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use duress_backend::{ProcessState, Slowness, Watched};

use super::process::{Held, Process, lock};
use crate::DeployError;

/// How often the state of a process is looked at when it is watched.
const LOOK: Duration = Duration::from_millis(1);
/// All of a slice, in parts per million.
const ALL: u32 = 1_000_000;

/// Somebody who slows a process. Dropping it lets the process run freely a little later.
#[derive(Debug)]
pub(super) struct Slow {
    /// In parts per million.
    share: Arc<AtomicU32>,
    slice: Duration,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Slow {
    fn start(process: Arc<Held>, Slowness { share, slice }: Slowness) -> io::Result<Slow> {
        let (parts, over) = (Arc::new(AtomicU32::new(share)), Arc::new(AtomicBool::new(false)));
        let theirs = (parts.clone(), over.clone());
        let work = move || {
            let began = Instant::now();
            let doze = |asleep| {
                if let Err(error) = process.doze(asleep) {
                    tracing::warn!(host = process.host, "can't slow it: {error}");
                }
            };
            let mut number = 0;
            while !theirs.1.load(Ordering::Relaxed) {
                let awake = slice.mul_f64(f64::from(theirs.0.load(Ordering::Relaxed).min(ALL)) / f64::from(ALL));
                let sleep_until = |at: Duration| thread::sleep(at.saturating_sub(began.elapsed()));
                doze(false);
                sleep_until(slice * number + awake);
                if awake < slice {
                    doze(true);
                }
                number += 1;
                sleep_until(slice * number);
                // Whoever was late doesn't make up for it by shorter slices.
                number = number.max((began.elapsed().as_nanos() / slice.as_nanos().max(1)) as u32);
            }
            doze(false);
        };
        let thread = thread::Builder::new().name("slow".into()).spawn(work)?;
        Ok(Slow { share: parts, slice, over, thread: Some(thread) })
    }

    /// Lets the process run freely; when this returns it does.
    fn stop(mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It does nothing that can panic.
            let _ = thread.join();
        }
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

impl Process {
    /// Lets it run for a share of the time only, until told otherwise; `None` lets it run freely, and
    /// returns when it does. One that is [paused](Process::pause) stays so.
    ///
    /// # Errors
    /// If no thread can be had for it.
    pub fn slow(&self, slowness: Option<Slowness>) -> Result<(), DeployError> {
        let mut slow = lock(&self.slow);
        match (slow.as_ref(), slowness) {
            (Some(slow), Some(Slowness { share, slice })) if slow.slice == slice => {
                slow.share.store(share, Ordering::Relaxed);
            }
            (_, slowness) => {
                if let Some(slow) = slow.take() {
                    slow.stop();
                }
                let started = slowness.map(|slowness| Slow::start(self.held.clone(), slowness)).transpose();
                *slow = started.map_err(|e| DeployError::kernel("start a thread", e))?;
            }
        }
        Ok(())
    }

    /// Looks at it for so long; blocks.
    pub fn watch(&self, duration: Duration) -> Watched {
        let (began, before) = (Instant::now(), self.cpu_time());
        let (mut looks, mut stopped) = (0_u32, 0_u32);
        while began.elapsed() < duration {
            looks += 1;
            stopped += u32::from(self.state() == ProcessState::Stopped);
            thread::sleep(LOOK);
        }
        Watched {
            stopped: f64::from(stopped) / f64::from(looks.max(1)),
            used: self.cpu_time().saturating_sub(before).as_secs_f64() / began.elapsed().as_secs_f64(),
        }
    }
}
