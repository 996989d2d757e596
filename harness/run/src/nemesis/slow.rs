//! A slow host: its process is stopped and goes on again in every slice of time, so that it runs
//! for a share of the time only, and for no longer at a stretch. (A CPU quota by control groups
//! does the same, but only few machines let a user have one.)

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use duress_deploy::{Process, ProcessState};
use duress_fault::{SLICE, Share};
use duress_history::Host;

use crate::cluster::Cluster;

/// How often the state of a process is looked at when its share is measured.
const LOOK: Duration = Duration::from_millis(1);
/// For how many slices it is.
const SLICES: u32 = 3;

/// A host that is being slowed. Dropping it lets the host run freely.
pub(super) struct Slow {
    /// In parts per million.
    share: Arc<AtomicU32>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Slow {
    /// Begins to slow a host; the process that it has at each moment is meant.
    pub(super) fn start(cluster: Arc<Cluster>, host: Host, share: Share) -> std::io::Result<Slow> {
        let (parts, over) = (Arc::new(AtomicU32::new(share.parts())), Arc::new(AtomicBool::new(false)));
        let theirs = (parts.clone(), over.clone());
        let work = move || {
            let began = Instant::now();
            let doze = |asleep| {
                let done =
                    cluster.with_process(&host, |process| process.map_or(Ok(()), |process| process.doze(asleep)));
                if let Err(error) = done {
                    tracing::warn!(%host, "can't slow it: {error}");
                }
            };
            let mut slice = 0;
            while !theirs.1.load(Ordering::Relaxed) {
                let awake = SLICE.mul_f64(Share::ppm(theirs.0.load(Ordering::Relaxed)).of_one());
                let sleep_until = |at: Duration| thread::sleep(at.saturating_sub(began.elapsed()));
                doze(false);
                sleep_until(SLICE * slice + awake);
                if awake < SLICE {
                    doze(true);
                }
                slice += 1;
                sleep_until(SLICE * slice);
                // Whoever was late doesn't make up for it by shorter slices.
                slice = slice.max((began.elapsed().as_nanos() / SLICE.as_nanos()) as u32);
            }
            doze(false);
        };
        let thread = thread::Builder::new().name("slow".into()).spawn(work)?;
        Ok(Slow { share: parts, over, thread: Some(thread) })
    }

    pub(super) fn set(&self, share: Share) {
        self.share.store(share.parts(), Ordering::Relaxed);
    }

    /// Lets the host run freely; when this returns it does.
    pub(super) fn stop(mut self) {
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

/// What was seen of a process for a while.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watched {
    /// The share of the moments in which it was stopped.
    pub(super) stopped: f64,
    /// The share of one processor's time that it used.
    pub(super) used: f64,
}

/// Looks at the processes of hosts for some slices; blocks.
pub(super) fn watch(cluster: &Cluster, hosts: &[Host]) -> Vec<Watched> {
    let used = |host: &Host| {
        cluster.with_process(host, |process| process.map_or(Duration::ZERO, |process| process.cpu_time()))
    };
    let state =
        |host: &Host| cluster.with_process(host, |process| process.map(|process: &mut Process| process.state()));
    let (began, before) = (Instant::now(), hosts.iter().map(used).collect::<Vec<_>>());
    let (mut looks, mut stopped) = (0_u32, vec![0_u32; hosts.len()]);
    while began.elapsed() < SLICE * SLICES {
        looks += 1;
        for (host, stopped) in hosts.iter().zip(&mut stopped) {
            *stopped += u32::from(state(host) == Some(ProcessState::Stopped));
        }
        thread::sleep(LOOK);
    }
    let elapsed = began.elapsed().as_secs_f64();
    let watched = |((host, before), stopped): ((&Host, Duration), u32)| Watched {
        stopped: f64::from(stopped) / f64::from(looks),
        used: used(host).saturating_sub(before).as_secs_f64() / elapsed,
    };
    hosts.iter().zip(before).zip(stopped).map(watched).collect()
}

impl Watched {
    /// Whether that is what is to be seen of a process that runs for this share of the time. On a
    /// busy machine the bounds between running and stopped are blurred, and the looks uneven.
    pub(super) fn fits(&self, share: Share) -> bool {
        let asleep = 1.0 - share.of_one();
        self.stopped >= asleep * 0.6 && self.stopped <= asleep + 0.25 && (share == Share::ALL || self.stopped < 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_watched_is_compared_with_what_is_claimed() {
        let fits = |stopped, percent| Watched { stopped, used: 0.0 }.fits(Share::percent(percent));
        assert!(fits(0.9, 10) && fits(0.8, 10) && fits(0.99, 10));
        assert!(!fits(0.0, 10) && !fits(0.4, 10) && !fits(1.0, 10), "not slowed, or not running at all");
        assert!(fits(0.5, 50) && !fits(0.9, 50));
        assert!(fits(0.0, 100) && fits(0.01, 100) && !fits(0.5, 100), "free again");
    }
}
